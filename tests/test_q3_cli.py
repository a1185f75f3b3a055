"""Question 3's command lines on a small data set: train, test, what ships, and what becomes of every mishap."""

import builtins
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import KILLED, ROOT, die, make_dataset, one_line, run_script

import q3_vae_m1
from q3_vae_m1 import classifiers, command, files, plots, vae
from q3_vae_m1 import test as test_script
from q3_vae_m1 import train as train_script

SHORT = ("--epochs", "2", "--precision", "float32")
RUN = "results/runs/q3_vae_toy"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data set, and one VAE with classifiers on 20 and 50 labels trained on it."""
    base = tmp_path_factory.mktemp("q3")
    make_dataset(base / "data")
    done = run(base, "train.py", "--labels", "20", "50", *SHORT)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert run(base, "train.py", "--labels", "20", "--classifier", "transductive", *SHORT).returncode == 0
    return base


def line(base, script, *words, out="out"):
    """The words of a command line on the small data set."""
    folders = ["--data-dir", base / "data", "--weights-dir", base / out / "weights"]
    folders += [] if script == "test.py" else ["--results-dir", base / out / "results"]
    return list(map(str, ["--dataset", "toy", *folders, *words]))


def run(base, script, *words, out="out", **more):
    return run_script(f"q3_vae_m1/{script}", *line(base, script, *words, out=out), **more)


def here(monkeypatch, base, *words, out="out", script=train_script):
    """The same in this process, which spares the imports: the exception that run_main would report, or None."""
    path = Path(script.__file__).name
    monkeypatch.setattr(sys, "argv", [path, *line(base, path, *words, out=out)])
    try:
        script.main()
    except (command.UserError, OSError, KeyboardInterrupt) as error:
        return error


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".lock"}


def kept(folder):
    """What stays of a folder: runs aside."""
    return {name: data for name, data in contents(folder).items() if "runs/" not in name}


def copied(world, name):
    shutil.copytree(world / "out", world / name)
    return world / name


# ---- what comes out ------------------------------------------------------------------------------

def test_train_then_test(world):
    results = json.loads((world / "out/results/q3/classifiers_toy.json").read_text(encoding="utf-8"))
    assert {classifier: [*by_count] for classifier, by_count in results.items()} == {
        "svm": ["20", "50"], "transductive": ["20"]}
    report = results["svm"]["20"]
    assert report["images"] == 100 and np.array(report["confusion"]).sum() == 100 and report["error"] < 50
    for name in ("vae_toy_loss", "vae_toy_reconstructions", "vae_toy_samples", "vae_toy_latent", "confusion_toy"):
        assert (world / f"out/results/q3/{name}.png").stat().st_size > 5000
    assert sorted(path.name for path in (world / "out" / RUN).iterdir() if path.name != ".lock") == [
        "metrics.csv", "options.json"]
    for words in (["--labels", "20", "50"], ["--labels", "20", "--classifier", "transductive"]):
        done = run(world, "test.py", *words, "--out", world / "picture.png")
        assert done.returncode == 0 and (world / "picture.png").stat().st_size > 5000
    assert f"test error {report['error']:.2f} %" in run(world, "test.py", "--labels", "20").stdout


def test_files_say_what_they_are(world):
    weights = world / "out/weights"
    _, trained = vae.load_vae(weights, "toy")
    assert trained["settings"] == vae.settings("toy", epochs=2)
    assert trained["precision"] == "float32" and trained["commit"] == files.commit()
    named = {"dataset": "toy", "labels": 50, "classifier": "svm", "likelihood": "gaussian"}
    fitted = classifiers.load_classifier(weights, **named, vae_sha256=trained["sha256"], seed=0, commit=files.commit())
    assert fitted["report"]["images"] == 100
    with pytest.raises(command.UserError, match="another seed"):
        classifiers.load_classifier(weights, **named, seed=1)


def test_a_classifier_loads_without_this_repository(world):
    code = (f"import joblib; svm = joblib.load({str(world / 'out/weights/q3_svm_toy_20.joblib')!r})['svm']\n"
            "print(svm.predict([[0.0] * 50]), svm.kernel)")
    done = subprocess.run([sys.executable, "-c", code], cwd=world, capture_output=True, text=True)
    assert done.returncode == 0 and "length_scale" in done.stdout, done.stderr


def test_the_same_again_writes_nothing_and_shuffled_counts_neither(world):
    before = contents(world / "out")
    for words in (["--labels", "50", "20", "20"], ["--labels", "20", "--classifier", "transductive"]):
        done = run(world, "train.py", *words, *SHORT)
        assert done.returncode == 0 and "trained before" in done.stdout and "nothing new" in done.stdout
    assert contents(world / "out") == before


def test_rounding_of_another_machine_writes_nothing(world, monkeypatch):
    """There a test image in a thousand may be classified otherwise; here one of 100 is, which is more."""
    before, report = contents(world / "out"), classifiers.report

    def moved(images):
        def changed(*words):
            found = report(*words)
            found["confusion"][0][0] -= 1
            found["confusion"][0][1] += 1
            return found | {"images": images}
        return changed
    monkeypatch.setattr(classifiers, "report", moved(1000))
    assert here(monkeypatch, world, "--labels", "20", *SHORT) is None and contents(world / "out") == before
    copied(world, "moved")
    monkeypatch.setattr(classifiers, "report", moved(100))
    assert here(monkeypatch, world, "--labels", "20", *SHORT, out="moved") is None
    assert kept(world / "moved").keys() == kept(world / "out").keys() and kept(world / "moved") != kept(world / "out")


def vars_of(command):
    """{option: value} of a command line."""
    words = command.split()
    return {name[2:]: value for name, value in zip(words, words[1:]) if name.startswith("--")}


def test_another_vae_orphans_its_classifiers(world):
    copied(world, "other")
    assert run(world, "train.py", "--labels", "20", *SHORT, "--vae-seed", "7", out="other").returncode == 0
    done = run(world, "test.py", "--labels", "50", out="other")
    one_line(done, "another VAE", f"--weights-dir {world / 'other/weights'}")
    hint = vars_of(done.stderr.split("`")[1])
    assert (hint["labels"], hint["vae-seed"], hint["epochs"]) == ("50", "7", "2")
    results = json.loads((world / "other/results/q3/classifiers_toy.json").read_text(encoding="utf-8"))
    assert {classifier: [*by_count] for classifier, by_count in results.items()} == {"svm": ["20"]}


def test_quick_keeps_nothing(world):
    done = run(world, "train.py", "--quick", "--labels", "20", out="quick")
    assert done.returncode == 0 and "20 labels" in done.stdout and "nothing" in done.stdout
    assert not (world / "quick").exists()


def test_latent_map(world):
    done = run(world, "latent_map.py", "--labels", "20")
    assert done.returncode == 0, done.stderr
    assert (world / "out/results/q3/latent_map_toy.png").stat().st_size > 20_000
    (world / "out/results/q3/latent_map_toy.png").unlink()


# ---- interrupted trainings -----------------------------------------------------------------------

def ends_at(count, what, how):
    """In the script's process: `how` happens at the `count`-th file moved to a name that holds `what`."""
    left, replace = [count], os.replace

    def ending(old, new):
        left[0] -= what in str(new)
        if not left[0] and what in str(new):
            die() if how == "kill" else exec("raise KeyboardInterrupt")
        replace(old, new)
    os.replace = ending


def test_killed_and_gone_on_with_to_the_same_bits(world):
    words = ("train.py", "--labels", "20", *SHORT, "--epochs", "4")
    assert run(world, *words, out="whole").returncode == 0
    for out, again in (("killed", words), ("resumed", ("train.py", "--labels", "20", "--resume"))):
        assert run(world, *words, out=out, prepare=(ends_at, 3, "checkpoint.pt", "kill")).returncode == KILLED
        one_line(run(world, "train.py", "--labels", "20", out=out), "epochs 4, not 60", "--resume alone goes on")
        one_line(run(world, "train.py", "--labels", "20", "--resume", "--epochs", "9", out=out), "epochs 4, not 9")
        one_line(run(world, "train.py", "--labels", "20", "--resume", "--precision", "bfloat16", out=out), "precision float32")
        done = run(world, *again, out=out)
        assert done.returncode == 0 and "going on" in done.stdout, done.stderr
        whole, other = (torch.load(world / name / "weights/q3_vae_toy.pt", weights_only=True)["parameters"]
                        for name in ("whole", out))
        assert all(torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.parametrize("what, goes_on", [("metrics.csv", False), ("checkpoint.pt", False), ("vae_toy.json", True)])
def test_ctrl_c_is_one_line(world, what, goes_on):
    """In the first epoch nothing is kept, so nothing is promised."""
    out = f"ctrl_c_{what}"
    done = run(world, "train.py", "--labels", "20", *SHORT, out=out, prepare=(ends_at, 1, what, "Ctrl-C"))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 130 and "interrupted" in last and "Traceback" not in done.stderr
    if what != "vae_toy.json":
        assert ("--resume" in last) == goes_on
        done = run(world, "train.py", "--labels", "20", "--resume", out=out)
        one_line(done, "no interrupted training")


def test_ctrl_c_after_an_epoch_says_how_to_go_on(world):
    done = run(world, "train.py", "--labels", "20", *SHORT, out="late", prepare=(ends_at, 2, "metrics.csv", "Ctrl-C"))
    assert done.returncode == 130 and "--resume goes on" in done.stderr.strip().splitlines()[-1]
    assert run(world, "train.py", "--labels", "20", "--resume", out="late").returncode == 0


def test_another_training_is_refused_and_retrain_discards_it(world, monkeypatch):
    other = ("--labels", "20", *SHORT, "--vae-seed", "3")
    killed = run(world, "train.py", "--labels", "20", *SHORT, out="half", prepare=(ends_at, 2, "checkpoint.pt", "kill"))
    assert killed.returncode == KILLED
    assert "vae_seed 0, not 3" in str(here(monkeypatch, world, *other, out="half"))
    assert here(monkeypatch, world, *other, "--retrain", out="half") is None
    assert vae.load_vae(world / "half/weights", "toy")[1]["settings"]["vae_seed"] == 3


def test_two_trainings_in_one_folder(world):
    with files.locked(world / "busy" / RUN):
        done = run(world, "train.py", "--labels", "20", *SHORT, out="busy")
    one_line(done, "another training is going on there")


# ---- shipping ------------------------------------------------------------------------------------

def states(root, monkeypatch, work):
    """The states of the folder `root` that a kill of work() can leave: one before each change of a file."""
    seen, cache = [], {}

    def look():
        state = {}
        for path in root.rglob("*"):
            if path.is_file() and path.name != ".lock":
                stat = path.stat()
                key = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                state[path.relative_to(root)] = cache.setdefault(key, None) or path.read_bytes()
                cache[key] = state[path.relative_to(root)]
        if not seen or state != seen[-1]:
            seen.append(state)

    def watched(function):
        def call(*words, **more):
            if function is not builtins_open or "w" in str(words[1:2]):
                look()
            return function(*words, **more)
        return call
    builtins_open = open
    with monkeypatch.context() as patch:
        for module, name in ((os, "replace"), (os, "unlink"), (builtins, "open")):
            patch.setattr(module, name, watched(getattr(module, name)))
        work()
    look()
    return seen


@pytest.fixture
def bare(monkeypatch):
    """Pictures are bytes here and the disk is not waited for: only files matter."""
    for name in ("loss", "reconstructions", "samples", "latent", "confusion"):
        monkeypatch.setattr(plots, name, lambda *words, name=name: name.encode())
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(files, "commit", lambda: "0")


def plain(folder):
    """What stays of a folder, without what the clock tells."""
    found = kept(folder)
    for name in found:
        if name.endswith("vae_toy.json"):
            found[name] = json.loads(found[name])
            del found[name]["last_epoch"]["seconds"]
        elif not name.endswith((".png", "classifiers_toy.json")):
            found[name] = None
    return found


def test_a_kill_anywhere_is_mended_by_the_same_command(world, tmp_path, monkeypatch, bare):
    """Before each change of a file, with an older VAE and classifier in place."""
    words = ("--labels", "20", *SHORT, "--vae-seed", "5")
    (tmp_path / "data").symlink_to(world / "data", target_is_directory=True)
    copied(world, "copy").rename(tmp_path / "out")

    def work():
        assert here(monkeypatch, tmp_path, *words) is None
    found = states(tmp_path / "out", monkeypatch, work)
    assert len(found) > 20
    wanted = plain(tmp_path / "out")
    for state in found:
        shutil.rmtree(tmp_path / "out")
        for name, data in state.items():
            (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "out" / name).write_bytes(data)
        work()
        left = {name: value for name, value in plain(tmp_path / "out").items() if not name.endswith((".tmp", ".new"))}
        assert left == wanted
        assert here(monkeypatch, tmp_path, "--labels", "20", script=test_script) is None


def test_a_full_disk_is_one_line_and_the_same_command_mends_it(world, tmp_path, monkeypatch, bare):
    words = ("--labels", "20", *SHORT)
    (tmp_path / "data").symlink_to(world / "data", target_is_directory=True)
    put, failures = command.put, 0
    for room in range(100):
        left = [room]

        def full(path, data):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            put(path, data)
        with monkeypatch.context() as patch:
            for module in (command, files):
                patch.setattr(module, "put", full)
            error = here(monkeypatch, tmp_path, *words)
        if error is None:
            break
        failures += 1
        assert isinstance(error, command.UserError) and "No space left" in str(error) and "\n" not in str(error)
        if room % 3:  # else the next command meets what is left
            shutil.rmtree(tmp_path / "out")
        else:
            assert here(monkeypatch, tmp_path, *words) is None
            assert here(monkeypatch, tmp_path, "--labels", "20", script=test_script) is None
            shutil.rmtree(tmp_path / "out")
    assert failures > 10


# ---- bad input -----------------------------------------------------------------------------------

@pytest.mark.parametrize("script, words, message", [
    (train_script, ["--labels", "101"], "multiple of 10"), (train_script, ["--labels", "0"], "whole number"),
    (train_script, ["--labels", "x"], "whole number"), (train_script, ["--labels", "2000"], "has only"),
    (train_script, ["--labels"], "--labels"), (train_script, ["--lab", "20"], "unrecognized"),
    (train_script, ["--epochs", "0"], "--epochs"), (train_script, ["--epochs", "1" * 30], "--epochs"),
    (train_script, ["--learning-rate", "nan"], "--learning-rate"), (train_script, ["--distort", "-1"], "--distort"),
    (train_script, ["--kl-weight", "inf"], "--kl-weight"), (train_script, ["--epochs", "1.5"], "--epochs"),
    (train_script, ["--seed", "1" * 20], "--seed"), (train_script, ["--vae-seed", "4294967301"], "--vae-seed"),
    (train_script, ["--seed", "-1"], "--seed"), (train_script, ["--dataset", "a/b"], "--dataset"),
    (train_script, ["--dataset", ""], "--dataset"), (train_script, ["--dataset", "nowhere"], "no images"),
    (train_script, ["--data-dir", ""], "--data-dir"), (train_script, ["--weights-dir", ""], "--weights-dir"),
    (train_script, ["--results-dir", " "], "--results-dir"), (train_script, ["--device", "tpu"], "--device"),
    (train_script, ["--classifier", "tree"], "--classifier"),
    (train_script, ["--labels", "20", "--resume"], "no interrupted training"),
    (train_script, ["--resume", "--retrain"], "not allowed"), (train_script, ["--quick", "--resume"], "not allowed"),
    (train_script, ["a word"], "unrecognized"), (test_script, ["--labels", "101"], "q3_svm_toy_101"),
    (test_script, ["--labels", "600"], "train.py --dataset toy --likelihood gaussian --labels 600"),
    (test_script, ["--likelihood", "bernoulli"], "--retrain"), (test_script, ["--out", ""], "--out"),
    (test_script, ["--out", "/dev/null/picture.png"], "cannot be written"),
    (test_script, ["--seed", "1"], "unrecognized")])
def test_bad_input_is_one_line_and_leaves_nothing(world, monkeypatch, script, words, message):
    before = contents(world / "out")
    error = here(monkeypatch, world, *words, script=script)
    assert isinstance(error, command.UserError) and message in str(error) and "\n" not in str(error)
    assert contents(world / "out") == before
    if script is train_script:  # nor where nothing was
        assert here(monkeypatch, world, *words, out="nothing") is not None
        assert not (world / "nothing").exists()


def test_errors_of_the_process_are_one_line(world):
    one_line(run(world, "train.py", "--labels", "101"), "multiple of 10")
    one_line(run(world, "test.py", "--labels", "600"), "train.py --dataset toy")
    one_line(run(world, "latent_map.py", "--labels", "5000"), "--labels")


def test_a_file_that_is_not_what_its_name_says(world):
    weights = copied(world, "renamed") / "weights"

    def move(old, new):
        shutil.copy(weights / old, weights / new)
        sums = files.read_sums(weights)
        sums[new] = sums[old]
        text = "".join(f"{digest} *{name}\n" for name, digest in sums.items())  # as `sha256sum -b` writes it
        (weights / "SHA256SUMS").write_text(text, encoding="utf-8")
    move("q3_svm_toy_20.joblib", "q3_svm_toy_100.joblib")
    one_line(run(world, "test.py", "--labels", "100", out="renamed"), "another labels")
    move("q3_transductive_toy_20.joblib", "q3_svm_toy_50.joblib")
    one_line(run(world, "test.py", "--labels", "50", out="renamed"), "classifier")
    move("q3_vae_toy.pt", "q3_vae_toy_bernoulli.pt")
    one_line(run(world, "test.py", "--likelihood", "bernoulli", out="renamed"), "should be named q3_vae_toy.pt")


@pytest.mark.parametrize("name, data, script, words, message", [
    ("weights/q3_svm_toy_20.joblib", b"", test_script, ["--labels", "20"], "SHA-256"),
    ("weights/q3_vae_toy.pt", b"junk", test_script, ["--labels", "20"], "SHA-256"),
    ("weights/q3_vae_toy.pt", b"junk", train_script, ["--labels", "20"], "--retrain"),
    ("weights/SHA256SUMS", b"\xff\xfe", test_script, ["--labels", "20"], "line 1"),
    ("weights/SHA256SUMS", b"", train_script, ["--labels", "20", *SHORT], "not listed"),
    ("results/q3/classifiers_toy.json", b"[1]", train_script, ["--labels", "20", *SHORT], "damaged")])
def test_damaged_files_are_named(world, monkeypatch, tmp_path, name, data, script, words, message):
    (tmp_path / "data").symlink_to(world / "data", target_is_directory=True)
    copied(world, f"damaged_{tmp_path.name}").rename(tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(data)
    before = contents(tmp_path / "out")
    error = here(monkeypatch, tmp_path, *words, script=script)
    assert isinstance(error, command.UserError) and message in str(error) and "\n" not in str(error)
    assert contents(tmp_path / "out") == before


def test_damaged_run_folders_are_refused_and_retrain_starts_anew(world, monkeypatch):
    words = ("--labels", "20", *SHORT)
    assert run(world, "train.py", *words, out="run", prepare=(ends_at, 2, "checkpoint.pt", "kill")).returncode == KILLED
    folder = world / "run" / RUN
    whole = {name: (folder / name).read_bytes() for name in ("options.json", "checkpoint.pt")}
    foreign = files.as_torch({"settings": {"epochs": 2}, "history": []})
    for name, data in (("options.json", b""), ("options.json", b"{}"), ("options.json", b"\xff"),
                       ("checkpoint.pt", b""), ("checkpoint.pt", b"junk"),
                       ("checkpoint.pt", whole["checkpoint.pt"][:-99]), ("checkpoint.pt", foreign),
                       ("checkpoint.pt", files.as_torch([1]))):
        for other, content in whole.items():
            (folder / other).write_bytes(content)
        (folder / name).write_bytes(data)
        for more in (["--labels", "20", "--resume"], words):
            error = here(monkeypatch, world, *more, out="run")
            assert isinstance(error, command.UserError) and name in str(error)
    (folder / "metrics.csv").write_bytes(b"junk")
    assert here(monkeypatch, world, *words, "--retrain", out="run") is None


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root and Windows write there all the same")
def test_a_read_only_folder_is_seen_before_the_work(world, monkeypatch):
    copied(world, "locked")
    (world / "locked/weights").chmod(0o500)
    error = here(monkeypatch, world, "--retrain", *SHORT, out="locked")
    (world / "locked/weights").chmod(0o700)
    assert "cannot be written" in str(error)


def test_a_folder_that_is_a_file_is_seen_before_the_work(world, monkeypatch):
    (world / "file").mkdir()
    (world / "file/results").write_text("")
    monkeypatch.setattr(vae, "train", None)  # would be an error of another kind
    assert "cannot be written" in str(here(monkeypatch, world, "--labels", "20", out="file"))


# ---- machines and use from Python ----------------------------------------------------------------

def deaf():
    """In the script's process: stdout is full, stderr is closed."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    os.close(2)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_and_closed_streams_do_not_end_the_work(world):
    done = run(world, "train.py", "--labels", "20", "50", *SHORT, out="deaf", prepare=(deaf,))
    shipped = {path.name for path in (world / "deaf/weights").iterdir()}
    assert done.returncode == 0 and {"q3_svm_toy_20.joblib", "q3_svm_toy_50.joblib"} <= shipped


def test_inherited_settings_and_a_reader_that_is_gone(world):
    """Jupyter's backend, a terminal of few letters, PYTHONSAFEPATH, python -m, `| head -1`."""
    more = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii",
            "PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    words = line(world, "test.py", "--labels", "20", "--out", str(world / "é.png"))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "q3_vae_m1.test", *words], env=os.environ | more, stdout=write,
                          stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert (world / "é.png").exists()


def test_both_rooms_from_python(tmp_path):
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport q3_vae_m1, q4_wgan\n"
            "pictures = q4_wgan.generate('wgan', seeds=[7, 8])\nfeatures = q3_vae_m1.features(pictures)\n"
            "assert pictures.shape == (2, 28, 28) and pictures.dtype == 'uint8' and features.shape == (2, 50)\n"
            "try:\n    q3_vae_m1.features(pictures / 255)\nexcept ValueError as error:\n    print(error)\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "(n, 28, 28)" in done.stdout, done.stderr


def test_features_of_ones_own_data_set(world):
    pixels = np.arange(3 * 784, dtype=np.uint8).reshape(3, 28, 28)
    found = q3_vae_m1.features(pixels, dataset="toy", weights_dir=world / "out/weights")
    assert found.shape == (3, 50) and found.dtype == np.float32
    same = q3_vae_m1.features(torch.from_numpy(pixels), dataset="toy", weights_dir=str(world / "out/weights"))
    assert np.array_equal(found, same)
