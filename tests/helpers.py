"""What the tests of all rooms need: a small data set, its idx files, tables of READMEs, scripts run as a user runs them."""

import multiprocessing
import os
import re
import runpy
import struct
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
KILLED = 137  # exit status of a process that `die` ended, as a shell reports SIGKILL

# A new Python would spend seconds on imports for every script: fork from one that has them, where that can be done.
methods = multiprocessing.get_all_start_methods()
processes = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
if hasattr(processes, "set_forkserver_preload"):
    processes.set_forkserver_preload([
        "torch._dynamo", "torch.optim.swa_utils", "torchvision", "sklearn.svm", "sklearn.neighbors", "scipy.stats",
        "sklearn.decomposition", "sklearn.manifold", "matplotlib.pyplot", "joblib", "PIL.Image", "tqdm", "pytest"])


def die():
    """End this process as a kill does: nothing is flushed, nothing cleaned up."""
    os._exit(KILLED)


def child(script, words, environment, prepare, folder):
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    sys.argv = [str(script), *words]
    sys.path.insert(0, str(Path(script).parent))
    if prepare:
        prepare[0](*prepare[1:])
    runpy.run_path(str(script), run_name="__main__")


def run_script(script, *words, environment=None, prepare=None, timeout=300):
    """`python SCRIPT WORDS` in a process and an empty folder of its own: returncode, stdout and stderr.

    prepare: a function of a test module and its arguments, called in the process before the script. Not for scripts
    that start joblib's worker processes, which multiprocessing would wait for.
    """
    with TemporaryDirectory() as folder:
        script = ROOT / script
        words = list(map(str, words))
        process = processes.Process(target=child, args=(script, words, environment or {}, prepare, folder))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{script} {words} took over {timeout} seconds")
        out, err = ((Path(folder) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    return SimpleNamespace(returncode=process.exitcode, stdout=out, stderr=err)


def one_line(done, *words):
    """Assert that a script ended as it must for bad input: status 2 and one line on stderr, which holds `words`."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(str(word) in done.stderr for word in words), done.stderr


def idx(array):
    """The bytes of a uint8 array as an idx file."""
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def make_dataset(data_dir, name="toy", train=600, test=100, seed=0):
    """Write NAME/raw below `data_dir`: noise with a bright patch whose place is the class, equally many of each."""
    raw = Path(data_dir) / name / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for part, n in (("train", train), ("t10k", test)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = random.integers(0, 60, (n, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels):
            row, column = 2 + 12 * (label // 5), 1 + 5 * (label % 5)
            image[row:row + 10, column:column + 5] += 180
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return Path(data_dir)


def make_classifier(base):
    """Train q4's classifier a little on `base`/data, the data set "toy", into the run folder that train.py looks in."""
    import torch

    from q4_wgan import classifier, command, files, images
    from q4_wgan.networks import to_float
    data, network = images.load("toy", base / "data"), classifier.Classifier()
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(12):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(to_float(data.train[:100])), data.train_labels[:100]).backward()
        optimizer.step()
    command.write(base / "results/runs/q4_classifier_toy/classifier.pt", files.as_torch({"state": network.state_dict()}))


def tables(text):
    """The tables of a README: for each a list of rows, the first its header, each a list of cells without emphasis."""
    def cells(line):
        return [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]
    blocks = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [[cells(line) for line in block.splitlines() if not re.fullmatch(r"[|:\s-]+", line)] for block in blocks]
