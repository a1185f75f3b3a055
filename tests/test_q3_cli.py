"""Question 3's command lines on a small data set: train, test, kill and resume, bad input; and use from Python."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import KILLED, ROOT, die, idx, make_dataset, one_line, run_script

import q3_vae_m1
from q3_vae_m1 import classifiers, command, files, plots, vae
from q3_vae_m1 import test as test_script
from q3_vae_m1 import train as train_script

SHORT = ("--epochs", "2", "--precision", "float32")
PICTURES = {"loss.png", "reconstructions.png", "samples.png", "latent.png"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data set, and a run with classifiers on 20 and 50 labels."""
    base = tmp_path_factory.mktemp("q3")
    make_dataset(base / "data")
    done = train(base, "--labels", "20", "50", *SHORT, pictures=True)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert train(base, "--labels", "20", "--classifier", "transductive", *SHORT).returncode == 0
    return base


def words(base, *more, name="whole"):
    return list(map(str, ["--dataset", "toy", "--data-dir", base / "data", "--results-dir", base, "--name", name, *more]))


def train(base, *more, name="whole", prepare=(), pictures=False):
    """`prepare`: a function and its words, called before the script. Pictures take most of the time: bytes, else."""
    return run_script("q3_vae_m1/train.py", *words(base, *more, name=name), prepare=(before, pictures, *prepare))


def before(pictures, function=None, *more):
    """In the script's process."""
    plots.OURS["savefig.dpi"] = 30
    if not pictures:
        for name in ("loss", "reconstructions", "samples", "latent", "confusion"):
            setattr(plots, name, lambda *words: b"a picture")
    if function:
        function(*more)


def test(base, *more, name="whole"):
    return run_script("q3_vae_m1/test.py", "--run", base / "runs" / name, "--data-dir", base / "data", *more)


test.__test__ = False


def here(monkeypatch, script, *line):
    """A script in this process, which spares the imports: the exception that run_main would report, or None."""
    monkeypatch.setattr(sys, "argv", [script.__file__, *map(str, line)])
    try:
        script.main()
    except (command.UserError, OSError, KeyboardInterrupt) as error:
        return error


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def weights(folder):
    return torch.load(folder / "vae.pt", weights_only=True)["parameters"]


# ---- what comes out ------------------------------------------------------------------------------

def test_a_run_is_complete_in_itself(world):
    folder = world / "runs/whole"
    stems = ("svm_20", "svm_50", "transductive_20")
    assert {path.name for path in folder.iterdir()} == PICTURES | {"options.json", "metrics.csv", "vae.pt", "vae.json"} | {
        f"{stem}.{ending}" for stem in stems for ending in ("joblib", "json", "png")}
    assert all((folder / name).stat().st_size > 2000 for name in PICTURES)
    told = json.loads((folder / "svm_20.json").read_text(encoding="utf-8"))
    assert told["images"] == 100 and np.array(told["confusion"]).sum() == 100 and told["error"] < 50
    _, trained = vae.load(folder)
    assert trained["settings"] == vae.settings("toy", epochs=2) and trained["precision"] == "float32"
    rows = list(csv.DictReader((folder / "metrics.csv").open(encoding="utf-8")))
    assert [row["epoch"] for row in rows] == ["1", "2"] and 0 < float(rows[0]["seconds"]) < float(rows[1]["seconds"])


def test_the_last_line_is_the_command_that_tests_the_run(world):
    done = train(world, "--labels", "20", *SHORT)
    python, script, *line = done.stdout.strip().splitlines()[-1].split()
    assert (python, script) == ("python", "q3_vae_m1/test.py")
    tested = run_script(script, *line, "--labels", "20")
    told = json.loads((world / "runs/whole/svm_20.json").read_text(encoding="utf-8"))
    assert tested.returncode == 0 and f"test error {told['error']:.2f} %" in tested.stdout, tested.stderr
    assert test(world, "--classifier", "transductive").returncode == 0


def test_an_ended_run_says_so_and_more_labels_add_classifiers(world):
    before = contents(world / "runs/whole")
    done = train(world, "--labels", "50", "20", *SHORT)
    assert done.returncode == 0 and done.stdout.count("fitted before") == 2 and contents(world / "runs/whole") == before
    shutil.copytree(world / "runs/whole", world / "runs/more")
    assert train(world, "--labels", "30", *SHORT, name="more").returncode == 0
    after = contents(world / "runs/more")
    assert after.keys() - before.keys() == {f"svm_30.{ending}" for ending in ("joblib", "json", "png")}
    assert all(after[name] == before[name] for name in before)


def test_what_ships_is_copied_into_the_run_and_never_written(tmp_path, monkeypatch):
    """With a data set that has a shipped VAE, here a toy called mnist_bernoulli, which is no variant of MNIST."""
    ships = tmp_path / "weights"
    make_dataset(tmp_path / "data", "mnist_bernoulli")
    shutil.copytree(ROOT / "weights/q3_mnist_bernoulli", ships / "q3_mnist_bernoulli")
    shutil.copytree(ROOT / "weights/q3_mnist", ships / "q3_mnist")
    monkeypatch.setattr(train_script, "shipped", lambda dataset, likelihood: ships / f"q3_{dataset}")
    line = ("--dataset", "mnist_bernoulli", "--data-dir", tmp_path / "data", "--results-dir", tmp_path, "--labels", "20")
    before = contents(ships)
    assert here(monkeypatch, train_script, *line) is None
    [folder] = (tmp_path / "runs").iterdir()
    assert PICTURES | {"vae.pt", "vae.json", "options.json", "svm_20.joblib"} < {path.name for path in folder.iterdir()}
    assert contents(ships) == before and (folder / "vae.pt").read_bytes() == before["q3_mnist_bernoulli/vae.pt"]


def test_default_names_keep_runs_apart(monkeypatch):
    names = set()
    lines = ("", "--retrain", "--epochs 3", "--kl-weight 3", "--vae-seed 3", "--seed 3", "--likelihood bernoulli",
             "--dataset mnist", "--dataset mnist --likelihood bernoulli", "--dataset mnist_bernoulli")
    for line in lines:
        monkeypatch.setattr(sys, "argv", ["train.py", *line.split()])
        names.add(train_script.describe_run(train_script.arguments())[1])
    assert len(names) == len(lines)


def test_quick_keeps_nothing(world):
    done = run_script("q3_vae_m1/train.py", "--dataset", "toy", "--data-dir", world / "data", "--results-dir",
                      world / "quick", "--quick", "--labels", "20", prepare=(before, False))
    assert done.returncode == 0 and "20 labels" in done.stdout and "nothing of this was kept" in done.stdout
    assert not (world / "quick").exists() and "/tmp" not in done.stdout


def test_a_classifier_loads_without_this_repository(world):
    code = (f"import joblib; svm = joblib.load({str(world / 'runs/whole/svm_20.joblib')!r})['svm']\n"
            "print(svm.predict([[0.0] * 50]), svm.kernel)")
    done = subprocess.run([sys.executable, "-c", code], cwd=world, capture_output=True, text=True)
    assert done.returncode == 0 and "length_scale" in done.stdout, done.stderr


@pytest.mark.parametrize("n, classes, alike", [(60, 2, False), (300, 10, True)])
def test_small_sets_few_classes_and_images_that_are_alike(tmp_path, monkeypatch, n, classes, alike):
    """60 images of two classes, sorted; 300 black images. The test set lacks a class."""
    raw = make_dataset(tmp_path / "data", train=n, test=40) / "toy/raw"
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.sort(np.arange(n) % classes).astype(np.uint8)))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx((np.arange(40) % (classes - 1)).astype(np.uint8)))
    if alike:
        (raw / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((n, 28, 28), np.uint8)))
    monkeypatch.setitem(plots.OURS, "savefig.dpi", 30)
    for classifier in classifiers.CLASSIFIERS:
        assert here(monkeypatch, train_script, *words(tmp_path, *SHORT, "--classifier", classifier)) is None
    told = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "runs/whole").glob("svm_*.json")]
    assert len(told) == 1 and told[0]["error_per_class"][classes - 1] is None and told[0]["labels"] <= n


# ---- killed and interrupted ----------------------------------------------------------------------

def ends_at(count, what, how, checkpoints=0):
    """In the script's process: `how` happens at the `count`-th file moved to a name that holds `what`."""
    vae.CHECKPOINT_EVERY = checkpoints  # seconds
    left, replace = [count], os.replace

    def ending(old, new):
        left[0] -= what in str(new)
        if not left[0] and what in str(new):
            die() if how == "kill" else exec("raise KeyboardInterrupt")
        replace(old, new)
    os.replace = ending


@pytest.mark.parametrize("what, count", [("checkpoint.pt", 4), ("checkpoint.pt", 1), ("metrics.csv", 2), ("vae.pt", 1),
                                         ("svm_20.json", 1), ("latent.png", 1)])
def test_killed_and_gone_on_with_to_the_same_bits(world, what, count):
    """In the middle of an epoch, too: an epoch is two steps."""
    name, line = f"killed_{what}_{count}", ("--labels", "20", "50", *SHORT)
    assert train(world, *line, name=name, prepare=(ends_at, count, what, "kill")).returncode == KILLED
    done = train(world, *line, name=name)
    assert done.returncode == 0, done.stderr
    whole, other = weights(world / "runs/whole"), weights(world / "runs" / name)
    assert all(torch.equal(whole[key], other[key]) for key in whole)
    assert not (world / "runs" / name / "checkpoint.pt").exists() and (world / "runs" / name / "svm_50.json").exists()


def test_ctrl_c_is_one_line_that_says_how_to_go_on(world):
    done = train(world, "--labels", "20", *SHORT, name="ctrl_c", prepare=(ends_at, 1, "metrics.csv", "Ctrl-C"))
    assert done.returncode == 130 and "the same command goes on" in done.stderr and "Traceback" not in done.stderr


def test_other_options_in_the_same_folder_are_refused(world, monkeypatch):
    for more, message in ((("--epochs", "3"), "epochs 2, not 3"), (("--precision", "bfloat16"), "precision float32"),
                          (("--seed", "1"), "seed 0, not 1"), (("--likelihood", "bernoulli"), "likelihood gaussian"),
                          (("--vae-seed", "4"), "vae-seed 0, not 4")):
        error = here(monkeypatch, train_script, *words(world, "--labels", "20", *SHORT, *more))
        assert isinstance(error, command.UserError) and message in str(error) and "--name" in str(error)


# ---- bad input -----------------------------------------------------------------------------------

@pytest.mark.parametrize("script, line, message", [
    (train_script, ["--labels", "101"], "multiple of 10"), (train_script, ["--labels", "0"], "whole number"),
    (train_script, ["--labels", "x"], "whole number"), (train_script, ["--labels", "2000"], "at most 460"),
    (train_script, ["--labels"], "--labels"), (train_script, ["--lab", "20"], "unrecognized"),
    (train_script, ["--epochs", "0"], "--epochs"), (train_script, ["--epochs", "1.5"], "--epochs"),
    (train_script, ["--learning-rate", "nan"], "--learning-rate"), (train_script, ["--distort", "-1"], "--distort"),
    (train_script, ["--kl-weight", "inf"], "--kl-weight"), (train_script, ["--name", "a/b"], "--name"),
    (train_script, ["--seed", "1" * 20], "--seed"), (train_script, ["--vae-seed", "4294967301"], "--vae-seed"),
    (train_script, ["--dataset", "a/b"], "--dataset"), (train_script, ["--dataset", "nowhere"], "no images"),
    (train_script, ["--data-dir", ""], "--data-dir"), (train_script, ["--results-dir", " "], "--results-dir"),
    (train_script, ["--device", "tpu"], "--device"), (train_script, ["--classifier", "tree"], "--classifier"),
    (train_script, ["a word"], "unrecognized"), (test_script, ["--labels", "600"], "of 20, 50 labels"),
    (test_script, ["--run", "nowhere"], "no vae.pt"), (test_script, ["--dataset", "mnist"], "is of toy"),
    (test_script, ["--seed", "1"], "unrecognized")])
def test_bad_input_is_one_line_and_leaves_nothing(world, monkeypatch, script, line, message):
    before = contents(world / "runs")
    usual = ["--run", world / "runs/whole"] if script is test_script else words(world, *SHORT, name="bad")
    error = here(monkeypatch, script, *usual, *line)
    assert isinstance(error, command.UserError) and message in str(error) and "\n" not in str(error)
    assert contents(world / "runs") == before


def test_errors_of_the_process_are_one_line(world):
    one_line(train(world, "--labels", "101", *SHORT), "multiple of 10")
    one_line(test(world, name="nowhere"), "no vae.pt")
    done = train(world, *SHORT, "--learning-rate", "10", "--epochs", "30", name="diverged")
    assert done.returncode == 2 and "training diverged in epoch" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["vae.pt", "svm_20.joblib"])
@pytest.mark.parametrize("data", [b"", b"junk", files.as_torch({"sizes": 3})])
def test_damaged_files_are_named(world, monkeypatch, tmp_path, name, data):
    shutil.copytree(world / "runs/whole", tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(data)
    error = here(monkeypatch, test_script, "--run", tmp_path / "run", "--labels", "20")
    assert isinstance(error, command.UserError) and name in str(error) and "\n" not in str(error)


# ---- machines and use from Python ----------------------------------------------------------------

def test_the_users_matplotlibrc_backend_and_terminal_decide_nothing(world, tmp_path, monkeypatch):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsavefig.format: pdf\nfont.size: 30\n", encoding="utf-8")
    more = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYTHONIOENCODING": "ascii", "PYTHONSAFEPATH": "1"}
    for name in ("é", "usual"):
        shutil.copytree(world / "runs/whole", tmp_path / name / "runs/whole")
    line = words(world, "--labels", "30", *SHORT)
    done = subprocess.run([sys.executable, ROOT / "q3_vae_m1/train.py", *line, "--results-dir", tmp_path / "é"],
                          env=os.environ | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert here(monkeypatch, train_script, *line, "--results-dir", tmp_path / "usual") is None
    assert contents(tmp_path / "é")["runs/whole/svm_30.png"] == contents(tmp_path / "usual")["runs/whole/svm_30.png"]


def test_the_doors_know_names_and_do_not_touch_the_callers_session(world):
    pixels = np.arange(3 * 784, dtype=np.uint8).reshape(3, 28, 28)
    run = world / "runs/whole"
    found = q3_vae_m1.features(pixels, dataset="MNIST")
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(found, q3_vae_m1.features(torch.from_numpy(pixels), dataset="mnist"))
        images = q3_vae_m1.sample(4, seed=3, dataset="FashionMNIST")
        assert torch.get_default_dtype() == torch.float64 and torch.equal(state, torch.get_rng_state())
    finally:
        torch.set_default_dtype(torch.float32)
    assert (found.shape, found.dtype, images.shape, images.dtype) == ((3, 50), np.float32, (4, 28, 28), np.uint8)
    assert np.array_equal(images, q3_vae_m1.sample(4, seed=3))
    codes = q3_vae_m1.features(pixels, run=run)
    assert np.array_equal(q3_vae_m1.decode(codes, run=str(run)), q3_vae_m1.reconstruct(pixels, run=run))
    for bad in (pixels / 255, pixels[0]):
        with pytest.raises(ValueError, match="28, 28"):
            q3_vae_m1.features(bad)
    with pytest.raises(command.UserError, match="kmnist"):
        q3_vae_m1.features(pixels, dataset="kmnist")
