"""q4_wgan's images from seeds, as commands and from Python, what ships, and its scores."""

import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, make_classifier, make_dataset, one_line, run_script, tables
from PIL import Image

import q4_wgan
from q4_wgan import classifier, command, evaluate, files, sampling
from q4_wgan.command import UserError
from q4_wgan.networks import make_generator, to_pixels

SCORES = json.loads((ROOT / "results/q4/scores.json").read_text())


def content(seed=0, **change):
    """What a run's generator.pt holds, of one that was never trained."""
    torch.manual_seed(seed)
    return {"arch": "conv", "dim": 4, "dataset": "toy", "state": make_generator("conv", 4).state_dict(), **change}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A classifier of a small data set, and a run of it as if under way."""
    base = tmp_path_factory.mktemp("q4")
    make_dataset(base / "data")
    make_classifier(base)
    command.write(base / "results/runs/mine/generator.pt", files.as_torch(content()))
    return base


def generate(base, *words, run="results/runs/mine", **how):
    which = words if "--model" in words else ("--run", base / run, *words)
    return run_script("q4_wgan/generate.py", *which, "--results-dir", base / "results", **how)


def seen(path):
    return np.asarray(Image.open(path))


def test_a_seed_is_the_same_image_in_any_company_and_from_python(base, tmp_path):
    for seeds, folder, many in (("7", "one", 1), ("0-63,7,5-9", "many", 64)):
        done = generate(base, "--separate", "--seeds", seeds, "--out", tmp_path / folder)
        assert done.returncode == 0 and f"saved {many} " in done.stdout, done.stderr
        assert len(os.listdir(tmp_path / folder)) == many
    one, same, other = (seen(tmp_path / name) for name in ("one/seed0007.png", "many/seed0007.png", "many/seed0008.png"))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    pixels = q4_wgan.generate(seeds=[8, 7], run=base / "results/runs/mine")
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, [other, one])


def test_from_python_in_any_session(base):
    """What the caller has set in torch changes no pixel, and stays as it is; so does his random state."""
    run = str(base / "results/runs/mine")
    usual = q4_wgan.generate(seeds=[7, 8], run=run)
    before = torch.get_rng_state()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        found = q4_wgan.generate(seeds=[7, 8], run=run)
        assert torch.get_default_dtype() == torch.float64 and torch.empty(0).device.type == "meta"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert np.array_equal(found, usual) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("how", [
    {"seeds": [-1]}, {"seeds": [2**32]}, {"seeds": [1.5]}, {"seeds": ["7"]}, {"seeds": [True]}, {"seeds": 7}, {"seeds": []},
    {"model": "vae"}, {"model": None}, {"model": "wgan", "run": "."}, {"model": None, "run": "/nowhere"}])
def test_bad_calls_from_python(how):
    with pytest.raises(UserError):
        q4_wgan.generate(**{"model": "wgan", "seeds": [1], **how})


# ---- --label -------------------------------------------------------------------------------------

def tell_by_the_sum():
    """A classifier that is sure of every image, so that each class has a tenth of them or so."""
    classifier.classify = lambda network, pixels: (None, pixels.sum((1, 2)) % 10, torch.ones(len(pixels)))


def seeds_of(base, label, first, n):
    generator = sampling.load_generator(base / "results/runs/mine")[0]
    labels = sampling.draw_seeds(generator, range(first, first + 200)).sum((1, 2)) % 10
    return [first + i for i in range(200) if labels[i] == label][:n]


@pytest.mark.parametrize("label, number", [
    ("sneaker", 7), ("7", 7), ("Ankle boot", 9), ("ankle-boot", 9), ("boot", 9), ("T-shirt", 0), ("tshirt", 0)])
def test_images_of_a_class(base, tmp_path, label, number):
    """Those of the first seeds that the classifier takes for it."""
    wanted = seeds_of(base, number, 5, 3)
    done = generate(base, "--label", label, "--seeds", "5-7", "--out", tmp_path / "a.png", prepare=(tell_by_the_sum,))
    assert done.returncode == 0 and f"class {number}: seeds {', '.join(map(str, wanted))}\n" in done.stdout, done.stderr
    pixels = q4_wgan.generate(seeds=wanted, run=base / "results/runs/mine")
    assert np.array_equal(seen(tmp_path / "a.png"), sampling.grid(torch.from_numpy(pixels), scale=4))


def test_a_row_for_each_class(base, tmp_path):
    done = generate(base, "--label", "all", "--seeds", "0-3", "--scale", 1, "--out", tmp_path / "a.png",
                    prepare=(tell_by_the_sum,))
    assert done.returncode == 0 and len(re.findall("^class", done.stdout, re.MULTILINE)) == 10, done.stderr
    fourth = q4_wgan.generate(seeds=seeds_of(base, 4, 0, 4), run=base / "results/runs/mine")
    sheet = seen(tmp_path / "a.png")
    assert sheet.shape == (298, 118) and np.array_equal(sheet[120:148], sampling.grid(torch.from_numpy(fourth), columns=4))


def never_sure():
    classifier.classify = lambda network, pixels: (None, torch.full((len(pixels),), 3), torch.zeros(len(pixels)))
    sampling.draw = lambda generator, z: torch.zeros(len(z), 28, 28, dtype=torch.uint8)


def test_a_class_that_is_not_found_ends(base):
    done = generate(base, "--label", 3, "--seeds", "0-9", prepare=(never_sure,))
    assert done.returncode == 2 and "only 0 of 10" in done.stderr.splitlines()[-1], done.stderr


# ---- where pictures go ---------------------------------------------------------------------------

def test_walks(base, tmp_path):
    done = generate(base, "--interpolate", 3, 8, "--out", tmp_path / "walk.png", "--scale", 1)
    assert done.returncode == 0 and seen(tmp_path / "walk.png").shape == (28, 298), done.stderr
    done = generate(base, "--interpolate", 3, 8, "--out", tmp_path / "walk.GIF", "--scale", 2)
    assert done.returncode == 0, done.stderr
    film = Image.open(tmp_path / "walk.GIF")
    assert film.n_frames > 40 and film.size == (56, 56)
    film.seek(0)  # a walk begins at its seed, but for rounding: it stands in another row of the batch
    first = q4_wgan.generate(seeds=[3], run=base / "results/runs/mine")[0]
    assert np.abs(np.asarray(film.convert("L"))[::2, ::2].astype(int) - first).max() <= 1


def test_nothing_is_replaced_that_was_not_named(base):
    for words, folder in ((("--seeds", "1"), "runs/mine"), (("--seeds", "1", "--separate"), "runs/mine"),
                          (("--interpolate", 3, 8), "runs/mine"), (("--model", "wgan", "--seeds", "1"), "runs")):
        for _ in range(2):
            before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
            done = generate(base, *words)
            assert done.returncode == 0 and "saved" in done.stdout, done.stderr
            after = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
            assert before.items() < after.items() and len(after) == len(before) + 1, words
            new, = after.keys() - before.keys()
            assert base / "results" / folder in new.parents


def test_home_is_the_users(base, tmp_path):
    done = generate(base, "--seeds", "1", "--out=~/x.png", environment={"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)})
    assert done.returncode == 0 and (tmp_path / "x.png").exists(), done.stderr


@pytest.mark.parametrize("words, message", [
    (("--seeds", "5-2"), "5-2"), (("--seeds", "x"), "seeds"), (("--seeds", "-3"), "seeds"), (("--seeds", ""), "seeds"),
    (("--seeds", "4294967296"), "4294967296"), (("--seeds", "1" * 20), "seeds"), (("--seeds", "0-4294967295"), "seeds"),
    (("--scale", 17), "--scale"), (("--label", "hat"), "hat"), (("--label", ""), "class"),
    (("--interpolate", 1), "--interpolate"), (("--interpolate", 1, 2**32), str(2**32)),
    (("--interpolate", 1, 2, "--label", 3), "--label"), (("--scale", -1), "--scale"), (("--nonsense",), "nonsense"),
    (("--seed", "3"), "--seed"), (("--out", "x.jpg"), ".png"), (("--out", "x.gif"), "--interpolate"), (("--out", ""), "--out"),
    (("--out", "/proc/x.png"), "/proc"), (("--model", "vae"), "vae"), (("--model", "wgan", "--run", "."), "--run"),
    (("--run", ""), "--run"), (("--run", "missing"), "missing")])
def test_bad_input_is_one_line(base, words, message):
    done = generate(base, *words)
    one_line(done, message)
    assert done.stdout == ""


@pytest.mark.parametrize("data, message", [
    (b"", "damaged"), (b"hello", "damaged"), (files.as_torch(content())[:5000], "damaged"),
    (files.as_torch({"model": "wgan"}), "generator.pt"), (files.as_torch(content(dim=8)), "fit"),
    (files.as_torch(content(dataset="other")), "train_classifier.py --dataset other")])
def test_a_generator_that_is_none(base, tmp_path, data, message):
    command.write(tmp_path / "generator.pt", data)
    one_line(generate(base, "--label", 1, run=tmp_path), message)


def test_started_as_a_user_does(base, tmp_path):
    """Not forked; with Jupyter's settings, which are not to be found outside of it."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    words = [sys.executable, ROOT / "q4_wgan/generate.py", "--run", base / "results/runs/mine", "--out", tmp_path / "é.png"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "saved é.png\n", "")


# ---- what ships ----------------------------------------------------------------------------------

@pytest.mark.parametrize("model", sampling.SHIPPED)
def test_a_shipped_generator_draws_garments_and_is_a_run_folder(base, tmp_path, model):
    pixels = q4_wgan.generate(model, [7, 8])
    assert 20 < pixels.mean() < 150 and pixels.std() > 30
    generator = sampling.load_generator(sampling.SHIPPED[model])[0]
    with torch.no_grad():
        alone = to_pixels(generator(sampling.latents([7]))).numpy()  # as the first version of generate.py drew it
    assert np.abs(alone.astype(int) - pixels[:1]).max() <= 1
    done = generate(base, "--model", model, "--seeds", "7", "--separate", "--out", tmp_path)
    assert done.returncode == 0 and np.array_equal(seen(tmp_path / "seed0007.png"), pixels[0]), done.stderr
    assert np.array_equal(q4_wgan.generate(run=ROOT / f"weights/q4_{model}", seeds=[7]), pixels[:1])


def test_the_shipped_classifier_finds_the_readmes_sneakers(base, tmp_path):
    done = generate(base, "--model", "wgan", "--label", "sneaker", "--seeds", "0-1", "--out", tmp_path / "a.png")
    assert done.returncode == 0 and "class Sneaker: seeds 5, 26\n" in done.stdout, done.stderr


def test_sums_of_what_ships():
    """`sha256sum -c SHA256SUMS` inside weights/."""
    lines = [line.split("  ") for line in (ROOT / "weights/SHA256SUMS").read_text().splitlines()]
    for digest, name in lines:
        assert hashlib.sha256((ROOT / "weights" / name).read_bytes()).hexdigest() == digest, name
    ships = sorted(path.relative_to(ROOT / "weights").as_posix() for kind in ("pt", "joblib")
                   for path in (ROOT / "weights").rglob(f"*.{kind}"))
    assert [name for _, name in lines] == ships


# ---- scores --------------------------------------------------------------------------------------

def test_readme_has_the_scores():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("q4_wgan/README.md", "README.md")]
    ours, = tables(evaluate.table(SCORES))
    assert ours in tables(texts[0])
    short = next(table for table in tables(texts[1]) if table[0][1:] == ["DCGAN", "WGAN-GP"])
    assert [row[1:3] for row in ours[1:3]] == [row[1:] for row in short[1:3]]  # the two distances


def test_scores_are_of_what_ships():
    for model in sampling.SHIPPED:
        content, trained = sampling.load_generator(sampling.SHIPPED[model])[1], SCORES[model]["training"]
        for key in ("objective", "arch", "dim", "iterations", "learning_rate", "seed"):
            assert content[key] == trained[key]
        outcome = json.loads((sampling.SHIPPED[model] / "outcome.json").read_text())
        assert outcome["outcome"] == "converged" and outcome["relative_distance"] == content["relative_distance"]


@pytest.mark.parametrize("repeats, run, message", [(1, "results/runs/mine", "--repeats"), (2, "/nowhere", "/nowhere")])
def test_bad_input_of_evaluate(base, repeats, run, message):
    one_line(run_script("q4_wgan/evaluate.py", "--run", base / run, "--repeats", repeats), message)


def noise():
    """In place of the generators' images, which would take a minute."""
    def sample(generator, n, seed, device):
        return torch.randint(0, 256, (n, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    sampling.sample = sample


def test_the_pair_that_ships_is_scored_without_a_run(tmp_path):
    make_dataset(tmp_path / "data", "FashionMNIST", train=240)
    done = run_script("q4_wgan/evaluate.py", "--data-dir", tmp_path / "data", "--results-dir", tmp_path / "results",
                      "--repeats", 2, "--seed", 5, prepare=(noise,))
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "results/runs/q4/scores.json").read_text())
    assert evaluate.table(scores) in done.stdout and len(scores["real"]["calibration"]["without_one_class"]) == 10
    for model in sampling.SHIPPED:
        assert scores[model]["sampling_seeds"] == [5, 6] and scores[model]["relative_distance"]["n"] == 2
        assert scores[model]["relative_distance"]["mean"] > 1 and scores[model]["training"]["objective"]
