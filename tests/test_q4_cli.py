"""q4_wgan's other command lines on small synthetic images: generating, loading images, evaluating, drawing."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from PIL import Image

from q4_world import ROOM, call, load_room, run

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
        stopped = [a["outcome"] for a in room.files.read_ledger(results) if a["model"] == model].count("interrupted")
        assert not stopped or f"{stopped} {name} trainings were stopped by hand" in readme
        floors = scores[model]["frechet_in_floors"]
        assert f"{name} {floors['mean']:.1f} ± {floors['std']:.1f}" in (room.files.ROOT / "README.md").read_text()


def test_the_default_training_is_the_one_that_ships():
    room = load_room("train", "files")
    for model in room.files.MODELS:
        content = room.files.load_weights(room.files.ROOT / f"weights/q4_{model}.pt", model)
        settings = room.train.default_settings(content["objective"], torch.device("cpu"))
        assert {key: content.get(key) for key in ("learning_rate", "generator_learning_rate", "beta1", "penalty_images")} == {
            key: settings.get(key) for key in ("learning_rate", "generator_learning_rate", "beta1", "penalty_images")}
        assert (content["iterations"], content["batch"], content["arch"], content["dim"], content["seed"]) == (
            room.train.SHORT, room.train.BATCH, "conv", 64, 0) and "continues" not in content


def test_figures(trained, tmp_path, monkeypatch):
    """Every figure whose content does not need a well-trained generator."""
    room = load_room("figures", "generate", "images")
    generators = {model: room.generate.load_generator(trained / f"weights/q4_{model}.pt", model)[0] for model in ("dcgan", "wgan")}
    losses = {model: room.figures.read_losses(trained / f"results/q4_{model}_losses.csv") for model in generators}
    attempts = [{"attempt": "a"}, {"attempt": "other", "start": 5}, {"attempt": "b", "continues": "a", "start": 8},
                {"attempt": "c", "continues": "b", "start": 12}]
    starts = {"dcgan": room.figures.continued_at(attempts, "a"), "wgan": room.figures.continued_at(attempts, "c")}
    assert starts == {"dcgan": [], "wgan": [8, 12]}
    room.figures.draw_losses(losses, starts, tmp_path / "losses.png")
    room.figures.draw_distances(losses, {"dcgan": 1.0, "wgan": 1.0}, tmp_path / "distances.png")
    room.figures.draw_samples(generators["wgan"], "wgan", tmp_path / "samples.png")
    room.figures.draw_neighbours(generators, torch.randint(0, 256, (50, 28, 28), dtype=torch.uint8), tmp_path / "neighbours.png")
    room.figures.draw_film("wgan", trained / "results/runs/q4_wgan_seed3", tmp_path / "film.png")
    for name in ("losses", "distances", "samples", "neighbours", "film"):
        assert Image.open(tmp_path / f"{name}.png").size[0] > 500
    with pytest.raises(room.figures.UserError, match="missing"):
        room.figures.read_losses(tmp_path / "none.csv")
