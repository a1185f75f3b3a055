"""q4_wgan's stability study: killed and resumed, with runs and processes that crash, on a Dask cluster that loses a worker."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from PIL import Image

from q4_world import ROOM, load_room

# Put at the end of the copy's trial.py, which every process that works for the study imports: faults in two of the cells.
FAULTS = """
import os
class Training(Training):
    def __init__(self, options, *args):
        if os.environ.get("FAULTS") and options["dim"] == 2:
            if options["objective"] == "dcgan":
                raise RuntimeError("out of\\nmemory")
            if options["objective"] == "wgan-clip":
                os._exit(1)
        super().__init__(options, *args)
"""


@pytest.fixture(scope="module")
def clone(world, tmp_path_factory):
    """A copy of the repository's room, images and weights, in which the synthetic images are the right ones."""
    import hashlib
    base = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOM, base / "q4_wgan", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(world / "data", base / "data")
    (base / "weights").mkdir()
    shutil.copy(world / "weights/q4_classifier.pt", base / "weights")
    code = (base / "q4_wgan/images.py").read_text()
    for name, digest in load_room("images").images.SHA256.items():
        assert digest in code
        code = code.replace(digest, hashlib.sha256((base / "data/FashionMNIST/raw" / name).read_bytes()).hexdigest())
    (base / "q4_wgan/images.py").write_text(code)
    code = (base / "q4_wgan/measures.py").read_text()
    (base / "q4_wgan/measures.py").write_text(code.replace("SAMPLES = 10_000", "SAMPLES = 100"))
    code = (base / "q4_wgan/training.py").read_text()
    (base / "q4_wgan/training.py").write_text(code.replace("NORM_IMAGES = 4096", "NORM_IMAGES = 512"))
    with open(base / "q4_wgan/trial.py", "a") as file:
        file.write(FAULTS)
    return base


def command(clone, results, *args):
    return [sys.executable, clone / "q4_wgan/stability.py", "--quick", "--seeds", "1", "--results-dir", results, *args]


def study(clone, results, *args, **more):
    return subprocess.run(command(clone, results, *args), capture_output=True, text=True, timeout=300, env={**os.environ, **more})


def lines(results):
    path = results / "q4_stability_quick.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_lines(results, n, process):
    end = time.monotonic() + 120
    while len(lines(results)) < n:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def assert_complete(results, crashed=0):
    """Every run of the study is recorded once, and counted once."""
    stability = load_room("stability").stability
    runs = lines(results)
    assert len({stability.key(run) for run in runs}) == len(runs) == 23  # 3 x 8 cells; two of WGAN-GP's share their runs
    result = json.loads((results / "q4_stability_quick.json").read_text())
    assert len(result["cells"]) == 24 and all(cell["runs"] == 1 for cell in result["cells"])
    assert sum(cell["crashed"] for cell in result["cells"]) == crashed == [run["outcome"] for run in runs].count("crashed")
    for row in result["sweep"]:
        assert row["only_dcgan"] + row["only_wgan_gp"] + row["both"] + row["neither"] == 8
    assert Image.open(results / "q4_stability_quick.png").size[0] > 1000
    return runs


def test_killed_study_goes_on(clone, tmp_path):
    process = subprocess.Popen(command(clone, tmp_path, "--jobs", "2"), start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_lines(tmp_path, 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = lines(tmp_path)
    with open(tmp_path / "q4_stability_quick.jsonl", "a") as file:
        file.write('{"objective": "dcg')  # cut short by a crash of the machine
    done = study(clone, tmp_path, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "q4_stability_quick.jsonl").read_text()
    (tmp_path / "q4_stability_quick.jsonl").write_text(text.replace('{"objective": "dcg\n', ""))
    runs = assert_complete(tmp_path)
    assert runs[:len(before)] == before
    again = study(clone, tmp_path)  # nothing is left to do
    assert again.returncode == 0 and lines(tmp_path) == runs


def test_a_crash_is_recorded_and_stops_nothing(clone, tmp_path):
    done = study(clone, tmp_path, "--jobs", "2", FAULTS="yes")
    assert done.returncode == 0, done.stderr
    runs = assert_complete(tmp_path, crashed=2)
    assert {run["objective"]: run["reason"] for run in runs if run["outcome"] == "crashed"} == {
        "dcgan": "RuntimeError: out of memory", "wgan-clip": "its process died, twice"}


def test_a_cluster_that_loses_a_worker(clone, tmp_path):
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    log = open(tmp_path / "cluster.log", "w")
    def dask(*args):
        return subprocess.Popen([sys.executable, "-m", "dask", *args], env={**os.environ, "PYTHONPATH": str(clone / "q4_wgan")}, cwd=tmp_path,
                                stdout=log, stderr=log)
    cluster = [dask("scheduler", "--host", address, "--no-dashboard")]
    try:
        cluster += [dask("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
        process = subprocess.Popen(command(clone, tmp_path, "--scheduler", address), stdout=log, stderr=log)
        wait_for_lines(tmp_path, 4, process)
        cluster[1].kill()
        assert process.wait(timeout=200) == 0, (tmp_path / "cluster.log").read_text()
    finally:
        for part in cluster:
            part.kill()
            part.wait()
        log.close()
    assert_complete(tmp_path)


@pytest.mark.parametrize("args, message", [
    (("--scheduler", "nonsense"), "no Dask scheduler"),
    (("--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"), "--jobs"), (("--budget", "0"), "above zero"),
    (("--weights-dir", "/nowhere"), "/nowhere")])
def test_bad_input(clone, tmp_path, args, message):
    if "no Dask" in message:
        pytest.importorskip("distributed")
    done = study(clone, tmp_path, *args)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_summary():
    """The counts against a study made up by hand."""
    stability = load_room("stability").stability
    def run(distance, smallest=0.1):
        shares = [smallest] + [0.1] * 9
        return {"distance": distance, "floor": 1.0, "shares": shares, "modes": sum(s >= 0.01 for s in shares),
                "outcome": "failed", "seconds": 1}
    cells = {(name, setting): [run(1e6)] * 3 for name in stability.NAMES for setting in stability.SETTINGS}
    cells["dcgan", "baseline"] = [run(60), run(150), run(None)]
    cells["wgan-gp", "baseline"] = [run(60), run(60), run(60, smallest=0.001)]
    result = stability.summarise(cells, (50, 100, 200))
    cell = result["cells"][0]
    assert (cell["converged"], cell["median_floors"], cell["most_floors"], cell["not_finite"]) == (1, 150, None, 1)
    assert [cell["lost_a_class"] for cell in result["cells"] if cell["objective"] == "wgan-gp"][0] == 1
    assert [[row[part] for part in ("only_dcgan", "only_wgan_gp", "both", "neither")] for row in result["sweep"]] == [
        [0, 0, 0, 24], [0, 1, 1, 22], [0, 0, 2, 22]]
    assert result["totals"]["wgan-gp"] == {"runs": 24, "converged": 2}


def test_learning_rates_are_tried_and_kept(clone, tmp_path):
    args = [sys.executable, clone / "q4_wgan/tune.py", "--objectives", "dcgan", "wgan-gp", "--iterations", "2", "--dim", "4",
            "--jobs", "2", "--results-dir", tmp_path, "--rates"]
    settings = ["1e-3", "--ratio", "2", "--beta1", "0", "--penalty-images", "4", "--objectives", "wgan-gp"]
    done = [subprocess.run([*args, *more], capture_output=True, text=True, timeout=300) for more in (["1e-3"], ["1e-3", "2e-3"], settings)]
    for run in done:
        assert run.returncode == 0, run.stderr
    *tries, other = [json.loads(line) for line in (tmp_path / "q4_tries.jsonl").read_text().splitlines()]
    assert (other["generator_learning_rate"], other["beta1"], other["penalty_images"]) == (2e-3, 0, 4)
    assert sorted((t["objective"], t["learning_rate"]) for t in tries) == [
        ("dcgan", 1e-3), ("dcgan", 2e-3), ("wgan-gp", 1e-3), ("wgan-gp", 2e-3)]
    for objective, name in (("dcgan", "DCGAN"), ("wgan-gp", "WGAN-GP")):
        floors = [t["distance"] / t["floor"] for rate in (1e-3, 2e-3) for t in tries
                  if (t["objective"], t["learning_rate"]) == (objective, rate)]
        assert f"| {name} | {floors[0]:.0f} | {floors[1]:.0f} |" in done[1].stdout
    assert f"| WGAN-GP, generator x 2, penalty on 4, beta1 0 | {other['distance'] / other['floor']:.0f} |" in done[2].stdout
