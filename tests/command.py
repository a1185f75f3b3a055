"""Runs a script as `python SCRIPT WORDS` does, in a process of its own, forked from one that has torch imported already: a new
Python would spend four seconds on imports each time. Not for scripts that start joblib's workers: multiprocessing would wait for these."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch._dynamo", "torch.optim.swa_utils", "torchvision", "sklearn.svm", "sklearn.neighbors",
                                  "sklearn.decomposition", "scipy.stats", "matplotlib.pyplot", "joblib", "PIL.Image", "tqdm", "pytest"])


def child(script, words, environment, prepare, folder):
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment or {})
    sys.argv = [str(script), *words]
    sys.path.insert(0, str(Path(script).parent))
    if prepare:
        prepare[0](*prepare[1:])
    runpy.run_path(str(script), run_name="__main__")


def run_script(script, *words, environment=None, prepare=None, timeout=300):
    """returncode, stdout and stderr, as of subprocess.run. prepare: a function and its arguments, called before the script is."""
    with TemporaryDirectory() as folder:
        process = processes.Process(target=child, args=(script, list(map(str, words)), environment, prepare, folder))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{script} {words} took over {timeout} seconds")
        out, err = ((Path(folder) / name).read_text() for name in ("out", "err"))
    return SimpleNamespace(returncode=process.exitcode, stdout=out, stderr=err)
