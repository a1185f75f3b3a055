"""q4_wgan's training on a small data set: kill and resume, shipping, failures and the ledger, bad input."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from helpers import KILLED, die, make_dataset, one_line, run_script

from q4_wgan import files, ledger, metrics, run_folder
from q4_wgan.classifier import Classifier
from q4_wgan.training import Training

DEVICE = os.environ.get("DEVICE", "cpu")  # DEVICE=cuda python -m pytest tests/test_q4_train.py: the same on a GPU
OPTIONS = ("--dataset", "toy", "--dim", 2, "--batch", 8, "--iterations", 24, "--seed", 3, "--device", DEVICE,
           "--precision", "float32")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small data set, a classifier of it that was never trained, and a run of 24 iterations to compare with."""
    base = tmp_path_factory.mktemp("q4")
    make_dataset(base / "data")
    torch.manual_seed(0)
    content = {"model": "classifier", "dataset": "toy", "state": Classifier().state_dict()}
    files.ship(base / "weights", {"q4_classifier_toy.pt": files.as_torch(content)})
    done = train(base, "whole")
    assert done.returncode == 0, done.stderr
    return base


def often():
    run_folder.LOG_EVERY, run_folder.CHECKPOINT_EVERY, run_folder.SAMPLE_EVERY = 5, 6, {"wgan": 12}


def lenient():
    """Two dozen iterations count as a training that converged."""
    often()
    metrics.verdict = lambda *_: ("converged", "as the test wants it")


def killed_at(iteration, how=die):
    lenient()
    step = Training.step

    def stepping(self):
        step(self)
        if self.iteration == iteration:
            how()
    Training.step = stepping


def diverging():
    """As with a learning rate that is far too high."""
    often()
    step = Training.step

    def stepping(self):
        self.critic.linear.weight.data.mul_(1e30)
        step(self)
    Training.step = stepping


def killed_in_move(number):
    """Killed at the given move of shipping; 0: before the journal is there."""
    lenient()
    replace, moves = os.replace, []

    def replacing(source, place):
        if str(source).endswith(".new") or str(place).endswith(files.JOURNAL):
            moves.append(place)
            if len(moves) == number + 1:
                die()
        replace(source, place)
    os.replace = replacing


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def train(base, results, *words, model="wgan", weights=None, prepare=(lenient,), options=OPTIONS):
    return run_script("q4_wgan/train.py", "--model", model, *options, *words, "--data-dir", base / "data",
                      "--weights-dir", weights or base / "weights", "--results-dir", base / results, prepare=prepare)


def same(a, b):
    """Bit for bit, but for the time it took and the name of the attempt."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in ("seconds", "attempt"))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def folder(base, results):
    return base / results / "runs/q4_wgan_toy_seed3"


def test_what_a_run_leaves(base):
    content = torch.load(base / "weights/q4_wgan_toy.pt", weights_only=True)
    assert (content["model"], content["dataset"], content["iterations"]) == ("wgan", "toy", 24)
    assert content["relative_distance"] > 0 and len(content["class_frequencies"]) == 10 and content["commit"]
    assert files.read_shipped(base / "weights/q4_wgan_toy.pt", "")
    rows = list(csv.DictReader((base / "whole/q4/wgan_toy_losses.csv").open()))
    assert [row["iteration"] for row in rows] == ["5", "10", "12", "15", "20", "24"]
    assert rows[-1]["validation_critic_loss"] and rows[-1]["distance"] and not rows[0]["distance"]
    grids = np.load(base / "whole/q4/wgan_toy_grids.npz")
    assert grids["iterations"].tolist() == [24] and grids["images"].shape == (1, 10, 28, 28)
    assert not (base / "whole/q4/attempts.jsonl").exists()  # too short for an attempt


@pytest.mark.parametrize("kill", [9, "interrupt"])
def test_kill_and_resume_gives_the_same_bits(base, kill):
    results = f"killed{kill}"
    prepare = (killed_at, 14, interrupt) if kill == "interrupt" else (killed_at, kill)
    done = train(base, results, prepare=prepare)
    assert done.returncode == (130 if kill == "interrupt" else KILLED), done.stderr
    one_line(train(base, results), "--resume")
    one_line(train(base, results, "--resume", "--lr", 0.5), "--lr")
    done = train(base, results, "--resume")
    assert done.returncode == 0 and "kept" in done.stdout, done.stderr
    for name in ("checkpoint.pt", "generator.pt"):
        one, other = (torch.load(folder(base, r) / name, weights_only=True) for r in ("whole", results))
        for content in (one, other):
            content.get("training", {}).get("options", {}).pop("attempt", None)
        assert same(one, other), name


@pytest.mark.parametrize("move", [0, 2])
def test_a_killed_shipping_is_mended_by_resume(base, tmp_path, move):
    shutil.copytree(base / "weights", tmp_path / "weights", ignore=shutil.ignore_patterns("q4_wgan_toy.pt", "SHA*"))
    classifier = (base / "weights/q4_classifier_toy.pt").read_bytes()
    files.ship(tmp_path / "weights", {"q4_classifier_toy.pt": classifier})
    (tmp_path / "data").symlink_to(base / "data")
    done = train(tmp_path, "results", prepare=(killed_in_move, move))
    assert done.returncode == KILLED
    done = train(tmp_path, "results", "--resume")
    assert done.returncode == 0 and "shipped" in done.stdout, done.stderr
    assert files.read_shipped(tmp_path / "weights/q4_wgan_toy.pt", "")
    assert (tmp_path / "results/q4/wgan_toy_losses.csv").exists()
    assert (tmp_path / "results/q4/wgan_toy_grids.npz").exists()


def test_a_failure_ships_nothing(base):
    before = (base / "weights/q4_wgan_toy.pt").read_bytes()
    done = train(base, "failed", prepare=(diverging,))
    assert done.returncode == 1 and "NaN" in done.stdout, done.stderr
    assert (base / "weights/q4_wgan_toy.pt").read_bytes() == before
    assert not (base / "failed/q4/wgan_toy_losses.csv").exists()


def test_the_ledger_counts_attempts_once(tmp_path):
    """And those of another objective, architecture or data set are others."""
    wgan = {"model": "wgan", "objective": "wgan-gp", "arch": "conv"}
    dcgan = {"model": "dcgan", "objective": "dcgan", "arch": "conv"}
    for attempt, options, outcome in (
            ("a", wgan, "started"), ("a", wgan, "failed"), ("b", dcgan, "failed"), ("g", wgan, "given up"),
            ("x", wgan | {"objective": "wgan-clip"}, "failed"), ("y", wgan | {"dataset": "toy"}, "failed"),
            ("z", wgan | {"arch": "resnet"}, "failed"), ("c", wgan, "converged"), ("d", wgan, "failed")):
        ledger.record(tmp_path, {"attempt": attempt, **options, "iterations": 2000}, outcome=outcome, reason=outcome)
    ledger.record(tmp_path, {"attempt": "trial", **wgan, "iterations": 1999}, outcome="failed")
    attempts = ledger.attempts(tmp_path / "q4/attempts.jsonl")
    assert [a["attempt"] for a in attempts] == ["a", "b", "g", "x", "y", "z", "c", "d"]
    assert ledger.counts(attempts, wgan | {"dataset": "fashion"}) == {
        "attempts": 4, "converged": 1, "failed": 2, "given_up": 1, "interrupted": 0, "failed_before_first_success": 1}
    assert ledger.counts(attempts, dcgan)["failed_before_first_success"] is None


@pytest.mark.parametrize("name", ["options.json", "checkpoint.pt", "outcome.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe{"])
def test_damaged_run_folders(base, tmp_path, name, content):
    (tmp_path / "data").symlink_to(base / "data")
    shutil.copytree(base / "whole", tmp_path / "whole")
    if name == "checkpoint.pt":
        (folder(tmp_path, "whole") / "outcome.json").unlink()
    (folder(tmp_path, "whole") / name).write_bytes(content)
    one_line(train(tmp_path, "whole", "--resume", weights=base / "weights"), name)


@pytest.mark.parametrize("words, message", [
    (("--model", "dcgan", "--penalty", "gp"), "--penalty"), (("--iterations", 0), "--iterations"),
    (("--lr", -1), "--lr"), (("--lr", "1e29"), "--lr"), (("--batch", 101), "--batch"),
    (("--resume",), "no run to go on with"),
    (("--penalty-images", 9), "at most the 8"), (("--beta1", 1), "below 1"), (("--seed", 2**32), "--seed"),
    (("--dim", 10_000_000), "--dim"), (("--name", ""), "name"), (("--dataset", "absent"), "absent"),
    (("--resume", "--quick"), "--quick"), (("--penalty", "clip", "--beta1", 0), "clipping")])
def test_bad_input_is_one_line_and_leaves_nothing(base, tmp_path, words, message):
    (tmp_path / "data").symlink_to(base / "data")
    one_line(train(tmp_path, "results", *words, weights=base / "weights"), message)
    assert not list((tmp_path / "results").glob("runs/*"))


def test_quick_keeps_nothing(base, tmp_path):
    (tmp_path / "data").symlink_to(base / "data")
    done = train(tmp_path, "results", "--quick", weights=base / "weights", options=OPTIONS[:6], prepare=None)
    assert done.returncode == 0 and "nothing of this was kept" in done.stdout, done.stderr
    assert not (tmp_path / "results").exists()


def test_options_are_recorded_whole(base):
    options = json.loads((folder(base, "whole") / "options.json").read_text())
    found = [options.get(key) for key in ("learning_rate", "generator_learning_rate", "beta1", "penalty_images")]
    assert found == ([2e-4, None, None, None] if DEVICE == "cuda" else [8e-4, 3e-3, 0.0, 8]) and options["commit"]
