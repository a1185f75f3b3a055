"""q4_wgan's training on a small data set: killed and gone on with, looked at, ended, failed, refused."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from helpers import KILLED, die, make_classifier, make_dataset, one_line, run_script
from PIL import Image

from q4_wgan import run, training
from q4_wgan.training import Training

DEVICE = os.environ.get("DEVICE", "cpu")  # DEVICE=cuda python -m pytest tests/test_q4_train.py: the same on a GPU
LOOK = {"generator.pt", "losses.png", "metrics.csv", "samples.png"}  # what a user looks at, and draws from


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small data set and a classifier of it."""
    base = tmp_path_factory.mktemp("q4")
    make_dataset(base / "data")
    make_classifier(base)
    return base


def few():
    training.NORM_IMAGES = 512


def often(save=0):
    """Write and measure within 14 iterations what takes thousands; a checkpoint after every one, or none."""
    few()
    run.LOG_EVERY, run.SAVE_EVERY, run.GRIDS = 4, save, (3,)
    run.plots.losses = lambda *_: b"a picture that takes a second to draw"
    driver = run.run

    def driven(options, world, folder, moments, *more, **how):
        return driver(options, world, folder, {6}, *more, **how)
    run.run = driven


def at_iteration(iteration, how, save=0):
    often(save)
    step = Training.step

    def stepping(self):
        step(self)
        if self.iteration == iteration:
            how(self)
    Training.step = stepping


def killed(training):
    die()


def interrupted(training):
    os.kill(os.getpid(), signal.SIGINT)


def diverging(training):
    training.critic.linear.weight.data.mul_(float("inf"))


def train(base, name, *words, model="wgan", prepare=(often,)):
    return run_script("q4_wgan/train.py", "--model", model, "--dataset", "toy", "--dim", 2, "--batch", 8, "--iterations",
                      14, "--seed", 3, "--device", DEVICE, "--precision", "float32", "--name", name, "--data-dir",
                      base / "data", "--results-dir", base / "results", *words, prepare=prepare)


def whole(base, model):
    """The folder of a run that nothing interrupted; trained when first asked for."""
    folder = base / "results/runs" / model
    if not folder.exists():
        done = train(base, model, model=model)
        assert done.returncode == 0, done.stderr
    return folder


def content(folder):
    """All that a run left, but for the time that it took."""
    pieces = torch.load(folder / "generator.pt", weights_only=True)
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    outcome, grids = json.loads((folder / "outcome.json").read_text()), np.load(folder / "grids.npz")
    for part in (pieces, outcome, *rows):
        part.pop("seconds", None)
        part.pop("core_seconds", None)
    state = {name: value.numpy().tobytes() for name, value in pieces.pop("state").items()}
    return (state, pieces, rows, outcome, grids["iterations"].tolist(), grids["images"].tobytes(),
            (folder / "samples.png").read_bytes())


@pytest.mark.parametrize("model, how, save", [
    ("wgan", killed, 0), ("wgan", interrupted, 60), ("dcgan", killed, 0), ("wgan-clip", killed, 60)])
def test_the_same_command_goes_on_to_the_same_bits(base, model, how, save):
    name = f"{model}_{how.__name__}"
    folder = base / "results/runs" / name
    done = train(base, name, model=model, prepare=(at_iteration, 9, how, save))
    assert done.returncode == (130 if how is interrupted else KILLED), done.stderr
    assert LOOK <= set(os.listdir(folder)) and "outcome.json" not in os.listdir(folder)  # measured at iteration 6
    assert Image.open(folder / "samples.png").size[0] > 600
    if how is interrupted:
        assert done.stdout.splitlines()[-1] == f"python q4_wgan/generate.py --run {folder}"
    drawn = run_script("q4_wgan/generate.py", "--run", folder, "--seeds", 1)
    assert drawn.returncode == 0 and (folder / "generated_1.png").exists(), drawn.stderr
    one_line(train(base, name, "--batch", 9, model=model), "batch 8, not 9", "--name")
    done = train(base, name, model=model)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].endswith(f"--run {folder}"), done.stderr
    assert content(folder) == content(whole(base, model))
    assert not (folder / "checkpoint.pt").exists()


def test_a_run_that_has_ended(base):
    folder = whole(base, "wgan")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == LOOK | {"options.json", "outcome.json", "grids.npz"}
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["iteration"] for row in rows] == ["4", "6", "8", "12", "14"]
    assert [row["iteration"] for row in rows if row["relative_distance"] and row["validation_wasserstein"]] == ["6", "14"]
    assert np.load(folder / "grids.npz")["iterations"].tolist() == [3, 14]
    assert json.loads(before["options.json"])["objective"] == "wgan-gp" and json.loads(before["options.json"])["commit"]
    done = train(base, "wgan")
    assert done.returncode == 0 and "has ended" in done.stdout and done.stdout.endswith(f"--run {folder}\n"), done.stderr
    for option, value in (("--iterations", 15), ("--seed", 4), ("--dim", 3), ("--critic-steps", 2)):
        one_line(train(base, "wgan", option, value), f"{option[2:]} ", f"not {value}", "--name")
    one_line(train(base, "wgan", model="dcgan"), "wgan-gp, not dcgan", "--name")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_training_that_diverges_keeps_its_last_good_generator(base):
    done = train(base, "diverged", prepare=(at_iteration, 8, diverging))
    assert done.returncode == 0 and "diverged: a loss is NaN or infinite" in done.stdout, done.stderr
    folder = base / "results/runs/diverged"
    outcome = json.loads((folder / "outcome.json").read_text(), parse_constant=pytest.fail)
    assert outcome["outcome"] == "diverged" and outcome["reached"] == 12
    state = torch.load(folder / "generator.pt", weights_only=True)
    assert state["reached"] == 6 and all(value.isfinite().all() for value in state["state"].values())
    assert "diverged" in train(base, "diverged").stdout


def beside(base, folder):
    """The same data and classifier in another folder."""
    shutil.copytree(base / "results/runs/q4_classifier_toy", folder / "results/runs/q4_classifier_toy")
    (folder / "data").symlink_to(base / "data")


def test_identical_images_are_one_line(base, tmp_path):
    make_dataset(tmp_path / "data", train=60, test=20)
    images = tmp_path / "data/toy/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:16] + bytes(60 * 784))
    shutil.copytree(base / "results/runs/q4_classifier_toy", tmp_path / "results/runs/q4_classifier_toy")
    done = train(tmp_path, "black")
    assert done.returncode == 2 and "alike" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["options.json", "checkpoint.pt", "outcome.json"])
@pytest.mark.parametrize("data", [b"", b"[]", b"\xff\xfe{"])
def test_damaged_run_folders(base, tmp_path, name, data):
    beside(base, tmp_path)
    shutil.copytree(whole(base, "wgan"), tmp_path / "results/runs/x")
    if name == "checkpoint.pt":
        (tmp_path / "results/runs/x/outcome.json").unlink()
    (tmp_path / "results/runs/x" / name).write_bytes(data)
    one_line(train(tmp_path, "x"), name, "damaged")


@pytest.mark.skipif(DEVICE != "cpu", reason="of a run that was elsewhere")
def test_a_run_that_was_on_another_device(base):
    done = train(base, "elsewhere", prepare=(at_iteration, 3, killed))
    assert done.returncode == KILLED
    options = base / "results/runs/elsewhere/options.json"
    options.write_text(options.read_text().replace('"cpu"', '"cuda"'))
    for device in ("cpu", "auto"):
        one_line(train(base, "elsewhere", "--device", device), "cuda")


@pytest.mark.parametrize("words, message", [
    (("--iterations", 0), "--iterations"), (("--learning-rate", -1), "--learning-rate"), (("--learning-rate", "1e29"), "--learning-rate"), (("--learning-rate", "nan"), "--learning-rate"),
    (("--batch", 101), "at most the 100"), (("--model", "dcgan", "--penalty-images", 9), "--penalty-images"),
    (("--model", "wgan-clip", "--beta1", 0.5), "--beta1"), (("--beta1", 1), "--beta1"), (("--seed", 2**32), "--seed"),
    (("--dim", 10_000_000), "--dim"), (("--name", ""), "name"), (("--name", "a/b"), "a/b"), (("--dataset", "absent"), "absent"),
    (("--data-dir", ""), "--data-dir"), (("--data-dir", "/nowhere"), "/nowhere"), (("--results-dir", "/proc"), "/proc"),
    (("--iter", 3), "--iter"), (("--device", "tpu"), "tpu"), (("--critic-steps", 0), "--critic-steps")])
def test_bad_input_is_one_line_and_leaves_nothing(base, words, message):
    one_line(train(base, "bad", *words), message)
    assert not (base / "results/runs/bad").exists()


def test_quick_keeps_nothing(base, tmp_path):
    beside(base, tmp_path)
    done = train(tmp_path, "quick", "--quick", model="dcgan")
    assert done.returncode == 0 and "nothing of it was kept" in done.stdout and "tmp" not in done.stdout, done.stderr
    assert os.listdir(tmp_path / "results/runs") == ["q4_classifier_toy"]


def test_short_and_paper_settings(base):
    """What was given, else the table's; a run that is killed at once has them in its folder."""
    for name, words, wanted in (
            ("short", ("--model", "wgan"), [1.5e-3, 7.4e-3, 0.0, 8, 1]),
            ("paper", ("--model", "wgan", "--paper"), [2e-4, 2e-4, 0.5, 8, 5]),
            ("lr", ("--model", "wgan", "--learning-rate", 0.01), [0.01, 0.01, 0.0, 8, 1]),
            ("two", ("--model", "wgan", "--learning-rate", 0.01, "--generator-learning-rate", 0.02, "--critic-steps", 2), [0.01, 0.02, 0.0, 8, 2]),
            ("clip", ("--model", "wgan-clip", "--paper"), [5e-5, 5e-5, None, None, 5])):
        assert train(base, name, *words, prepare=(at_iteration, 1, killed)).returncode == KILLED
        options = json.loads((base / "results/runs" / name / "options.json").read_text())
        keys = ("learning_rate", "generator_learning_rate", "beta1", "penalty_images", "critic_steps")
        assert [options.get(key) for key in keys] == wanted, name
    one_line(train(base, "two", "--learning-rate", 0.01, "--critic-steps", 2), "generator-learning-rate 0.02, not 0.01")


def test_ones_own_images_through_the_whole_chain(tmp_path):
    """Each command ends with the next one; nothing is written but results/runs."""
    make_dataset(tmp_path / "data", name="mine")
    folders = ("--data-dir", tmp_path / "data", "--results-dir", tmp_path / "results")
    runs, known = tmp_path / "results/runs", ("--dataset", "mine", *folders, "--device", DEVICE)
    one_line(run_script("q4_wgan/train.py", "--model", "wgan", *known), "train_classifier.py --dataset mine")
    done = run_script("q4_wgan/train_classifier.py", *known, "--epochs", 3)
    assert done.returncode == 0 and done.stdout.endswith("python q4_wgan/train.py --model wgan --dataset mine\n"), done.stderr
    assert json.loads((runs / "q4_classifier_mine/outcome.json").read_text())["test_accuracy"] > 0.5
    small = ("--dim", 8, "--batch", 8, "--iterations", 3, "--arch", "resnet")
    done = run_script("q4_wgan/train.py", "--model", "dcgan", *known, *small, prepare=(few,))
    assert done.returncode == 0, done.stderr
    assert Image.open(runs / "q4_dcgan-resnet_mine_batch8_dim8_iterations3_seed0/losses.png").size == (2100, 600)
    script, *words = done.stdout.splitlines()[-1].removeprefix("python ").split()
    assert words == ["--run", str(runs / "q4_dcgan-resnet_mine_batch8_dim8_iterations3_seed0")]
    assert run_script(script, *words).returncode == 0
    done = run_script("q4_wgan/evaluate.py", *words, *folders, "--repeats", 2)
    assert done.returncode == 0, done.stderr
    scores = json.loads((runs / "q4_dcgan-resnet_mine_batch8_dim8_iterations3_seed0/scores.json").read_text())
    assert scores["real"]["images"] == 100 and scores["runs/q4_dcgan-resnet_mine_batch8_dim8_iterations3_seed0"]["relative_distance"]["mean"] > 1
    assert os.listdir(tmp_path / "results") == ["runs"] and os.listdir(tmp_path / "data") == ["mine"]


def test_the_classifier_killed_and_gone_on_with(tmp_path):
    make_dataset(tmp_path / "data")
    words = ("--dataset", "toy", "--epochs", 3, "--data-dir", tmp_path / "data", "--results-dir", tmp_path / "results")
    states = []
    for name, prepare in (("whole", None), ("killed", (killed_after_epoch, 2)), ("killed", None)):
        done = run_script("q4_wgan/train_classifier.py", *words, "--name", name, prepare=prepare)
        assert done.returncode == (KILLED if prepare else 0), done.stderr
        file = tmp_path / "results/runs" / name / "classifier.pt"
        states.append(torch.load(file, weights_only=True)["state"] if file.exists() else None)
    assert all(torch.equal(value, states[2][key]) for key, value in states[0].items())
    done = run_script("q4_wgan/train_classifier.py", *words, "--name", "whole")
    assert done.returncode == 0 and "has ended" in done.stdout, done.stderr
    one_line(run_script("q4_wgan/train_classifier.py", *words, "--name", "whole", "--epochs", 4), "epochs 3, not 4", "--name")


def killed_after_epoch(number):
    from q4_wgan import command
    write, checkpoints = command.write, []

    def writing(path, *more, **how):
        write(path, *more, **how)
        checkpoints.extend([path] * (path.name == "checkpoint.pt"))
        if len(checkpoints) == number:
            die()
    command.write = writing
