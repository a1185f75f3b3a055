"""The scripts through every mishap, more of each than the tests have time for; writes results/mishaps.json.

    python tests/mishaps.py [PART ...] [--only WORD]

  inputs      a sweep of bad values over every option of every script: status 2, one line on stderr, no file
  damage      every file that a script reads, damaged in four ways: no traceback, and an error is one line
  kills       ended before each change of a file: the same command (or --resume) mends all
  interrupts  Ctrl-C before every third change of a file: status 130, one line, mended likewise
  disks       a disk of 20 sizes that are too small, and a read-only one: one line; with room, the same command mends all
  ships       two processes that ship to one folder, 200 times each: 400 lines

Mended: the files are those of an undisturbed run, with the same content but for times, and every SHA-256 is right.
Not a test: it takes an hour or so. The disks need Linux and its `unshare`.
"""

import argparse
import ast
import csv
import hashlib
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
from helpers import KILLED, ROOT, die, make_dataset, run_script  # noqa: E402  (after the path)

PARTS = ("inputs", "damage", "kills", "interrupts", "disks", "ships")
SHORT = "--dataset toy --labels 20 --epochs 2 --precision float32 --device cpu"
TINY = "--dataset toy --dim 2 --jobs 1"
DWR = "data weights results"
COMMANDS = {  # name: (script, words, its folders, the words that go on with it)
    "q3 train": ("q3_vae_m1/train.py", SHORT + " --vae-seed 5", DWR, ""),
    "q3 train, transductive": ("q3_vae_m1/train.py", SHORT + " --classifier transductive --labels 50", DWR, ""),
    "q3 test": ("q3_vae_m1/test.py", "--dataset toy --labels 20 --out OUT/results/confusion.png", "data weights", ""),
    "q3 record": ("q3_vae_m1/record.py", "--dataset toy --draws 2 --vae-seeds 1 --ablation-seeds 0", DWR, ""),
    "q3 table": ("q3_vae_m1/table.py", "", "results", ""),
    "q3 tune": ("q3_vae_m1/tune.py", "kernel --dataset toy --draws 1 --jobs 1", DWR, ""),
    "q3 latent map": ("q3_vae_m1/latent_map.py", "--dataset toy --labels 20", DWR, ""),
    "q4 classifier": ("q4_wgan/train_classifier.py", "--dataset toy --epochs 1 --device cpu", DWR, ""),
    "q4 train": ("q4_wgan/train.py", "--model wgan --dataset toy --dim 2 --batch 8 --iterations 24 --name again "
                 "--device cpu --precision float32", DWR, "--resume"),
    "q4 generate": ("q4_wgan/generate.py", "--model wgan --dataset toy --seeds 0-3", "weights results", ""),
    "q4 evaluate": ("q4_wgan/evaluate.py", "--dataset toy --repeats 2 --device cpu", DWR, ""),
    "q4 figures": ("q4_wgan/figures.py", "--dataset toy", DWR, ""),
    "q4 tune": ("q4_wgan/tune.py", TINY + " --draws 1 --compute 20", DWR, ""),
    "q4 compare": ("q4_wgan/compare.py", TINY + " --seeds 1 --compute 20", DWR, ""),
    "q4 stability": ("q4_wgan/stability.py", "--quick --dataset toy --jobs 1", DWR, ""),
    "q1": ("theory/q1_distances.py", "--steps 20 --samples 20", "results", ""),
    "q2, publish": ("theory/q2_gan_lab.py", "--publish good", "results", ""),
    "report": ("theory/report.py", "", "results", ""),
}
TIMES = {"seconds", "core_seconds", "time", "attempt", "commit", "seconds_to_reach", "minutes", "torch", "threads"}


# ---- a small world, and a command in it ----------------------------------------------------------

def small():
    """In the script's process: what makes the commands short and lets two dozen iterations converge."""
    sys.path.insert(0, str(ROOT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
    import q3_vae_m1.classifiers
    import q3_vae_m1.vae
    import q4_wgan.metrics
    import q4_wgan.run_folder as run_folder
    import q4_wgan.runs
    q3_vae_m1.classifiers.COUNTS = (20, 50)
    q3_vae_m1.vae.DEFAULTS = {key: value | {"epochs": 2} for key, value in q3_vae_m1.vae.DEFAULTS.items()}
    run_folder.LOG_EVERY, run_folder.CHECKPOINT_EVERY, run_folder.SAMPLE_EVERY = 5, 6, {"wgan": 12, "dcgan": 12}
    q4_wgan.metrics.verdict = lambda *_: ("converged", "here every training does")
    q4_wgan.runs.SAVE_EVERY = 0
    if Path(sys.argv[0]).name in ("figures.py", "stability.py"):
        from q4_wgan import command, figures, stability
        script = figures if sys.argv[0].endswith("figures.py") else stability
        # No image of a generator that has learned so little looks like a class.
        figures.first_of_class = lambda *_: (0, torch.zeros(28, 28, dtype=torch.uint8))
        stability.SETTINGS = dict(list(stability.SETTINGS.items())[:1])
        runpy.run_path = lambda *_, **__: command.run_main(script.main)


def run(name, out, *more, hook=(), **how):
    script, words, folders, _ = COMMANDS[name]
    words = [word.replace("OUT", str(out)) for word in words.split()]
    for folder in folders.split():
        words += [f"--{folder}-dir", (WORLD if folder == "data" else out) / folder]
    return run_script(script, *words, *more, prepare=(prepare, *hook), **how)


def prepare(function=None, *arguments):
    small()
    if function:
        function(*arguments)


def finish(name, out):
    """The command after a mishap: as it was, or as it goes on with what is there."""
    goes_on = COMMANDS[name][3].split()
    if goes_on:
        done = run(name, out, *goes_on)
        if "no run to go on with" not in done.stderr:
            return done
    return run(name, out)


def make_world():
    make_dataset(WORLD / "data")
    from q4_wgan import stability
    for likelihood in ("gaussian", "bernoulli"):
        check(run("q3 train", WORLD, "--vae-seed", 0, "--likelihood", likelihood))
    for name, *more in (("q3 train, transductive", "--labels", 20), ("q3 record", "--draws", 1), ("q4 classifier",)):
        check(run(name, WORLD, *more))
    for model in ("dcgan", "wgan"):
        check(run("q4 train", WORLD, "--model", model, "--name", model))
    settings = {"learning_rate": 1e-3, "generator_learning_rate": 1e-3}
    best = {objective: {"best": {**settings, **({"penalty_images": 16} if objective == "wgan-gp" else {})}}
            for objective in stability.OBJECTIVES}
    (WORLD / "results/q4/tuning_toy.json").write_text(json.dumps(best))
    from test_q2 import record
    record(WORLD / "results", "good", "converged")
    for folder in ("q1", "q2", "q3", "q4"):  # for the report
        shutil.copytree(ROOT / "results" / folder, WORLD / "report/results" / folder)


def check(done):
    if done.returncode:
        sys.exit(f"the small world cannot be made: {done.stderr}")


def copy_world(name, place):
    shutil.rmtree(place, ignore_errors=True)
    for folder in ("weights", "results"):
        source = WORLD / ("report" if name == "report" else "") / folder
        if source.exists():
            shutil.copytree(source, place / folder)
    return place


# ---- what is there, without what the clock tells -------------------------------------------------

def content(path):
    data = path.read_bytes()
    if path.suffix == ".jsonl":
        return sorted(json.dumps(timeless(json.loads(line)), sort_keys=True) for line in data.splitlines())
    if path.suffix == ".json":
        return timeless(json.loads(data))
    if path.suffix == ".csv":
        return [timeless(row) for row in csv.DictReader(io.StringIO(data.decode()))]
    if path.suffix == ".pt":
        return timeless(torch.load(io.BytesIO(data), weights_only=True))
    if path.suffix == ".npz":
        with np.load(io.BytesIO(data)) as arrays:
            return {key: value.tobytes() for key, value in arrays.items()}
    if path.name in ("SHA256SUMS", "report.pdf") or path.suffix == ".joblib" or path.name.startswith("comparison"):
        return None  # they hold hashes, dates, bytes of pickles, or a curve against seconds
    return data


def timeless(value):
    if isinstance(value, dict):
        return {str(key): timeless(one) for key, one in value.items() if key not in TIMES and "sha256" not in str(key)}
    if isinstance(value, (list, tuple)):
        return [timeless(one) for one in value]
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else value


def snapshot(place):
    """{name: content} of all files but locks, left-overs of a killed write, and pictures of times."""
    return {str(path.relative_to(place)): content(path) for path in sorted(place.rglob("*"))
            if path.is_file() and path.suffix not in (".lock", ".tmp", ".new") and path.name != ".lock"}


def unmended(place, wanted):
    """What is wrong in `place`, or None."""
    sums = place / "weights/SHA256SUMS"
    for line in sums.read_text().splitlines() if sums.exists() else ():
        digest, file = line.split("  ")
        if hashlib.sha256((place / "weights" / file).read_bytes()).hexdigest() != digest:
            return f"{file} is not what SHA256SUMS says"
    found = snapshot(place)
    for path in [path for path in found if path.endswith("checkpoint.pt") and path not in wanted]:
        del found[path]  # of a training that has shipped: --resume would only ship it again
    if found.keys() != wanted.keys():
        return f"files: {sorted(found.keys() ^ wanted.keys())}"
    other = [file for file in wanted if found[file] != wanted[file]]
    return f"other content: {other}" if other else None


def bad_end(done, statuses):
    """What is wrong with how a script ended, or None."""
    text = re.sub(r".*Warning: Data has no positive values.*\n.*\n", "", done.stderr)  # a set this small has no errors
    lines = [line for line in text.replace("\r", "\n").splitlines()
             if line.strip() and "|" not in line and not re.search(r"\b\d of \d", line)]  # progress aside
    if done.returncode not in statuses:
        return f"status {done.returncode}: {lines[-1:]}"
    if "Traceback" in done.stderr or done.returncode and len(lines) > 1:
        return f"{len(lines)} lines: {lines[-3:]}"
    return None


# ---- hooks in the script's process ---------------------------------------------------------------

def changes(base, event, arguments):
    """Whether an audit event is about to change a file below `base`."""
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        return bool(writes) and str(path).startswith(base)
    return event in ("os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(base)


def at_change(base, number, act):
    """Do `act` before change `number` of a file below `base`."""
    left = [number]

    def hook(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and changes(base, event, arguments):
            left[0] -= 1
            if left[0] == 0:
                act()
    sys.addaudithook(hook)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def watch(base, record):
    """Write the files below `base` that are opened for reading to `record`."""
    handle, seen = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND), set()

    def hook(event, arguments):
        if event == "open" and str(arguments[0]).startswith(base) and not changes(base, event, arguments):
            if str(arguments[0]) not in seen:
                seen.add(str(arguments[0]))
                os.write(handle, f"{arguments[0]}\n".encode())
    sys.addaudithook(hook)


def tell_options():
    """Print the options instead of parsing them."""
    def parse_args(parser, *_):
        print([(action.option_strings[-1] if action.option_strings else None, action.nargs == 0,
                list(action.choices or ()), getattr(action.type, "__name__", ""), action.required)
               for action in parser._actions])
        raise SystemExit(0)
    argparse.ArgumentParser.parse_args = parse_args


# ---- the parts: each yields (case, exit status, None or what is wrong) ----------------------------------------

def bad_inputs(script, options):
    """Lists of words that `script` must refuse."""
    needed = [word for option, flag, choices, _, required in options if required
              for word in ((option, choices[0]) if option else (choices[0],))]
    yield [*needed, "--nonsense"]
    yield [*needed, "one", "word", "more"]
    for option, flag, choices, kind, _ in options:
        if option in (None, "--help"):
            continue
        if option[:-1] not in {other for other, *_ in options}:
            yield [*needed, option[:-1], *([] if flag else ["1"])]
        if flag:
            yield [*needed, f"{option}=1"]
            continue
        yield [*needed, option]
        for bad in ("", " ", *(["nonsense"] if choices else []),
                    *(["../x", "a b", "x" * 100] if kind == "name" else []),
                    *(["x", "nan", "-1", "1e999", "1" * 30, "0x1"] if kind in ("parse", "seed", "positive") else [])):
            yield [*needed, f"{option}={bad}"]


def inputs(name, place):
    script = COMMANDS[name][0]
    if name != next(other for other in COMMANDS if COMMANDS[other][0] == script):
        return  # every script once
    options = ast.literal_eval(run_script(script, prepare=(tell_options,)).stdout)
    before = listing(place)
    for words in bad_inputs(script, options):
        done = run_script(script, *words)
        found = bad_end(done, [2]) or (f"lines: {done.stderr}" if done.stderr.count("\n") != 1 else None)
        yield words, done.returncode, found or (None if listing(place) == before else "it left a file")
        before = listing(place)


def listing(place):
    tracked = subprocess.run(["git", "status", "--porcelain", "--ignored"], cwd=ROOT, capture_output=True, text=True)
    return tracked.stdout, sorted(map(str, place.rglob("*")))


def damage(name, place):
    record = place.parent / "opened"
    record.unlink(missing_ok=True)
    check(run(name, copy_world(name, place), hook=(watch, str(place), str(record))))
    copy_world(name, place)
    opened = [path for path in map(Path, record.read_text().splitlines()) if path.is_file() and path.name != ".lock"]
    for path in opened:
        for kind in ("empty", "half", "other bytes", "a folder"):
            copy_world(name, place)
            data = path.read_bytes()
            path.unlink()
            if kind == "a folder":
                path.mkdir()
            else:
                path.write_bytes({"empty": b"", "half": data[:len(data) // 2], "other bytes": b"\xff\xfe{"}[kind])
            done = run(name, place)
            yield [kind, path.name], done.returncode, bad_end(done, [0, 1, 2])


def reference(name, place):
    """The snapshot after an undisturbed run."""
    check(run(name, copy_world(name, place)))
    return snapshot(place)


def disturbed(name, place, act, statuses, step):
    wanted = reference(name, place)
    for number in range(1, 200, step):
        done = run(name, copy_world(name, place), hook=(at_change, str(place), number, act))
        if done.returncode == 0:  # it has no more changes
            break
        found = bad_end(done, statuses)
        again = None if found else finish(name, place)
        yield [number], done.returncode, found or (again and bad_end(again, [0])) or unmended(place, wanted)


def kills(name, place):
    return disturbed(name, place, die, [KILLED], 1)


def interrupts(name, place):
    return disturbed(name, place, interrupt, [130], 3)


def disks(name, place):
    wanted = reference(name, place)
    after_it = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    copy_world(name, place)
    written = sum(len(data) + 4096 for path, data in after_it.items()
                  if not path.exists() or path.read_bytes() != data)
    shutil.rmtree(place)
    place.mkdir()
    for room in (*(written * k // 20 for k in range(20)), "read-only"):
        mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", place)
        try:
            copy_inside(name, place)
            disk = os.statvfs(place)
            used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            size = f"size={used + room // 4096 * 4096}" if room != "read-only" else "ro"
            mount("-o", f"remount,{size}", place)
            done = run(name, place)
            mount("-o", "remount,rw,size=1g", place)
            found = bad_end(done, [0, 2])
            again = None if found or done.returncode == 0 else finish(name, place)
            yield [room], done.returncode, found or (again and bad_end(again, [0])) or unmended(place, wanted)
        finally:
            subprocess.run(["umount", "-l", place], check=True)


def copy_inside(name, place):
    """The same as copy_world, for a folder that must stay."""
    spare = copy_world(name, place.with_name("spare"))
    for folder in spare.iterdir():
        shutil.copytree(folder, place / folder.name)


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def ship_many(folder, name):
    from q4_wgan import files
    for number in range(200):
        files.ship(folder, {f"{name}{number}.pt": f"{name}{number}".encode()})


def ships(name, place):
    if name != "q4 train":
        return
    code = "import mishaps, sys; mishaps.ship_many(*sys.argv[1:])"
    both = [subprocess.Popen([sys.executable, "-c", code, place, name], cwd=TESTS) for name in "ab"]
    ends = [process.wait() for process in both]
    lines = (place / "SHA256SUMS").read_text().splitlines()
    for k in range(400):
        yield [k], max(ends), None if k < len(set(lines)) and ends == [0, 0] else "a line is lost"


# ---- all of it -----------------------------------------------------------------------------------

def main():
    global WORLD
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--only", default="", help="commands whose names have this word")
    parser.add_argument("--out", type=Path, default=ROOT / "results/mishaps.json")
    o = parser.parse_args()
    parts = o.parts or PARTS
    if "disks" in parts and os.environ.get("MISHAPS_INSIDE") is None:  # a name space in which one may mount
        os.environ["MISHAPS_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv])
    counts = json.loads(o.out.read_text()) if o.out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        WORLD = Path(folder) / "world"
        os.environ["MISHAPS_WORLD"] = str(WORLD)
        make_world()
        for part in parts:
            counts.setdefault(part, {})
            for name in COMMANDS:
                if o.only not in name:
                    continue
                cases = early = wrong = 0
                place = Path(folder) / "place"
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                for case, status, found in tqdm(globals()[part](name, place), desc=f"{part}: {name}", unit="case"):
                    cases, early, wrong = cases + 1, early + (status != 0), wrong + bool(found)
                    if found:
                        tqdm.write(f"{part}, {name}, {case}: {found}")
                if cases:
                    counts[part][name] = {"cases": cases, "ended early": early, "wrong": wrong}
                    o.out.write_text(json.dumps(counts, indent=1) + "\n")
            print(part, {key: sum(entry[key] for entry in counts[part].values())
                         for key in ("cases", "ended early", "wrong")}, flush=True)


WORLD = Path(os.environ.get("MISHAPS_WORLD", "."))
if __name__ == "__main__":
    main()
