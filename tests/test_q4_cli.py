"""q4_wgan's command lines on small synthetic images: training, killing and resuming, generating, bad input."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from q4_world import ROOM, load_room, run

SETTINGS = ("--dim", "4", "--batch", "8", "--iterations", "24", "--log-every", "5", "--sample-every", "12",
            "--checkpoint-every", "6", "--seed", "3")


def train(base, results, *args, model="wgan", **kwargs):
    return run(base, "train.py", "--model", model, *SETTINGS, *args, results=results, **kwargs)


@pytest.fixture(scope="session")
def trained(world):
    """One uninterrupted run of each model, which shipped."""
    for model in ("wgan", "dcgan"):
        done = train(world, "results", model=model, lenient=True)
        assert done.returncode == 0, done.stderr
        assert "shipped" in done.stdout
    return world


def ledger(base, results):
    return [json.loads(line) for line in (base / results / "q4_attempts.jsonl").read_text().splitlines()]


def same(a, b):
    """Bit for bit the same checkpoint, but for the time it took and the name of the attempt."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in ("seconds", "attempt"))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_same_run(base, results, model="wgan"):
    one, other = (base / folder / f"runs/q4_{model}_seed3" for folder in ("results", results))
    for name in ("checkpoint.pt", "generator.pt"):
        assert same(*(torch.load(run / name, weights_only=True) for run in (one, other))), name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader((run / "metrics.csv").open())]
            for run in (one, other)]
    assert rows[0] == rows[1] and [row["iteration"] for row in rows[0]] == ["5", "10", "12", "15", "20", "24"]
    assert not list(other.glob(".*.tmp"))
    for name in ("000012.png", "000024.png"):
        assert (one / "grids" / name).read_bytes() == (other / "grids" / name).read_bytes()


# ---- training ---------------------------------------------------------------------------------------------------------

def test_what_a_run_leaves(trained):
    for model, objective in (("wgan", "wgan-gp"), ("dcgan", "dcgan")):
        content = torch.load(trained / f"weights/q4_{model}.pt", weights_only=True)
        assert (content["model"], content["objective"], content["iterations"], content["seed"]) == (model, objective, 24, 3)
        assert content["distance"] > 0 and len(content["shares"]) == 10
        rows = list(csv.DictReader((trained / f"results/q4_{model}_losses.csv").open()))
        assert rows[-1]["held_out_critic_loss"] and rows[-1]["distance"] and bool(rows[0]["penalty"]) == (model == "wgan")
        entries = [e for e in ledger(trained, "results") if e["model"] == model]
        assert [e["outcome"] for e in entries] == ["started", "converged"]
    sums = (trained / "weights/SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in sums] == ["q4_classifier.pt", "q4_dcgan.pt", "q4_wgan.pt"]
    for line in sums:
        digest, name = line.split("  ")
        assert hashlib.sha256((trained / "weights" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("model, kill", [("wgan", "step9"), ("wgan", "save3"), ("wgan", "interrupt14"), ("dcgan", "step20")])
def test_kill_and_resume_gives_the_same_bits(trained, model, kill):
    results = f"{model}-{kill}"
    killed = train(trained, results, model=model, kill=kill, lenient=True)
    if kill.startswith("interrupt"):
        assert killed.returncode == 130 and "--resume" in killed.stdout
        assert ledger(trained, results)[-1]["outcome"] == "interrupted"
    else:
        assert killed.returncode == -signal.SIGKILL
    again = train(trained, results, model=model)
    assert again.returncode == 2 and "--resume" in again.stderr  # a run is not overwritten
    resumed = train(trained, results, "--resume", model=model, lenient=True)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(trained, results, model)
    assert "kept" in resumed.stdout  # the shipped weights are as good: they stay
    entries = ledger(trained, results)
    assert len({entry["attempt"] for entry in entries}) == 1 and entries[-1]["outcome"] == "converged"


def test_continue_an_ended_run(trained, tmp_path):
    (tmp_path / "data").symlink_to(trained / "data")
    for folder in ("weights", "results"):
        shutil.copytree(trained / folder, tmp_path / folder)
    def more(*args, **kwargs):
        return train(tmp_path, "results", "--continue", "q4_wgan_seed3", "--lr", "3e-4", "--name", *args, **kwargs)
    assert more("killed", "--generator-lr", "1e-3", lenient=True, kill="step33").returncode == -signal.SIGKILL
    unended = train(tmp_path, "results", "--continue", "killed")
    assert unended.returncode == 2 and "has not ended" in unended.stderr
    done = run(tmp_path, "train.py", "--model", "wgan", "--resume", "--name", "killed", lenient=True)
    assert done.returncode == 0, done.stderr
    done = more("whole", "--generator-lr", "1e-3", lenient=True)
    assert done.returncode == 0, done.stderr
    first, killed, whole = (tmp_path / "results/runs" / name for name in ("q4_wgan_seed3", "killed", "whole"))
    assert same(*(torch.load(run / "checkpoint.pt", weights_only=True) for run in (killed, whole)))
    content = torch.load(whole / "generator.pt", weights_only=True)
    assert (content["start"], content["iterations"], content["learning_rate"], content["generator_learning_rate"]) == (
        24, 48, 3e-4, 1e-3)
    plain = more("plain", lenient=True)
    assert plain.returncode == 0 and not same(*(torch.load(tmp_path / f"results/runs/{name}/checkpoint.pt", weights_only=True)[
        "generator"] for name in ("plain", "whole")))
    rows = (whole / "metrics.csv").read_text().splitlines()
    assert rows[:7] == (first / "metrics.csv").read_text().splitlines() and rows[7].startswith("25,") and rows[-1].startswith("48,")
    attempts = {line["attempt"]: line for line in ledger(tmp_path, "results") if line["model"] == "wgan"}
    assert len(attempts) == 4 and content["continues"] in attempts
    refused = more("wider", "--dim", "8")
    assert refused.returncode == 2 and "--dim" in refused.stderr and not (tmp_path / "results/runs/wider").exists()


def test_continue_the_shipped_weights_with_a_new_critic(trained, tmp_path):
    for folder in ("data", "weights", "results"):
        shutil.copytree(trained / folder, tmp_path / folder, ignore=shutil.ignore_patterns("runs"))
    def more(name, *args, **kwargs):
        return train(tmp_path, "results", "--iterations", "40", "--checkpoint-every", "2", "--name", name, *args, lenient=True, **kwargs)
    shipped = torch.load(tmp_path / "weights/q4_wgan.pt", weights_only=True)
    for name, kill in (("early", "step25"), ("later", "step27")):
        assert more(name, "--continue", "shipped", kill=kill).returncode == -signal.SIGKILL
    early, later, whole = (tmp_path / "results/runs" / name for name in ("early", "later", "whole"))
    assert not (early / "checkpoint.pt").exists()
    checkpoint = torch.load(later / "checkpoint.pt", weights_only=True)
    assert checkpoint["iteration"] == 26 and checkpoint["options"]["critic_alone"] == 2
    assert all(torch.equal(checkpoint["generator"][key], value) for key, value in shipped["state"].items()
               if "running" not in key and "batches" not in key)  # it stood still
    assert more("whole", "--continue", "shipped").returncode == 0
    for run_folder in (early, later):
        done = run(tmp_path, "train.py", "--model", "wgan", "--resume", "--name", run_folder.name, lenient=True)
        assert done.returncode == 0, done.stderr
        assert same(*(torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (run_folder, whole)))
    moved = torch.load(whole / "checkpoint.pt", weights_only=True)["generator"]
    assert not any(torch.equal(moved[key], value) for key, value in shipped["state"].items() if key.endswith("weight"))
    rows = (whole / "metrics.csv").read_text().splitlines()
    assert rows[:7] == (trained / "results/q4_wgan_losses.csv").read_text().splitlines() and rows[-1].startswith("64,")
    assert torch.load(whole / "generator.pt", weights_only=True)["continues"] == shipped["attempt"]
    refused = more("wider", "--continue", "shipped", "--dim", "8")
    assert refused.returncode == 2 and "--dim" in refused.stderr and not (tmp_path / "results/runs/wider").exists()


def test_a_failure_is_counted_and_ships_nothing(trained):
    shipped = (trained / "weights/q4_wgan.pt").read_bytes()
    done = train(trained, "collapsed", "--name", "short")
    assert done.returncode == 1 and "failed" in done.stdout
    done = train(trained, "collapsed", "--lr", "1e30", "--name", "nan")
    assert done.returncode == 1 and "NaN" in done.stdout
    files = load_room("files").files
    attempts = files.read_ledger(trained / "collapsed")
    assert [a["outcome"] for a in attempts] == ["failed", "failed"]
    assert files.failures_before_success(attempts, "wgan") == (2, False)
    assert (trained / "weights/q4_wgan.pt").read_bytes() == shipped
    assert not (trained / "collapsed/q4_wgan_losses.csv").exists()


def test_ledger_counts_failures_before_the_first_success(tmp_path):
    files = load_room("files").files
    for attempt, model, outcome in (("a", "wgan", "started"), ("a", "wgan", "failed"), ("b", "dcgan", "failed"),
                                    ("c", "wgan", "interrupted"), ("c", "wgan", "converged"), ("d", "wgan", "failed")):
        files.append_ledger(tmp_path, {"attempt": attempt, "model": model, "outcome": outcome})
    with open(tmp_path / "q4_attempts.jsonl", "a") as file:
        file.write('{"attempt": "e", "mod')  # a crash of the machine
    attempts = files.read_ledger(tmp_path)
    assert [a["outcome"] for a in attempts] == ["failed", "failed", "converged", "failed"]
    assert files.failures_before_success(attempts, "wgan") == (1, True)
    assert files.failures_before_success(attempts, "dcgan") == (1, False)


def test_shipping_keeps_the_lines_of_others(tmp_path):
    files = load_room("files").files
    (tmp_path / "SHA256SUMS").write_text("00  q3_svm.joblib\n11  q4_wgan.pt\n")
    files.ship(tmp_path, "q4_wgan.pt", {"model": "wgan"})
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert lines[0] == "00  q3_svm.joblib" and len(lines) == 2 and not lines[1].startswith("11")


def test_resnet_and_clipping_train(trained):
    done = run(trained, "train.py", "--model", "wgan", "--penalty", "clip", "--arch", "resnet", "--dim", "4", "--batch", "4",
               "--iterations", "2", results="variants", lenient=True)
    assert done.returncode == 0, done.stderr
    assert (trained / "weights/q4_wgan_clip_resnet.pt").exists()


def test_race_times_all_three(trained):
    done = run(trained, "race.py", "--minutes", "0.01", "--dim", "4", results="race", lenient=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((trained / "race/q4_race.json").read_text())
    assert set(result["curves"]) == {"dcgan", "wgan-gp", "textbook"}
    for points in result["curves"].values():
        assert len(points) == 12 and points[-1]["seconds"] >= 0.6 and all(point["distance"] > 0 for point in points)
        assert [p["iteration"] for p in points] == sorted(p["iteration"] for p in points)
    assert Image.open(trained / "race/q4_race.png").size[0] > 800


# ---- generating -------------------------------------------------------------------------------------------------------

def generate(base, *args):
    return run(base, "generate.py", *args, results="pictures")


def test_generate_from_the_shell(trained):
    """Without the driver, as a user does; without a data set."""
    command = [sys.executable, str(ROOM / "generate.py"), "--model", "wgan", "--seeds", "0-3,7", "--out", str(trained / "grid.png"),
               "--weights-dir", str(trained / "weights")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=trained)
    assert done.returncode == 0 and str(trained / "grid.png") in done.stdout, done.stderr
    assert Image.open(trained / "grid.png").size == (4 * 88, 4 * 58)  # 3 columns, 2 rows, 2 pixels apart


def call(capsys, main, *args, monkeypatch):
    """A script's main in this process: (status, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["script", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        main.__globals__["files"].run_main(main)
    return (end.value.code or 0, *capsys.readouterr())


def test_a_seed_is_the_same_picture_alone_or_in_company(trained, capsys, monkeypatch, tmp_path):
    main = load_room("generate").generate.main
    common = ("--model", "dcgan", "--separate", "--weights-dir", trained / "weights")
    assert call(capsys, main, *common, "--seeds", "7", "--out", tmp_path / "one", monkeypatch=monkeypatch)[0] == 0
    assert call(capsys, main, *common, "--seeds", "0-63", "--out", tmp_path / "many", monkeypatch=monkeypatch)[0] == 0
    assert len(list((tmp_path / "many").iterdir())) == 64
    assert (tmp_path / "one/seed0007.png").read_bytes() == (tmp_path / "many/seed0007.png").read_bytes()
    assert (tmp_path / "many/seed0007.png").read_bytes() != (tmp_path / "many/seed0008.png").read_bytes()


def test_label_and_walk(trained, capsys, monkeypatch, tmp_path):
    room = load_room("generate", "classifier", "pictures")
    generator, _ = room.generate.load_generator(trained / "weights/q4_wgan.pt", "wgan")
    network = room.classifier.load(trained / "weights")
    pixels = room.generate.draw(generator, room.pictures.latents(range(12)))
    labels = room.classifier.judge(network, pixels)[1].tolist()
    wanted = labels[5]
    status, out, err = call(capsys, room.generate.main, "--model", "wgan", "--weights-dir", trained / "weights", "--label",
                            wanted, "--seeds", "0-1", "--confidence", "0", "--out", tmp_path / "some", "--separate",
                            monkeypatch=monkeypatch)
    expected = [seed for seed, label in enumerate(labels) if label == wanted][:2]
    assert status == 0, err
    if len(expected) == 2:
        assert f"drew {expected[1] + 1}" in out
        assert sorted(p.name for p in (tmp_path / "some").iterdir()) == [f"seed{s:04d}.png" for s in expected]
    status, _, err = call(capsys, room.generate.main, "--model", "wgan", "--weights-dir", trained / "weights", "--interpolate", 3, 8,
                          "--steps", 5, "--out", tmp_path / "walk.png", "--scale", 1, monkeypatch=monkeypatch)
    assert status == 0 and Image.open(tmp_path / "walk.png").size == (148, 28), err


@pytest.mark.parametrize("args, message", [
    (("--model", "vae"), "vae"), ((), "--model"), (("--model", "wgan", "--seeds", "5-2"), "5-2"),
    (("--model", "wgan", "--seeds", "x"), "seeds"), (("--model", "wgan", "--seeds", "-3"), "seeds"),
    (("--model", "wgan", "--label", "hat"), "hat"), (("--model", "wgan", "--steps", "0"), "above zero"),
    (("--model", "wgan", "--confidence", "1.5"), "1.5"), (("--model", "wgan", "--scale", "-1"), "above zero"),
    (("--model", "wgan", "--nonsense"), "nonsense"), (("--model", "wgan", "--out", "x.jpg"), ".png"),
    (("--model", "wgan", "--interpolate", "1"), "interpolate"), (("--model", "wgan", "--out", "/proc/x.png"), "/proc"),
    (("--model", "wgan", "--weights", "missing.pt"), "missing.pt")])
def test_generate_refuses_bad_input(trained, capsys, monkeypatch, args, message):
    main = load_room("generate").generate.main
    status, out, err = call(capsys, main, *args, "--weights-dir", trained / "weights", monkeypatch=monkeypatch)
    assert status == 2 and out == "" and message in err and err.count("\n") == 1


def test_damaged_and_wrong_weights(trained, capsys, monkeypatch, tmp_path):
    main = load_room("generate").generate.main
    good = (trained / "weights/q4_wgan.pt").read_bytes()
    for name, content, message in (("cut.pt", good[:5000], "corrupt"), ("text.pt", b"hello", "corrupt"),
                                   ("dcgan.pt", (trained / "weights/q4_dcgan.pt").read_bytes(), "dcgan")):
        (tmp_path / name).write_bytes(content)
        status, _, err = call(capsys, main, "--model", "wgan", "--weights", tmp_path / name, monkeypatch=monkeypatch)
        assert status == 2 and message in err and err.count("\n") == 1
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1  # one bit of one weight
    (tmp_path / "q4_wgan.pt").write_bytes(flipped)
    (tmp_path / "SHA256SUMS").write_text((trained / "weights/SHA256SUMS").read_text())
    status, _, err = call(capsys, main, "--model", "wgan", "--weights-dir", tmp_path, monkeypatch=monkeypatch)
    assert status == 2 and "SHA-256" in err


@pytest.mark.parametrize("args, message", [
    (("--model", "dcgan", "--penalty", "gp"), "--penalty"), (("--model", "wgan", "--iterations", "0"), "above zero"),
    (("--model", "wgan", "--lr", "-1"), "above zero"), (("--model", "wgan", "--batch", "1"), "--batch"),
    (("--model", "wgan", "--resume"), "no run to go on with"), (("--model", "wgan", "--continue", "absent"), "no run to go on with"),
    (("--model", "wgan", "--continue", "../x"), "letters, digits"), (("--model", "wgan", "--continue", "x", "--resume"), "--continue"),
    (("--model", "wgan", "--seed", "-1"), "-1"), (("--model", "wgan", "--device", "tpu"), "tpu")])
def test_train_refuses_bad_input(trained, capsys, monkeypatch, tmp_path, args, message):
    room = load_room("train", "images")
    for name in room.images.SHA256:
        path = trained / "data/FashionMNIST/raw" / name
        monkeypatch.setitem(room.images.SHA256, name, hashlib.sha256(path.read_bytes()).hexdigest())
    status, _, err = call(capsys, room.train.main, *args, "--data-dir", trained / "data", "--weights-dir", trained / "weights",
                          "--results-dir", tmp_path, monkeypatch=monkeypatch)
    assert status == 2 and message in err and err.count("\n") == 1


def test_a_resumed_run_keeps_its_options(trained):
    done = train(trained, "results", "--resume", "--dim", "8")
    assert done.returncode == 2 and "--dim" in done.stderr and done.stderr.count("\n") == 1


# ---- images -----------------------------------------------------------------------------------------------------------

def test_images_are_refused_by_name_and_ways_are_listed(world, monkeypatch, tmp_path):
    room = load_room("images", "files")
    with pytest.raises(room.files.UserError, match="train-images-idx3-ubyte.*SHA-256"):
        room.images.load(world / "data")  # synthetic files are not Fashion-MNIST
    def offline():
        raise OSError("no network")
    monkeypatch.setattr(room.images, "SYSTEM", tmp_path)
    monkeypatch.setattr(room.images, "from_torchvision", offline)
    monkeypatch.setattr(room.images, "from_debian", offline)
    with pytest.raises(room.files.UserError, match="raw files.*apt-get download"):
        room.images.load(tmp_path / "nothing")


def test_images_come_from_the_next_place(world, monkeypatch, tmp_path):
    import gzip
    room = load_room("images")
    system = tmp_path / "system"
    system.mkdir()
    for name in room.images.SHA256:
        content = (world / "data/FashionMNIST/raw" / name).read_bytes()
        (system / f"{name}.gz").write_bytes(gzip.compress(content))
        monkeypatch.setitem(room.images.SHA256, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(room.images, "SYSTEM", system)
    (images, labels), (test, _) = room.images.load(tmp_path / "nothing")
    assert images.shape == (600, 28, 28) and labels.tolist()[:11] == [*range(10), 0] and len(test) == 100
    x = room.images.to_float(images[:9])
    assert x.min() >= -1 and x.max() <= 1 and torch.equal(room.images.to_pixels(x), images[:9])


# ---- evaluating -------------------------------------------------------------------------------------------------------

def test_evaluate_and_figures(trained):
    done = run(trained, "evaluate.py", "--repeats", "2")
    assert done.returncode == 0, done.stderr
    scores = json.loads((trained / "results/q4_scores.json").read_text())
    assert scores["wgan"]["frechet_distance"]["n"] == 2 and sum(scores["dcgan"]["shares"]) == pytest.approx(1)
    assert len(scores["real"]["calibration_in_floors"]["without_one_class"]) == 10


def test_readme_has_the_scores_of_the_record():
    room = load_room("evaluate", "files", "tune", "stability")
    results = room.files.ROOT / "results"
    study = json.loads((results / "q4_stability.json").read_text())
    for table in room.stability.markdown(study):
        assert table in (ROOM / "README.md").read_text()
    dcgan, wgan, clipping = (study["totals"][name]["converged"] for name in room.stability.NAMES)
    assert f"DCGAN {dcgan}, WGAN-GP {wgan}, WGAN with clipping {clipping}" in (room.files.ROOT / "README.md").read_text()
    assert room.tune.markdown(room.files.read_lines(results / "q4_tries.jsonl"), 16, 1000) in (ROOM / "README.md").read_text()
    scores, readme = json.loads((results / "q4_scores.json").read_text()), (ROOM / "README.md").read_text()
    assert room.evaluate.markdown(scores) in readme
    assert room.evaluate.length_markdown(scores, results) in readme
    for model in room.files.MODELS:
        failures, converged = room.files.failures_before_success(room.files.read_ledger(results), model)
        name = {"dcgan": "DCGAN", "wgan": "WGAN-GP"}[model]
        assert converged and f"{name}: {failures} failed" in readme
        floors = scores[model]["frechet_in_floors"]
        assert f"{name} {floors['mean']:.1f} ± {floors['std']:.1f}" in (room.files.ROOT / "README.md").read_text()


def test_figures(trained, tmp_path, monkeypatch):
    """Every figure whose content does not need a well-trained generator."""
    room = load_room("figures", "generate", "images")
    generators = {model: room.generate.load_generator(trained / f"weights/q4_{model}.pt", model)[0] for model in ("dcgan", "wgan")}
    losses = {model: room.figures.read_losses(trained / f"results/q4_{model}_losses.csv") for model in generators}
    room.figures.draw_losses(losses, {"dcgan": None, "wgan": 12}, tmp_path / "losses.png")
    room.figures.draw_distances(losses, {"dcgan": 1.0, "wgan": 1.0}, tmp_path / "distances.png")
    room.figures.draw_samples(generators["wgan"], "wgan", tmp_path / "samples.png")
    room.figures.draw_neighbours(generators, torch.randint(0, 256, (50, 28, 28), dtype=torch.uint8), tmp_path / "neighbours.png")
    room.figures.draw_film({model: trained / f"results/runs/q4_{model}_seed3" for model in generators}, tmp_path / "film.png")
    for name in ("losses", "distances", "samples", "neighbours", "film"):
        assert Image.open(tmp_path / f"{name}.png").size[0] > 500
    with pytest.raises(room.figures.UserError, match="missing"):
        room.figures.read_losses(tmp_path / "none.csv")
