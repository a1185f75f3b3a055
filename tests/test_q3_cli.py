"""Question 3's command lines on a small data set: train, test, kill and resume, what ships, bad input."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import KILLED, ROOT, die, make_dataset, one_line, run_script

QUICK = ("--epochs", "2", "--batch-size", "50", "--precision", "float32")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data set, and one VAE with classifiers on 20 and 50 labels trained on it."""
    base = tmp_path_factory.mktemp("q3")
    make_dataset(base / "data")
    done = run(base, "train.py", "--labels", "20", "50", *QUICK)
    assert done.returncode == 0, done.stderr
    assert run(base, "train.py", "--labels", "20", "--classifier", "transductive", *QUICK).returncode == 0
    return base


def run(base, script, *words, out="out", data=None, **more):
    folders = ["--data-dir", data or base / "data", "--weights-dir", base / out / "weights"]
    if script != "test.py":
        folders += ["--results-dir", base / out / "results"]
    return run_script(f"q3_vae_m1/{script}", "--dataset", "toy", *words, *folders, **more)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != ".lock" and "runs" not in path.parts}


def test_train_then_test(world):
    results = json.loads((world / "out/results/q3/classifiers_toy.json").read_text(encoding="utf-8"))
    report = results["svm"]["20"]
    assert report["images"] == 100 and np.array(report["confusion"]).sum() == 100
    for name in ("vae_toy_loss", "vae_toy_reconstructions", "vae_toy_samples", "vae_toy_latent", "confusion_toy"):
        assert (world / f"out/results/q3/{name}.png").stat().st_size > 5000
    for words in (["--labels", "20", "50"], ["--labels", "20", "--classifier", "transductive"]):
        done = run(world, "test.py", *words, "--out", world / "picture.png")
        assert done.returncode == 0 and (world / "picture.png").stat().st_size > 5000
    assert f"test error {report['error']:.2f} %" in run(world, "test.py", "--labels", "20").stdout


def test_the_same_again_writes_nothing(world):
    before = files_of(world / "out")
    done = run(world, "train.py", "--labels", "20", *QUICK)
    assert done.returncode == 0 and "trained before" in done.stdout
    assert files_of(world / "out") == before


def test_another_vae_orphans_its_classifiers(world):
    shutil.copytree(world / "out", world / "other")
    assert run(world, "train.py", "--labels", "20", *QUICK, "--vae-seed", "7", out="other").returncode == 0
    one_line(run(world, "test.py", "--labels", "50", out="other"), "another VAE", "--labels 50")


def die_at(kill, what):
    """In the script's process: it dies at the `kill`-th file that is moved, counting those whose name holds `what`."""
    count, replace = [0], os.replace

    def dying(old, new):
        count[0] += what in str(new)
        if count[0] == kill and what in str(new):
            die()
        replace(old, new)
    os.replace = dying


def test_killed_and_resumed_to_the_same_bits(world):
    words = ("train.py", "--labels", "20", *QUICK, "--epochs", "4", "--retrain")
    assert run(world, *words, out="whole").returncode == 0
    assert run(world, *words, out="killed", prepare=(die_at, 3, "checkpoint.pt")).returncode == KILLED
    one_line(run(world, *words[:-1], out="killed"), "--resume")
    one_line(run(world, "train.py", "--labels", "20", "--resume", "--epochs", "9", out="killed"), "--epochs", "keeps it")
    done = run(world, "train.py", "--labels", "20", "--resume", out="killed")
    assert done.returncode == 0, done.stderr
    whole, resumed = (torch.load(world / name / "weights/q3_vae_toy.pt", weights_only=True)["parameters"]
                      for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("kill", [1, 2, 3])
def test_killed_while_shipping_is_mended_by_the_next_command(world, kill):
    out = f"shipping{kill}"
    shutil.copytree(world / "out", world / out)
    (world / out / "weights/q3_svm_toy_20.joblib").unlink()
    words = ("train.py", "--labels", "20", *QUICK)
    for what in ("q3_svm_toy_20", "SHA256SUMS", "classifiers_toy.json")[kill - 1:kill]:
        assert run(world, *words, out=out, prepare=(die_at, 1, what)).returncode == KILLED
    assert run(world, *words, out=out).returncode == 0
    assert run(world, "test.py", "--labels", "20", "50", out=out).returncode == 0


@pytest.mark.parametrize("words, message", [
    (["train.py", "--labels", "101"], "multiple of 10"), (["train.py", "--labels", "0"], "whole number"),
    (["train.py", "--labels", "x"], "whole number"), (["train.py", "--labels", "2000"], "has only"),
    (["train.py", "--lab", "20"], "unrecognized"), (["train.py", "--epochs", "0"], "--epochs"),
    (["train.py", "--learning-rate", "nan"], "--learning-rate"), (["train.py", "--distort", "-1"], "--distort"),
    (["train.py", "--seed", "1" * 20], "--seed"), (["train.py", "--dataset", "a/b"], "--dataset"),
    (["train.py", "--dataset", "nowhere"], "no images"), (["train.py", "--data-dir", ""], "--data-dir"),
    (["train.py", "--labels", "20", "--resume"], "no interrupted training"), (["train.py", "--resume", "--retrain"], "not allowed"),
    (["test.py", "--labels", "600"], "train.py --dataset toy --likelihood gaussian --labels 600"),
    (["test.py", "--likelihood", "bernoulli"], "--retrain")])
def test_bad_input_is_one_line(world, words, message):
    script, *rest = words
    folders = ["--data-dir", world / "data", "--weights-dir", world / "out/weights"]
    folders += ["--results-dir", world / "bad"] if script == "train.py" else []
    one_line(run_script(f"q3_vae_m1/{script}", "--dataset", "toy", *folders, *rest), message)


def test_a_file_that_is_not_what_its_name_says(world):
    weights = world / "renamed/weights"
    shutil.copytree(world / "out/weights", weights)

    def move(old, new):
        shutil.copy(weights / old, weights / new)
        sums = (weights / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        digest = next(line.split()[0] for line in sums if line.endswith(old))
        kept = [line for line in sums if not line.endswith(f" {new}")]
        (weights / "SHA256SUMS").write_text("\n".join([*kept, f"{digest}  {new}"]) + "\n", encoding="utf-8")
    move("q3_svm_toy_20.joblib", "q3_svm_toy_100.joblib")
    one_line(run(world, "test.py", "--labels", "100", out="renamed"), "another labels")
    move("q3_transductive_toy_20.joblib", "q3_svm_toy_50.joblib")
    one_line(run(world, "test.py", "--labels", "50", out="renamed"), "classifier")
    move("q3_vae_toy.pt", "q3_vae_toy_bernoulli.pt")
    one_line(run(world, "test.py", "--likelihood", "bernoulli", out="renamed"), "should be named q3_vae_toy.pt")


def test_damaged_files_are_named(world):
    shutil.copytree(world / "out", world / "damaged")
    weights = world / "damaged/weights/q3_svm_toy_20.joblib"
    weights.write_bytes(weights.read_bytes()[:-7])
    one_line(run(world, "test.py", "--labels", "20", out="damaged"), "SHA-256", weights.name)
    folder = world / "damaged/results/runs/q3_vae_toy"
    for options, checkpoint in ((b"", b""), (b"{}", b"junk")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "options.json").write_bytes(options)
        (folder / "checkpoint.pt").write_bytes(checkpoint)
        one_line(run(world, "train.py", "--labels", "20", "--resume", out="damaged"), "options.json")


def test_quick_keeps_nothing(world):
    done = run(world, "train.py", "--quick", out="quick")
    assert done.returncode == 0 and "nothing" in done.stdout and not (world / "quick").exists()


def test_inherited_settings_and_closed_streams(world):
    """Jupyter's backend, a terminal of few letters, a reader that is gone, python -m, PYTHONSAFEPATH."""
    more = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii",
            "PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "q3_vae_m1.test", "--dataset", "toy", "--labels", "20", "--data-dir", world / "data",
             "--weights-dir", world / "out/weights", "--out", world / "module.png"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(list(map(str, words)), env=os.environ | more, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert (world / "module.png").exists()


def test_both_rooms_from_python(tmp_path):
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport q3_vae_m1, q4_wgan\n"
            "pictures = q4_wgan.generate('wgan', seeds=[7, 8])\nfeatures = q3_vae_m1.features(pictures)\n"
            "assert pictures.shape == (2, 28, 28) and pictures.dtype == 'uint8' and features.shape == (2, 50)\n"
            "try:\n    q3_vae_m1.features(pictures / 255)\nexcept ValueError as error:\n    print(error)\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "(n, 28, 28)" in done.stdout, done.stderr


def test_shipped_weights_match_their_sums():
    sys.path.insert(0, str(ROOT))
    from q3_vae_m1 import classifiers, features, files, vae
    for name in files.read_sums(ROOT / "weights"):
        files.read_shipped(ROOT / "weights" / name, "")
    for dataset in ("fashion", "mnist"):
        for likelihood in features.VAES.values():
            _, trained = vae.load_vae(vae.vae_path(ROOT / "weights", dataset, likelihood), "")
            assert trained["settings"] == vae.settings(dataset, likelihood)
        vae_sha256 = vae.load_vae(vae.vae_path(ROOT / "weights", dataset), "")[1]["sha256"]
        for classifier in classifiers.CLASSIFIERS:
            expected = {"dataset": dataset, "labels": 100, "classifier": classifier, "vae_sha256": vae_sha256}
            path = classifiers.classifier_path(ROOT / "weights", dataset, "gaussian", 100, classifier)
            assert classifiers.load_classifier(path, expected, "")["report"]["images"] == 10_000
