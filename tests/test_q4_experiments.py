"""q4_wgan's search, comparison, study and benchmark: killed and resumed, on a Dask cluster, and their arithmetic."""

import json
import math
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers import KILLED, ROOT, die, make_classifier, make_dataset, one_line, run_script
from PIL import Image

from q4_wgan import compare, metrics, runs, stability, summary, tune
from q4_wgan.command import UserError
from q4_wgan.training import Training

SETTINGS = {"dcgan": {"learning_rate": 2e-3, "generator_learning_rate": 1e-3, "beta1": 0.5},
            "wgan-gp": {"learning_rate": 1e-3, "generator_learning_rate": 3e-3, "beta1": 0.0, "penalty_images": 16},
            "wgan-clip": {"learning_rate": 5e-4, "generator_learning_rate": 5e-4}}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small data set and a classifier of it."""
    base = tmp_path_factory.mktemp("experiments")
    make_dataset(base / "data")
    make_classifier(base)
    return base


def words(world, results, *more):
    return ["--dataset", "toy", "--data-dir", str(world / "data"), "--weights-dir", str(world / "weights"),
            "--results-dir", str(results), *map(str, more)]


def start(script, *arguments, **environment):
    """A script that starts processes of its own."""
    return subprocess.Popen([sys.executable, str(ROOT / script), *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def record(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def wait_for_lines(path, n, process):
    end = time.monotonic() + 120
    while len(record(path)) < n:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def tuned(results, outcome="trained"):
    """A search that found SETTINGS."""
    found = {objective: {"best": settings if outcome == "trained" else None} for objective, settings in SETTINGS.items()}
    (results / "q4").mkdir(parents=True, exist_ok=True)
    (results / "q4/tuning_toy.json").write_text(json.dumps(found), encoding="utf-8")
    return results


# ---- the search ----------------------------------------------------------------------------------

def test_the_record_holds_the_draws_of_tune():
    """Whoever runs tune.py goes on with the record that is there."""
    lines = record(ROOT / "results/q4/tuning.jsonl")
    assert lines
    for line in lines:
        assert runs.key(line) in [runs.key(tune.draw(line["objective"], line["draw"], tune.DIM, times * tune.COMPUTE))
                                  for times, _, _ in tune.RUNGS]


def test_draws_are_equal_in_kind():
    for objective in tune.OBJECTIVES:
        draws = [tune.draw(objective, i) for i in range(16)]
        assert all(2e-4 <= draw["learning_rate"] <= 2e-2 for draw in draws)
        draws = [tune.draw(objective, i) for i in range(16, 216)]
        rates = np.log10([draw["learning_rate"] for draw in draws])
        ratios = np.array([draw["generator_learning_rate"] / draw["learning_rate"] for draw in draws])
        assert math.log10(5e-4) - 0.01 <= rates.min() < -3.2 and -2.1 < rates.max() <= -1.99
        assert 3.8 < ratios.min() < 4.5 and 28 < ratios.max() < 33
        costs = [draw["iterations"] * runs.cost(draw) for draw in draws]
        assert max(costs) / min(costs) < 1.01


def test_a_killed_search_goes_on(world, tmp_path):
    arguments = words(world, tmp_path, "--dim", 2, "--compute", 30, "--draws", 2)
    path = tmp_path / "q4/tuning_toy.jsonl"
    process = start("q4_wgan/tune.py", *arguments, "--jobs", "2")
    wait_for_lines(path, 2, process)
    process.kill()
    process.wait()
    before = record(path)
    with open(path, "a") as file:
        file.write('{"objective": "dcg')  # cut short by a crash of the machine
    left = tmp_path / "runs" / "tune_{objective}_{draw}_{iterations}".format(**before[0])
    left.mkdir(parents=True, exist_ok=True)
    (left / "checkpoint.pt").touch()  # killed between a run's line and the end of its folder
    done = run_script("q4_wgan/tune.py", *arguments, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    path.write_text(path.read_text().replace('{"objective": "dcg\n', ""))
    lines = record(path)
    assert lines[:len(before)] == before and len(lines) == len(set(map(runs.key, lines)))
    found = json.loads((tmp_path / "q4/tuning_toy.json").read_text())
    for objective in tune.OBJECTIVES:
        rungs = [[line for line in lines if line["objective"] == objective and line["iterations"] == runs.iterations(
            line, times * 30)] for times, _, _ in tune.RUNGS]
        trained = [[line for line in rung if line["outcome"] == "trained"] for rung in rungs]
        assert len(rungs[0]) == 2 and len(rungs[1]) == len(trained[0])
        assert len(rungs[2]) == (0 if objective == "wgan-clip" else len(trained[1]))
        last = next((rung for rung in reversed(trained) if rung), [])
        assert (found[objective]["best"] or {}).get("relative_distance") == min(
            (line["relative_distance"] for line in last), default=None)
        assert sum(found[objective]["outcomes"].values()) == found[objective]["draws"] == 2
    assert not list((tmp_path / "runs").glob("*/checkpoint.pt"))
    assert Image.open(tmp_path / "q4/tuning_toy.png").size[0] > 1000


def test_a_best_draw_at_an_edge_is_told():
    lines = [{"objective": "dcgan", "learning_rate": rate, "generator_learning_rate": 2 * rate, "outcome": "trained",
              "relative_distance": distance, "rung": 0} for rate, distance in ((1.9e-2, 40.0), (2e-3, 50.0))]
    assert tune.summarise(lines)["dcgan"]["edges"] == {"learning_rate": "high"}
    lines[0]["outcome"] = "collapsed"
    assert tune.summarise(lines)["dcgan"]["edges"] == {}


def test_the_last_rung_decides():
    lines = [{"objective": "dcgan", "draw": draw, "learning_rate": 2e-3, "generator_learning_rate": 4e-3, "beta1": 0.5,
              "outcome": outcome, "relative_distance": distance, "relative_distance_pixels": 3.0, "rung": rung}
             for rung, draw, outcome, distance in ((0, 0, "trained", 40), (0, 1, "trained", 50), (0, 2, "collapsed", 30),
                                                   (1, 0, "trained", 30), (1, 1, "trained", 20), (2, 1, "trained", 10))]
    assert [line["draw"] for line in tune.ranked(lines, "dcgan", 0)] == [0, 1, 2]
    assert tune.summarise(lines)["dcgan"]["best"] == lines[-1]
    assert tune.markdown(lines).splitlines()[2:] == ["| DCGAN | 0.002 | 0.004 | 0.5 |  | 50.0 | 20.0 | 10.0 | 3.0 |",
                                                     "| DCGAN | 0.002 | 0.004 | 0.5 |  | 40.0 | 30.0 |  | 3.0 |"]


# ---- the comparison ------------------------------------------------------------------------------

def die_at(iteration, objective):
    """Save at every look; end the process in the middle of a training."""
    runs.SAVE_EVERY, runs.CHECK_EVERY = 0, 5
    kind = runs.Textbook if objective == "textbook" else Training
    original = kind.step

    def step(self):
        if self.iteration == iteration and self.options["objective"] == objective:
            die()
        original(self)
    kind.step = step


def often():
    runs.SAVE_EVERY, runs.CHECK_EVERY = 0, 5


def test_a_killed_comparison_goes_on_within_a_training(world, tmp_path):
    arguments = ["--dim", 2, "--compute", 60, "--seeds", 2, "--jobs", 1]
    whole, killed = tuned(tmp_path / "whole"), tuned(tmp_path / "killed")
    done = run_script("q4_wgan/compare.py", *words(world, whole, *arguments), prepare=(often,))
    assert done.returncode == 0, done.stderr
    for iteration, objective in ((33, "dcgan"), (13, "wgan-gp"), (4, "textbook")):
        done = run_script("q4_wgan/compare.py", *words(world, killed, *arguments),
                          prepare=(die_at, iteration, objective))
        assert done.returncode == KILLED, done.stderr
    assert (killed / "runs/compare_textbook_toy_seed1/.lock").exists()
    done = run_script("q4_wgan/compare.py", *words(world, killed, *arguments), prepare=(often,))
    assert done.returncode == 0, done.stderr

    def bare(line):
        line = {key: value for key, value in line.items() if key not in ("core_seconds", "time")}
        return {**line, "curve": [{k: v for k, v in point.items() if k != "core_seconds"} for point in line["curve"]]}
    lines = [record(results / "q4/comparison_toy.jsonl") for results in (whole, killed)]
    assert len(lines[0]) == 6 and list(map(bare, lines[0])) == list(map(bare, lines[1]))

    found = next(line for line in lines[0] if line["objective"] == "dcgan" and line["seed"] == 2)  # by train.py:
    options = ("--model", "dcgan", "--dim", 2, "--iterations", found["iterations"], "--lr", found["learning_rate"],
               "--generator-lr", found["generator_learning_rate"], "--beta1", found["beta1"], "--seed", 2,
               "--precision", "bfloat16", "--device", "cpu", "--name", "again")
    run_script("q4_wgan/train.py", *words(world, whole, *options), prepare=(torch.set_num_threads, 1))
    again = json.loads((whole / "runs/again/outcome.json").read_text())
    assert again["relative_distance"] == pytest.approx(found["relative_distance"], abs=1e-3)

    result = json.loads((killed / "q4/comparison_toy.json").read_text())
    assert [run["model"] for run in result["runs"]] == ["dcgan", "dcgan", "wgan", "wgan", "textbook", "textbook"]
    assert {"model", "seed", "iterations", "seconds", "relative_distance", "relative_distance_pixels", "precision",
            "recall"} <= result["runs"][0].keys()
    for model, settings in result["settings"].items():
        assert settings == SETTINGS.get({"wgan": "wgan-gp"}.get(model, model), {"learning_rate": 1e-4})
    for line in lines[1]:
        assert line["curve"][-1]["iteration"] == line["iterations"] == line["reached"]
        assert all(0 < point["relative_distance"] for point in line["curve"])
    assert Image.open(killed / "q4/comparison_toy.png").size[0] > 1000
    assert "DCGAN − WGAN-GP" in done.stdout

    path = killed / "q4/tuning_toy.json"
    path.write_text(path.read_text().replace("0.002", "0.003"))
    one_line(run_script("q4_wgan/compare.py", *words(world, killed, *arguments)), "comparison_toy.jsonl", "other settings")


@pytest.mark.skipif(os.name == "nt", reason="a dead parent cannot be seen there")
def test_its_processes_end_with_a_killed_comparison(world, tmp_path):
    """Else they would train for another hour, and the same command would find their folders locked."""
    results = tuned(tmp_path)
    process = start("q4_wgan/compare.py", *words(world, results, "--dim", 2, "--compute", 10**6, "--jobs", 2))
    locks = [results / f"runs/compare_{name}_toy_seed1/.lock" for name in ("dcgan", "wgan-gp")]
    end = time.monotonic() + 120
    while not all(lock.exists() for lock in locks):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    for lock in locks:
        with FileLock(lock, timeout=60):
            pass


def test_a_search_that_has_not_ended_is_told(world, tmp_path):
    found = {objective: {"best": {**settings, "objective": objective, "iterations": 6}}
             for objective, settings in SETTINGS.items()}
    path = tuned(tmp_path) / "q4/tuning_toy.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    one_line(run_script("q4_wgan/compare.py", *words(world, tmp_path, "--compute", 60)), "tuning_toy.json", "tune.py")


def test_the_search_that_ships_has_ended(tmp_path):
    """So a smoke test of the comparison takes its settings, whatever its compute."""
    assert runs.tuned(tmp_path, "fashion", "dcgan", 200) == runs.tuned(tmp_path, "fashion", "dcgan")


def test_equal_compute():
    chosen = {"dcgan": SETTINGS["dcgan"], "wgan": SETTINGS["wgan-gp"], "textbook": {"learning_rate": 1e-4}}
    counts = {model: compare.options_of(model, 0, chosen)["iterations"] for model in compare.MODELS}
    assert counts == {"dcgan": 30_000, "wgan": 8_600, "textbook": 3_000}
    for penalised, count in ((32, 7_700), (64, 6_400)):
        chosen["wgan"] = {**SETTINGS["wgan-gp"], "penalty_images": penalised}
        assert compare.options_of("wgan", 0, chosen)["iterations"] == count


def test_the_summary_of_a_comparison():
    """Against numbers made by hand: DCGAN 20, 22, 24 and WGAN-GP 10, 12 on the test images."""
    chosen = {"dcgan": SETTINGS["dcgan"], "wgan": SETTINGS["wgan-gp"], "textbook": {"learning_rate": 1e-4}}

    def line(model, seed, distance, curve):
        options = compare.options_of(model, seed, chosen)
        test = {"relative_distance": distance, "relative_distance_pixels": 2.0 + seed,
                "precision": 0.8 + seed / 100, "recall": 0.6 + seed / 100,
                "class_frequencies": [0.05] + [0.95 / 9] * 9}
        points = [{"iteration": i, "core_seconds": s, "relative_distance": d, "relative_distance_pixels": d / 10}
                  for i, s, d in curve]
        return {**options, "outcome": "trained", "reached": options["iterations"], "core_seconds": curve[-1][1],
                "relative_distance": curve[-1][2], "curve": points, "test": test}
    dcgan = [line("dcgan", seed, 20.0 + 2 * seed, [(3_000, 100, 80.0), (30_000, 1000, 20.0 + seed)])
             for seed in range(3)]
    wgan = [line("wgan", seed, 10.0 + 2 * seed, [(4_300, 500, 100.0), (8_600, 1000, 12.0 - seed)])
            for seed in range(2)]
    result = compare.summarise([*dcgan, *wgan], chosen)
    assert result["equal_compute"]["dcgan"]["relative_distance"] == {"mean": 22.0, "std": 2.0, "n": 3}
    found = result["difference_at_equal_compute"]["relative_distance"]
    error = math.sqrt(4 / 3 + 2 / 2)  # Welch: variances 4 of 3 and 2 of 2
    freedom = error**4 / ((4 / 3)**2 / 2 + 1**2 / 1)
    from scipy.stats import t
    assert found["mean"] == pytest.approx(11.0)
    assert found["high"] - 11.0 == pytest.approx(t.ppf(0.975, freedom) * error) == pytest.approx(11.0 - found["low"])
    part = (8_600 - 3_000) / 27_000
    assert result["equal_iterations"]["dcgan"]["relative_distance"]["mean"] == pytest.approx(
        np.mean([80 * ((20 + seed) / 80) ** part for seed in range(3)]))
    assert result["equal_iterations"]["wgan"]["relative_distance"]["mean"] == pytest.approx(11.5)
    assert result["seconds_to_reach"]["wgan"]["100"]["runs"] == [500, 500]
    assert result["seconds_to_reach"]["dcgan"]["25"]["n"] == 3
    rows = compare.times_markdown(result).splitlines()[2:]
    assert rows[0].startswith("| DCGAN | 1.7 ± 0.0 |") and rows[1].startswith("| WGAN-GP | 8.3 ± 0.0 |")
    assert rows[2] == "| WGAN-GP, textbook loop | 0 of 0 | 0 of 0 | 0 of 0 |"
    assert compare.summarise([], chosen)["runs"] == []


def test_reading_curves():
    curve = [{"iteration": 10, "core_seconds": 1.0, "relative_distance": 100.0},
             {"iteration": 20, "core_seconds": 2.0, "relative_distance": 25.0}]
    assert summary.time_to(curve, 50) == pytest.approx(1.5)
    assert summary.time_to(curve, 100) == 1.0 and summary.time_to(curve, 20) is None
    assert summary.value_at(curve, 15, "relative_distance") == pytest.approx(50)
    assert summary.value_at(curve, 25, "relative_distance") is None
    assert summary.mean_std([3.0]) == {"mean": 3.0, "std": None, "n": 1}
    assert summary.difference([1.0], [2.0, 3.0]) is None


# ---- the study -----------------------------------------------------------------------------------

def test_outcomes(world):
    """NaN is diverged; a generator with one image is collapsed."""
    where = "toy", world / "data", world / "weights", "cpu"
    options = {"objective": "dcgan", "arch": "conv", "dim": 2, "batch": 16, "iterations": 60, "learning_rate": 1e38,
               "seed": 0, "precision": "float32"}
    line = runs.run(options, where=where)
    assert (line["outcome"], line["relative_distance"]) == ("diverged", None) and line["reached"] <= 60
    assert runs.outcome(True, [0.0099] + [0.11] * 9) == "collapsed"
    assert runs.outcome(True, [0.0101] + [0.11] * 9) == "trained"
    assert metrics.SMALLEST_FREQUENCY == 0.01
    curve = [{"relative_distance": 100.0}, {"relative_distance": 89.0}]
    assert stability.came_to_rest({"outcome": "trained", "curve": curve}) is False
    assert stability.came_to_rest({"outcome": "collapsed", "curve": [curve[0], {"relative_distance": 91.0}]}) is True
    assert stability.came_to_rest({"outcome": "diverged"}) is None


def test_the_cells_of_the_study():
    wanted = stability.cells(SETTINGS, 2)
    assert len(wanted) == 3 * 8 * 3 and len({runs.key(o) for work in wanted.values() for o in work}) == 144
    assert wanted["wgan-gp", "no norm in G and D; WGAN-GP: layer norm in D", "paper"][0]["critic_norm"] == "layer"
    paper, between, best = (wanted["dcgan", "baseline", rate][0] for rate in stability.RATES)
    assert paper["learning_rate"] == 2e-4 and "beta1" not in paper
    assert between["learning_rate"] == pytest.approx(math.sqrt(2e-4 * 2e-3), rel=0.02)
    assert between["generator_learning_rate"] == pytest.approx(between["learning_rate"] / 2, rel=0.03)
    assert best["learning_rate"] == 2e-3 and best["iterations"] == stability.COMPUTE
    width = wanted["dcgan", "double width", "tuned"][0]
    assert width["dim"] == 32 and width["iterations"] < stability.COMPUTE


def assert_complete(results):
    """Every run of the quick study is recorded once, and counted once."""
    lines = record(results / "q4/stability_quick_toy.jsonl")
    assert len({runs.key(line) for line in lines}) == len(lines) == 24
    result = json.loads((results / "q4/stability_quick_toy.json").read_text())
    assert len(result["cells"]) == 24 and all(len(cell["outcomes"]) == 1 for cell in result["cells"])
    for total in result["totals"].values():
        assert total["runs"] == total["trained"] + total["collapsed"] + total["diverged"] == 8
    assert sum(result["only_dcgan_or_wgan_gp"].values()) == 8
    assert Image.open(results / "q4/stability_quick_toy.png").size[0] > 1000
    return lines


def test_a_killed_study_goes_on(world, tmp_path):
    """The study, and one of its processes, killed."""
    results = tuned(tmp_path)
    path = results / "q4/stability_quick_toy.jsonl"
    process = start("q4_wgan/stability.py", "--quick", *words(world, results, "--jobs", 2))
    wait_for_lines(path, 3, process)
    process.kill()
    process.wait()
    before = record(path)
    done = run_script("q4_wgan/stability.py", "--quick", *words(world, results, "--jobs", 1))
    assert done.returncode == 0, done.stderr
    assert assert_complete(results)[:len(before)] == before


def dask(*arguments, log, **environment):
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=ROOT, env={**clean, **environment},
                            stdout=log, stderr=log)


@pytest.fixture
def address():
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def test_a_cluster_as_the_readme_starts_it(world, tmp_path, address):
    """PYTHONPATH=. in the repository's root, on the scheduler and on the workers; one of these dies."""
    text = (ROOT / "q4_wgan/EXPERIMENTS.md").read_text(encoding="utf-8")
    assert "PYTHONPATH=. dask scheduler" in text and "PYTHONPATH=. dask worker tcp://host:8786 --nthreads 1" in text
    results = tuned(tmp_path)
    with open(tmp_path / "cluster.log", "w") as log:
        cluster = [dask("scheduler", "--host", address, "--no-dashboard", log=log, PYTHONPATH=".")]
        try:
            cluster += [dask("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", log=log,
                             PYTHONPATH=".") for _ in range(2)]
            process = start("q4_wgan/stability.py", "--quick", *words(world, results, "--scheduler", address))
            wait_for_lines(results / "q4/stability_quick_toy.jsonl", 4, process)
            cluster[1].kill()
            _, errors = process.communicate(timeout=250)
            assert process.returncode == 0, errors + (tmp_path / "cluster.log").read_text()
        finally:
            for part in cluster:
                part.kill()
                part.wait()
    assert_complete(results)


def test_a_cluster_without_the_modules(monkeypatch):
    distributed = pytest.importorskip("distributed")

    class Client:
        def __init__(self, address, timeout):
            self.run = lambda find, name: {"worker 1": find(name), "worker 2": None}

        def wait_for_workers(self, n, timeout):
            pass

        def run_on_scheduler(self, find, name):
            return None

        def close(self):
            pass
    monkeypatch.setattr(distributed, "Client", Client)
    with pytest.raises(UserError, match="the scheduler, worker 2 cannot import q4_wgan; .* PYTHONPATH=."):
        runs.connect("tcp://host:8786")


# ---- the benchmark, bad input --------------------------------------------------------------------

def test_benchmark(world, tmp_path):
    done = run_script("q4_wgan/benchmark.py", "--dims", 2, "--rounds", 1, "--dataset", "toy",
                      "--data-dir", world / "data", "--results-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "q4/benchmark.json").read_text())["dims"]["2"]
    assert found["cost"]["dcgan"] == 1 and len(found["seconds_per_iteration"]) == 7
    seconds = {name: entry["median"] for name, entry in found["seconds_per_iteration"].items()}
    assert found["textbook_over_shipped"] == pytest.approx(seconds["textbook"] / seconds["wgan-gp 16"])
    assert "| WGAN-GP, textbook loop |" in done.stdout


@pytest.mark.parametrize("script, arguments, message", [
    ("stability", ["--scheduler", "nonsense"], "no Dask scheduler"), ("stability", ["--scheduler", ""], "--scheduler"),
    ("stability", ["--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"], "--jobs"),
    ("stability", ["--data-dir", "/nowhere", "--dataset", "toy"], "/nowhere"),
    ("stability", ["--seeds", "0"], "--seeds"), ("tune", ["--draws", "0"], "--draws"),
    ("tune", ["--dim", "100000"], "--dim"), ("tune", ["--weights-dir", "/nowhere"], "q4_classifier_toy.pt"),
    ("compare", ["--seeds", "x"], "--seeds"), ("compare", [], "tuning_toy.json"),
    ("benchmark", ["--rounds", "0"], "--rounds"), ("benchmark", ["--dataset", "../x"], "--dataset"),
    ("tune", ["--device", "cuda"], "--device cuda")])
def test_bad_input(world, tmp_path, script, arguments, message):
    if "no Dask" in message or arguments == ["--scheduler", ""]:
        pytest.importorskip("distributed")
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    folders = words(world, tmp_path) if script != "benchmark" else []
    if script == "stability":
        tuned(tmp_path)
    one_line(run_script(f"q4_wgan/{script}.py", *folders, *arguments), message)


def test_a_search_in_which_nothing_trained(world, tmp_path):
    one_line(run_script("q4_wgan/compare.py", *words(world, tuned(tmp_path, "collapsed"))), "tune.py")
