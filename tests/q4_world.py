"""Small synthetic images and a classifier of them, and q4_wgan's scripts run on these: what several test files need."""

import hashlib
import importlib
import os
import signal
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from command import run_script

ROOM = Path(__file__).resolve().parent.parent / "q4_wgan"


def load_room(*names):
    """The room's modules under their plain names, which are freed again: other rooms have an images.py too."""
    own = {path.stem for path in ROOM.glob("*.py")}
    before = {name: sys.modules.pop(name) for name in own if name in sys.modules}
    sys.path.insert(0, str(ROOM))
    try:
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(ROOM))
        for name in own:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def prepare(raw, lenient, kill):
    """In the script's process: the synthetic images are the right ones, the verdict takes fewer samples; where asked, it passes
    anything, and the script is killed or interrupted at a chosen moment."""
    import files
    import images
    import measures
    import training
    for name in images.SHA256:
        images.SHA256[name] = hashlib.sha256((raw / name).read_bytes()).hexdigest()
    measures.SAMPLES, training.NORM_IMAGES = 100, 512
    if lenient:
        measures.FLOOR_MULTIPLE, measures.SMALLEST_SHARE = float("inf"), -1.0
    if kill.startswith("step"):  # in the middle of an iteration: after the critic, before the generator
        original = training.Training.add_losses

        def add_losses(self, **losses):
            original(self, **losses)
            if "critic_loss" in losses and self.iteration == int(kill[4:]):
                os.kill(os.getpid(), signal.SIGKILL)
        training.Training.add_losses = add_losses
    if kill.startswith("interrupt"):
        step = training.Training.step

        def interrupted(self):
            if self.iteration == int(kill[9:]):
                os.kill(os.getpid(), signal.SIGINT)
            step(self)
        training.Training.step = interrupted
    if kill.startswith("save"):  # a checkpoint is written, and not yet in place
        replace, count = os.replace, []

        def killed(old, new):
            count.extend([1] * str(new).endswith("checkpoint.pt"))
            if len(count) == int(kill[4:]):
                os.kill(os.getpid(), signal.SIGKILL)
            replace(old, new)
        files.os.replace = killed


def idx(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Synthetic images in torchvision's layout and a classifier of them: a bright patch whose place is the class."""
    base = tmp_path_factory.mktemp("q4")
    raw = base / "data/FashionMNIST/raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, n in (("train", 600), ("t10k", 100)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = random.integers(0, 60, (n, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels):
            row, column = 2 + 12 * (label // 5), 1 + 5 * (label % 5)
            image[row:row + 10, column:column + 5] += 180
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    done = run(base, "classifier.py", "--epochs", "4", results="results")
    assert done.returncode == 0, done.stderr
    return base


def run(base, script, *args, results="results", lenient=False, kill="never"):
    folders = []
    for name, folder in (("data", "data"), ("weights", "weights"), ("results", results)):
        if script != "generate.py" or name != "data":
            folders += [f"--{name}-dir", str(base / folder)]
    return run_script(ROOM / script, *args, *folders, prepare=(prepare, base / "data/FashionMNIST/raw", lenient, kill))


SETTINGS = ("--dim", "4", "--batch", "8", "--iterations", "24", "--log-every", "5", "--sample-every", "12",
            "--checkpoint-every", "6", "--seed", "3", "--precision", "float32")  # a measured precision would depend on the load


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


def call(capsys, main, *args, monkeypatch):
    """A script's main in this process: (status, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["script", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        main.__globals__["files"].run_main(main)
    return (end.value.code or 0, *capsys.readouterr())
