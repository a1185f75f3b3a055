"""q4_wgan's images from seeds and its classifier, as commands and from Python, on a small data set."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, make_dataset, one_line, run_script
from PIL import Image

import q4_wgan
from q4_wgan import classifier, files, sampling
from q4_wgan.command import UserError
from q4_wgan.networks import make_generator

OPTIONS = {"arch": "conv", "dim": 4, "iterations": 24, "seed": 3, "relative_distance": 2.0}


def weights(model, objective, dataset="toy", seed=0, arch="conv"):
    """The bytes of a generator that was never trained."""
    torch.manual_seed(seed)
    return files.as_torch({**OPTIONS, "model": model, "objective": objective, "arch": arch, "dataset": dataset,
                           "state": make_generator(arch, 4).state_dict()})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small data set, a classifier trained on it, and generators."""
    base = tmp_path_factory.mktemp("q4")
    make_dataset(base / "data")
    done = run_script("q4_wgan/train_classifier.py", "--dataset", "toy", "--epochs", 3, "--device", "cpu", "--data-dir",
                      base / "data", "--weights-dir", base / "weights", "--results-dir", base / "results")
    assert done.returncode == 0 and "shipped" in done.stdout, done.stderr
    files.ship(base / "weights", {"q4_wgan_toy.pt": weights("wgan", "wgan-gp"), "q4_dcgan_toy.pt": weights("dcgan", "dcgan", seed=1)})
    return base


def generate(base, *words, model="wgan", **how):
    return run_script("q4_wgan/generate.py", "--model", model, "--dataset", "toy", "--weights-dir", base / "weights",
                      "--results-dir", base / "results", *words, **how)


# ---- the classifier ------------------------------------------------------------------------------

def test_the_classifier_of_ones_own_images(base):
    scores = json.loads((base / "results/q4/classifier_toy.json").read_text())
    content = files.from_torch(files.read_shipped(base / "weights/q4_classifier_toy.pt", ""), "")
    assert scores["test_accuracy"] > 0.5 and content["test_accuracy"] == scores["test_accuracy"]
    network = classifier.load(base / "weights", "toy")
    pixels = torch.randint(0, 256, (7, 28, 28), dtype=torch.uint8)
    features, labels, confidences = classifier.classify(network, pixels, batch=3)
    assert features.shape == (7, 128) and labels.shape == (7,) and (confidences >= 0.1).all()


def test_a_missing_classifier_says_how_to_make_it(base, tmp_path):
    with pytest.raises(UserError, match="train_classifier.py --dataset absent"):
        classifier.load(base / "weights", "absent")
    assert classifier.load(tmp_path / "new").out.out_features == 10  # the shipped one: output folders are for output
    files.ship(tmp_path, {"q4_classifier_other.pt": (base / "weights/q4_classifier_toy.pt").read_bytes()})
    with pytest.raises(UserError, match="not a classifier of other"):
        classifier.load(tmp_path, "other")


def test_a_quick_classifier_ships_nothing(base, tmp_path):
    done = run_script("q4_wgan/train_classifier.py", "--dataset", "toy", "--quick", "--device", "cpu", "--data-dir",
                      base / "data", "--weights-dir", tmp_path / "weights", "--results-dir", tmp_path / "results")
    assert done.returncode == 0 and "nothing is shipped" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


# ---- images from seeds ---------------------------------------------------------------------------

def test_a_grid(base, tmp_path):
    done = generate(base, "--seeds", "0-3,7", "--out", tmp_path / "grid.png")
    assert done.returncode == 0 and str(tmp_path / "grid.png") in done.stdout, done.stderr
    assert Image.open(tmp_path / "grid.png").size == (4 * 88, 4 * 58)  # 3 columns, 2 rows, 2 pixels apart


def test_a_seed_is_the_same_image_in_any_company_and_from_python(base, tmp_path):
    for seeds, folder in (("7", "one"), ("0-63", "many")):
        done = generate(base, "--separate", "--seeds", seeds, "--out", tmp_path / folder, model="dcgan")
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "many").iterdir())) == 64
    one, same, other = (Image.open(tmp_path / name) for name in (
        "one/seed0007.png", "many/seed0007.png", "many/seed0008.png"))
    assert one.tobytes() == same.tobytes() != other.tobytes()
    pixels = q4_wgan.sampling.generate("dcgan", [8, 7], "toy", base / "weights")
    assert pixels.shape == (2, 28, 28) and pixels.dtype == np.uint8
    assert pixels[1].tobytes() == one.tobytes() and pixels[0].tobytes() == other.tobytes()


def test_the_shipped_generators_from_anywhere(tmp_path):
    """Both rooms in one process; the pixels of the first version of generate.py."""
    code = ("import q3_vae_m1, q4_wgan, hashlib\n"
            "for model in ('dcgan', 'wgan'):\n"
            "    print(hashlib.sha256(q4_wgan.generate(model, seeds=[7, 8]).tobytes()).hexdigest()[:16])")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pixels = [sampling.draw(sampling.load_generator(ROOT / f"weights/q4_{model}.pt", model)[0], sampling.latents([7, 8]))
              for model in ("dcgan", "wgan")]
    assert done.stdout.split() == [hashlib.sha256(p.numpy().tobytes()).hexdigest()[:16] for p in pixels]
    assert 20 < pixels[0].float().mean() < 150 and pixels[0].float().std() > 30  # garments, not noise


@pytest.mark.parametrize("start", [["q4_wgan/generate.py"], ["-m", "q4_wgan.generate"]])
def test_started_as_a_file_and_as_a_module(base, tmp_path, start):
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    if "-m" in start:
        environment["PYTHONPATH"] = str(ROOT)
    words = ["--model", "wgan", "--dataset", "toy", "--weights-dir", base / "weights", "--seeds", "1", "--out",
             tmp_path / "é.png"]
    done = subprocess.run([sys.executable, *start, *map(str, words)], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0 and (tmp_path / "é.png").exists(), done.stderr


def test_images_of_a_class(base, tmp_path):
    """Those of the first seeds that the classifier takes for it, as drawing all of them finds."""
    network, generator = (classifier.load(base / "weights", "toy"),
                          sampling.load_generator(base / "weights/q4_wgan_toy.pt", "wgan")[0])
    pixels = sampling.draw(generator, sampling.latents(range(5, 60)))
    _, labels, confidences = classifier.classify(network, pixels)
    label = labels.mode().values.item()
    enough = confidences[labels == label].sort().values[-4].item() - 1e-6  # four images have it
    expected = [5 + n for n in range(55) if labels[n] == label and confidences[n] >= enough][:3]
    done = generate(base, "--label", label, "--seeds", "5-7", "--confidence", enough, "--separate", "--out", tmp_path)
    assert done.returncode == 0 and f"drew {expected[-1] - 4} " in done.stdout, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"seed{seed:04d}.png" for seed in expected]
    assert Image.open(tmp_path / f"seed{expected[0]:04d}.png").tobytes() == pixels[expected[0] - 5].numpy().tobytes()


def the_same_image_again_and_again():
    draw = sampling.draw
    sampling.draw = lambda generator, z: draw(generator, z[:1]).expand(len(z), 28, 28)


def test_a_class_that_is_not_found_ends(base):
    done = generate(base, "--label", 3, "--seeds", "0-9", "--confidence", 0.9999999,
                    prepare=(the_same_image_again_and_again,))
    assert done.returncode == 2 and "lower --confidence" in done.stderr.splitlines()[-1], done.stderr


def test_walks(base, tmp_path):
    done = generate(base, "--interpolate", 3, 8, "--steps", 5, "--out", tmp_path / "walk.png", "--scale", 1)
    assert done.returncode == 0 and Image.open(tmp_path / "walk.png").size == (148, 28), done.stderr
    done = generate(base, "--interpolate", 3, 8, "--steps", 4, "--out", tmp_path / "walk.gif", "--scale", 2)
    assert done.returncode == 0, done.stderr
    film = Image.open(tmp_path / "walk.gif")
    assert film.n_frames >= 4 and film.size == (56, 56)
    film.seek(0)
    first = sampling.generate("wgan", [3], "toy", base / "weights")[0]
    assert np.array_equal(np.asarray(film.convert("L"))[::2, ::2], first)  # a walk begins at its seed


def test_pictures_do_not_overwrite_one_another(base):
    """Without --out the name tells what is shown."""
    first = sampling.draw(sampling.load_generator(base / "weights/q4_wgan_toy.pt", "wgan")[0], sampling.latents([0]))
    label = classifier.classify(classifier.load(base / "weights", "toy"), first)[1].item()
    for words in ((), ("--seeds", "7"), ("--seeds", "1,5"), ("--seeds", "1,6"), ("--interpolate", 3, 8),
                  ("--seeds", "0-15", "--scale", 2), ("--label", label, "--confidence", 0, "--seeds", "0"),
                  ("--seeds", "7", "--separate"), ("--weights", base / "weights/q4_wgan_toy.pt")):
        before = {path: path.read_bytes() for path in (base / "results/runs").rglob("*.png")}
        done = generate(base, *words)
        assert done.returncode == 0 and "saved" in done.stdout, done.stderr
        assert len(list((base / "results/runs").rglob("*.png"))) == len(before) + 1, words
        assert all(path.read_bytes() == data for path, data in before.items()), words


@pytest.mark.parametrize("name, options", [
    ("q4_wgan", ""), ("q4_wgan_clip", " --penalty clip"), ("q4_wgan_resnet_toy", " --arch resnet --dataset toy"),
    ("q4_wgan_clip_resnet", " --penalty clip --arch resnet"), ("q4_wgan_clipped", " --dataset clipped"), ("mine", "")])
def test_the_hint_for_missing_weights(tmp_path, name, options):
    with pytest.raises(UserError, match=f"`python q4_wgan/train.py --model wgan{options} --weights-dir"):
        sampling.load_generator(tmp_path / f"{name}.pt", "wgan")


def test_a_seed_named_twice_is_one_image(base, tmp_path):
    done = generate(base, "--seeds", "5,5,6,4-6", "--separate", "--out", tmp_path)
    assert "saved 3 " in done.stdout and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("words, message", [
    (("--seeds", "5-2"), "5-2"), (("--seeds", "x"), "seeds"), (("--seeds", "-3"), "seeds"), (("--seeds", ""), "seeds"),
    (("--seeds", "4294967296"), "4294967296"), (("--seeds", "1" * 20), "seeds"), (("--seeds", "0-4294967295"), "seeds"),
    (("--seeds", "0-4000", "--scale", 64), "--scale"), (("--label", "hat"), "hat"), (("--label", ""), "class"),
    (("--interpolate", 1), "--interpolate"), (("--interpolate", 1, 2**32), str(2**32)),
    (("--interpolate", 1, 2, "--steps", 0), "--steps"), (("--interpolate", 1, 2, "--steps", 10**12), "--steps"),
    (("--interpolate", 1, 2, "--steps", 1000, "--scale", 64, "--out", "x.gif"), "--scale"),
    (("--interpolate", 1, 2, "--label", 3), "--label"), (("--confidence", 1.5), "1.5"), (("--confidence", "nan"), "nan"),
    (("--scale", -1), "--scale"), (("--nonsense",), "nonsense"), (("--seed", "3"), "--seed"), (("--out", "x.jpg"), ".png"),
    (("--out", "x.gif"), "--interpolate"), (("--out", ""), "--out"), (("--out", "/proc/x.png"), "/proc"),
    (("--weights", "missing.pt"), "missing.pt"), (("--weights", "."), "."), (("--weights-dir", ""), "--weights-dir"),
    (("--dataset", "../x"), "--dataset"), (("--model", "vae"), "vae")])
def test_bad_input_is_one_line(base, words, message):
    done = generate(base, *words)
    one_line(done, message)
    assert done.stdout == ""


def test_weights_that_are_not_what_their_name_says(base, tmp_path):
    good = weights("wgan", "wgan-gp")
    for name, content, message in (
            ("q4_wgan_toy.pt", weights("dcgan", "dcgan"), "dcgan"), ("q4_wgan_toy.pt", good[:5000], "damaged"),
            ("q4_wgan_toy.pt", b"hello", "damaged"),
            ("q4_wgan_toy.pt", files.as_torch({"model": "wgan"}), "q4_wgan_toy.pt")):
        files.ship(tmp_path / "weights", {name: content})
        one_line(generate(tmp_path, "--seeds", "1"), message)
    files.ship(tmp_path / "weights", {"q4_wgan_toy.pt": good})
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1  # one bit of one weight
    (tmp_path / "weights/q4_wgan_toy.pt").write_bytes(flipped)
    one_line(generate(tmp_path), "SHA-256")
    (tmp_path / "weights/q4_wgan_toy.pt").write_bytes(good)
    for content, message in ((b"", "not listed"), (b"nonsense\n", "line 1"), (b"\xff\xfe", "line 1")):
        (tmp_path / "weights/SHA256SUMS").write_bytes(content)
        one_line(generate(tmp_path), message)


def test_weights_of_a_run(base, tmp_path):
    (tmp_path / "generator.pt").write_bytes(weights("wgan", "wgan-gp", seed=1))
    for folder, path in (("run", tmp_path / "generator.pt"), ("shipped", base / "weights/q4_dcgan_toy.pt")):
        done = generate(base, "--weights", path, "--seeds", "3", "--separate", "--out", tmp_path / folder,
                        model="wgan" if folder == "run" else "dcgan")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/seed0003.png").read_bytes() == (tmp_path / "shipped/seed0003.png").read_bytes()


@pytest.mark.parametrize("seeds", [[-1], [2**32], [1.5], ["7"], [True], 7, []])
def test_bad_seeds_from_python(base, seeds):
    with pytest.raises(UserError):
        sampling.generate("wgan", seeds, "toy", base / "weights")


def test_a_model_that_is_none_from_python(base):
    with pytest.raises(UserError):
        sampling.generate("vae", [1], "toy", base / "weights")


def test_output_that_nobody_reads(base, tmp_path):
    words = [sys.executable, "q4_wgan/generate.py", "--model", "wgan", "--dataset", "toy", "--weights-dir",
             str(base / "weights"), "--seeds", "1"]
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*words, "--out", str(tmp_path / "full.png")], cwd=ROOT, stdout=full, stderr=full)
        assert done.returncode == 0 and (tmp_path / "full.png").exists()
    if os.name == "posix":
        command = f"{' '.join(words)} --out {tmp_path}/closed.png >&- 2>&-"
        assert subprocess.run(command, shell=True, cwd=ROOT).returncode == 0
        assert Image.open(tmp_path / "closed.png").size == (112, 112)
