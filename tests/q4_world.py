"""Small synthetic images and a classifier of them, and q4_wgan's scripts run on these: what several test files need."""

import importlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

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


# Runs a script of the room as `python q4_wgan/SCRIPT` would, on images whose checksums are those of the synthetic files,
# with fewer samples for the verdict, and, where asked, a verdict that passes anything, or kill -9 at a chosen moment.
DRIVER = """
import hashlib, os, runpy, signal, sys
from pathlib import Path
room, raw, lenient, kill, script, *args = sys.argv[1:]
sys.path.insert(0, room)
import files, images, measures, training
for name in images.SHA256:
    images.SHA256[name] = hashlib.sha256((Path(raw) / name).read_bytes()).hexdigest()
measures.SAMPLES = 100
if lenient == "yes":
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
sys.argv = [script, *args]
runpy.run_path(str(Path(room) / script), run_name="__main__")
"""


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
    command = [sys.executable, "-c", DRIVER, str(ROOM), str(base / "data/FashionMNIST/raw"), "yes" if lenient else "no", kill,
               script, *args, *folders]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
