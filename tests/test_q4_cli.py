"""q4_wgan's generate.py and train_classifier.py as a user types them, and the two generators that ship."""

import numpy as np
import pytest
import torch
from helpers import ROOT, make_dataset, one_line, run_script
from PIL import Image

import q4_wgan
from q4_wgan import files, sampling, train
from q4_wgan.networks import make_generator


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Weights of a generator that was never trained."""
    base = tmp_path_factory.mktemp("q4")
    torch.manual_seed(0)
    content = {"model": "wgan", "dataset": "toy", "arch": "conv", "dim": 2, "state": make_generator("conv", 2).state_dict()}
    files.ship(base / "weights", {"q4_wgan_toy.pt": files.as_torch(content)})
    return base


def generate(base, *words):
    return run_script("q4_wgan/generate.py", "--model", "wgan", "--dataset", "toy", *words, "--weights-dir",
                      base / "weights", "--results-dir", base / "results")


def test_a_seed_is_the_same_image_in_any_company(base, tmp_path):
    for words, out in ((("--seeds", "7"), "one"), (("--seeds", "5,7,5-9"), "many")):
        done = generate(base, *words, "--separate", "--out", tmp_path / out)
        assert done.returncode == 0, done.stderr
    assert "saved 5 pictures" in done.stdout and len(list((tmp_path / "many").iterdir())) == 5
    alone = np.array(Image.open(tmp_path / "one/seed0007.png"))
    assert (alone == np.array(Image.open(tmp_path / "many/seed0007.png"))).all()
    assert (alone == q4_wgan.generate("wgan", [7, 1], "toy", base / "weights")[0]).all()


def test_walk_as_gif_and_default_names(base, tmp_path):
    done = generate(base, "--interpolate", "3", "8", "--steps", "5", "--out", tmp_path / "walk.gif")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "walk.gif").n_frames == 8  # there and back
    for words in (("--seeds", "0-3"), ("--seeds", "4-7"), ("--interpolate", "0", "3")):
        assert generate(base, *words).returncode == 0
    assert len(list((base / "results/runs").glob("generated_*.png"))) == 3


def test_the_first_seeds_of_a_class():
    done = run_script("q4_wgan/generate.py", "--model", "wgan", "--label", "sneaker", "--seeds", "0-1", "--out", "x.png")
    assert done.returncode == 0 and "class Sneaker" in done.stdout, done.stderr


@pytest.mark.parametrize("words, message", [
    (("--seeds", "x"), "seeds"), (("--seeds", "4294967296"), "--seeds"), (("--seeds", "5-3"), "upwards"),
    (("--label", "hat"), "no class"), (("--confidence", 1), "--confidence"), (("--steps", 5), "--interpolate"),
    (("--out", "x.jpg"), ".png"), (("--seeds", "0-4000", "--scale", 64), "pixels"), (("--weights", "none.pt"), "none.pt"),
    (("--interpolate", 1, 2, "--separate"), "--separate"), (("--out", ""), "--out")])
def test_bad_input_is_one_line(base, words, message):
    one_line(generate(base, *words), message)


def test_damaged_weights(base, tmp_path):
    (tmp_path / "weights").mkdir()
    data = (base / "weights/q4_wgan_toy.pt").read_bytes()
    (tmp_path / "weights/q4_wgan_toy.pt").write_bytes(data[:-1] + b"x")
    (tmp_path / "weights/SHA256SUMS").write_bytes((base / "weights/SHA256SUMS").read_bytes())
    one_line(generate(tmp_path), "SHA-256")


def test_train_classifier_ships_weights_and_scores(tmp_path):
    make_dataset(tmp_path / "data")
    folders = [word for name in ("data", "weights", "results") for word in (f"--{name}-dir", tmp_path / name)]
    words = ("--dataset", "toy", "--epochs", 2, "--device", "cpu")
    done = run_script("q4_wgan/train_classifier.py", *words, "--quick", *folders)
    assert done.returncode == 0 and not (tmp_path / "weights").exists(), done.stderr
    done = run_script("q4_wgan/train_classifier.py", *words, *folders)
    assert done.returncode == 0, done.stderr
    assert q4_wgan.sampling.files.read_shipped(tmp_path / "weights/q4_classifier_toy.pt", "")
    assert (tmp_path / "results/q4/classifier_toy.json").exists()


def test_what_ships_has_the_default_settings():
    for model in sampling.MODELS:
        _, content = sampling.load_generator(ROOT / f"weights/q4_{model}.pt", model)
        settings = train.default_settings(content["objective"], torch.device("cpu"))
        names = ("learning_rate", "generator_learning_rate", "beta1", "penalty_images")
        assert {name: content.get(name) for name in names} == {name: settings.get(name) for name in names}
        assert [content[key] for key in ("iterations", "batch", "arch", "dim", "seed")] == [22_000, 64, "conv", 64, 0]
