"""q4_wgan's search, comparison, study, benchmark and figures: records, killed and resumed, on Dask, and their arithmetic."""

import importlib
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import KILLED, ROOT, die, make_dataset, one_line, run_script, tables
from PIL import Image
from scipy import stats as scipy_stats

from q4_wgan import command, files, metrics, run, training
from q4_wgan.experiments import benchmark, compare, figures, jobs, plots, recipe, stability, textbook, tune

README = (ROOT / "q4_wgan/experiments/README.md").read_text(encoding="utf-8")
CHOSEN = compare.settings()
SUMMARY = SimpleNamespace(out=ROOT / "results/q4", summary=True, draws=tune.DRAWS, dim=tune.DIM, compute=tune.COMPUTE)


def record(name, folder=jobs.PUBLISHED):
    return files.read_lines(folder / f"{name}.jsonl")


def published(name):
    return json.loads((jobs.PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small data set in the place of Fashion-MNIST."""
    return make_dataset(tmp_path_factory.mktemp("experiments"), "FashionMNIST")


def folders(data, results):
    return "--data-dir", data, "--results-dir", results


# ---- the records that come with the repository ---------------------------------------------------

def test_all_lines_count_and_none_is_missing():
    """A key that changes would train for days what is there already."""
    rungs, missing = tune.search(SUMMARY)
    assert not missing and [[len(lines) for lines in mine] for mine in rungs.values()] == [
        [24, 8] if name == "wgan-clip" else [24, 8, 3] for name in tune.LISTS]
    drawn = {jobs.key(tune.draw(name, i, tune.DIM, times * tune.COMPUTE))
             for times, names, _ in tune.RUNGS for name in names for i in range(tune.DRAWS)}
    assert {jobs.key(line) for line in record("tuning")} <= drawn
    compared = {jobs.key(compare.options_of(model, seed + 1, CHOSEN)) for model, n in compare.SEEDS.items() for seed in range(n)}
    assert {jobs.key(line) for line in record("comparison")} <= compared
    wide = {jobs.key(recipe.options_of(model, seed)) for model in recipe.MODELS for seed in range(recipe.SEEDS)}
    assert {jobs.key(line) for line in record("recipe")} <= wide
    study = [jobs.key(options) for work in stability.cells(stability.SEEDS).values() for options in work]
    assert len(set(study)) == 144 and set(study) <= {jobs.key(line) for line in record("stability")}


def test_what_tells_one_run_from_another():
    options = tune.draw("wgan-gp", 0)
    same = [{**options, "precision": "float32"}, {**options, "draw": 7, "device": "cuda"}, {**options, "critic_steps": 5}]
    assert {jobs.key(one) for one in same} == {jobs.key(options)}
    others = [{**options, "critic_steps": 1}, {**options, "seed": 1}, {**options, "critic_norm": "layer"}]
    assert len({jobs.key(one) for one in (options, *others)}) == 4
    plain = tune.draw("dcgan", 0)
    assert jobs.key({**plain, "critic_norm": None}) != jobs.key(plain) == jobs.key({**plain, "critic_norm": "batch"})


def about(value):
    """For comparing a JSON with what is computed here, to the last bits."""
    if isinstance(value, dict):
        return {key: about(part) for key, part in value.items()}
    if isinstance(value, list):
        return [about(part) for part in value]
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


def test_summaries_and_tables_are_those_of_the_records():
    rungs, missing = tune.search(SUMMARY)
    result, found = tune.summarise(rungs, missing), published("tuning")
    assert result == about(found)
    assert tune.markdown(rungs) in README
    found = published("comparison")
    chosen = found["settings"]
    lines = {model: [line for line in record("comparison") if jobs.key(line) in {
        jobs.key(compare.options_of(model, seed, chosen)) for seed in range(1, 11)}] for model in chosen}
    lines = {model: sorted(mine, key=lambda line: line["seed"]) for model, mine in lines.items()}
    result = compare.summarise(lines, chosen)
    assert json.loads(json.dumps(result)) == about(found)
    assert compare.reached_markdown(result) in README
    for row in compare.markdown(result).splitlines()[2:]:  # the README of the room may set it in bold
        assert row in (ROOT / "q4_wgan/README.md").read_text(encoding="utf-8").replace("**", "")
    assert recipe.markdown(published("recipe")) in README
    found = published("stability")
    result = stability.summarise(stability.cells(2), {jobs.key(line): line for line in record("stability")})
    assert json.loads(json.dumps(result)) == about(found)
    assert stability.markdown(result) in README and stability.readings_markdown(result) in README
    assert benchmark.markdown(published("benchmark")) in README
    rows = [row for found in tables(README) if found[0][1] == "changed" for row in found[1:]]
    assert sorted(row[3:] for row in rows) == sorted(
        [f"{line['iterations']:,}", f"{line['relative_distance']:.1f}", f"{line['relative_distance_pixels']:.1f}"]
        for line in record("factors"))
    attempts = {}
    for line in record("attempts"):
        attempts.setdefault(line["attempt"], {}).update(line)
    rows = [row for found in tables(README) if found[0][-1] == "end" for row in found[1:]]
    assert len(rows) == len(attempts)
    for row, attempt in zip(rows, attempts.values()):
        last = attempt.get("relative_distance_last", attempt.get("relative_distance"))
        assert (row[1], row[4], row[-1]) == (f"{attempt['learning_rate']:g}", attempt["outcome"], f"{last:.1f}" if last else "")
        assert row[3] == f"{attempt.get('start', 0):,} to {attempt.get('reached', 0):,} of {attempt['iterations']:,}"


# ---- arithmetic ----------------------------------------------------------------------------------

def test_statistics():
    found = compare.difference([20.0, 22.0, 24.0], [10.0, 12.0])  # Welch: variances 4 of 3 and 2 of 2
    error = math.sqrt(4 / 3 + 2 / 2)
    freedom = error**4 / ((4 / 3)**2 / 2 + 1**2 / 1)
    assert found["mean"] == pytest.approx(11)
    assert found["high"] - 11 == pytest.approx(scipy_stats.t.ppf(0.975, freedom) * error) == pytest.approx(11 - found["low"])
    assert compare.difference([1.0], [2.0, 3.0]) is None
    assert metrics.mean_std([3.0]) == {"mean": 3.0, "std": None, "n": 1}
    mine = [(True, False), (False, True), (False, True), (True, True)]
    assert stability.pairs(mine) == [1, 2, 1, 0] and stability.pairs([]) == [0, 0, 0, 0]
    assert stability.sign_test({"a": mine, "b": mine, "c": mine[1:], "d": mine[:1] + mine[3:], "e": mine[:2]}) == (
        1, 3, 1, pytest.approx(0.625))  # 2 (1 + 4) / 2^4
    assert stability.sign_test({"a": [], "b": [(True, True)]}) == (0, 0, 2, 1.0)
    curve = [{"iteration": 10, "relative_distance": 100.0}, {"iteration": 20, "relative_distance": 25.0}]
    assert compare.first_at(curve, 50) == pytest.approx(15)
    assert compare.first_at(curve, 100) == 10 and compare.first_at(curve, 20) is None
    assert compare.values_at([curve, curve], 15, "relative_distance") == pytest.approx([50, 50])
    assert compare.values_at([curve], 25, "relative_distance") == []
    rows = [{"iteration": str(i), "critic_loss": str(i / 1000), "generator_loss": str(abs(i - 1000)),
             "relative_distance": "4" if i % 500 == 0 else "", "validation_critic_loss": str(i)}
            for i in range(10, 2001, 10)]
    moments = figures.losses_at(rows, (1000,))
    assert [moment["iteration"] for moment in moments] == [500, 1000, 2000]
    assert moments[0]["critic_loss"] == pytest.approx(np.mean(np.arange(410, 510, 10)) / 1000)  # iterations 401 to 500
    found = figures.lowest(rows, "generator_loss")
    assert found["iteration"] in (1240, 1250) and found["value"] == pytest.approx(125, abs=1)


def test_draws_and_compute():
    for name in tune.LISTS:
        assert all(2e-4 <= tune.draw(name, i)["learning_rate"] <= 2e-2 for i in range(16))
        low, high = tune.NARROW[name][1]
        draws = [tune.draw(name, i) for i in range(16, 216)]
        ratios = [draw["generator_learning_rate"] / draw["learning_rate"] for draw in draws]
        assert 0.94 * low < min(ratios) < 1.15 * low and 0.87 * high < max(ratios) < 1.06 * high
    first = tune.draw("wgan-gp-steps", 0)
    assert {draw["critic_steps"] for draw in draws} == {1, 2, 3} and {draw["beta1"] for draw in draws} == {0.0}
    assert {tune.draw("wgan-gp-steps", i)["critic_steps"] for i in range(16)} == {1, 2, 3, 5}
    assert first["iterations"] == int(float(f"{3000 / jobs.COST['wgan-gp'][first['critic_steps']][first['penalty_images']]:.2g}"))
    counts = {model: compare.options_of(model, 0, CHOSEN)["iterations"] for model in CHOSEN}
    assert counts == {"dcgan": 30_000, "wgan": 8_600, "wgan-gp-steps": 25_000, "textbook": 3_000}
    for more, count in (({"penalty_images": 64}, 6_400), ({"critic_steps": 1}, 30_000), ({"critic_steps": 2}, 19_000)):
        assert compare.options_of("wgan", 0, {"wgan": {**CHOSEN["wgan"], **more}})["iterations"] == count


def test_the_defaults_are_those_of_the_search_at_the_compute_of_the_comparison():
    for name, objective in (("dcgan", "dcgan"), ("wgan-gp-steps", "wgan-gp"), ("wgan-clip", "wgan-clip")):
        short = {**training.SHORT[objective]}
        assert short.pop("iterations") == jobs.iterations({"objective": objective, **short}, compare.COMPUTE)
        assert short.pop("dim") == compare.DIM and short.items() >= jobs.tuned(name).items()
        wide = training.defaults(objective, dim=4 * compare.DIM)
        assert wide["learning_rate"] == pytest.approx(short["learning_rate"] / 4)
        assert training.defaults(objective, dim=8) == training.defaults(objective) == training.SHORT[objective]
        assert training.defaults(objective, paper=True, dim=256) == training.PAPER[objective]


def test_the_search_ranks_and_tells():
    def line(draw, outcome, distance):
        return {"draw": draw, "learning_rate": 2e-3, "generator_learning_rate": 4e-3, "beta1": 0.5, "outcome": outcome,
                "relative_distance": distance, "relative_distance_pixels": 3.0}
    rungs = {"dcgan": [[line(0, "converged", 40), line(1, "far", 50), line(2, "collapsed", 30)],
                       [line(0, "converged", 30), line(1, "converged", 20)], [line(1, "converged", 10)]]}
    assert [one["draw"] for one in tune.ranked(rungs["dcgan"][0])] == [0, 1, 2]  # the last rung decides:
    found = tune.summarise(rungs, {})["dcgan"]
    assert found["best"] == rungs["dcgan"][2][0]
    assert found["outcomes"] == {"trained": 2, "collapsed": 1, "diverged": 0}
    assert tune.summarise(rungs, {"dcgan"})["dcgan"]["best"] is None  # what is not complete has no best
    assert [row.split(" | ")[6:] for row in tune.markdown(rungs).splitlines()[2:]] == [
        ["50.0", "20.0", "10.0", "3.0 |"], ["40.0", "30.0", "", "3.0 |"]]


def test_the_cells_of_the_study():
    wanted = stability.cells(2)
    assert wanted["wgan-gp", "no norm in G and D; WGAN-GP: layer norm in D", "paper"][0]["critic_norm"] == "layer"
    paper, between, best = (wanted["dcgan", "baseline", rate][0] for rate in ("paper", "between", "tuned"))
    assert paper["learning_rate"] == 2e-4 and best["iterations"] == stability.COMPUTE
    assert between["learning_rate"] == pytest.approx(math.sqrt(2e-4 * best["learning_rate"]), rel=0.02)
    width = wanted["dcgan", "double width", "tuned"][0]
    assert width["dim"] == 32 and width["iterations"] < stability.COMPUTE


# ---- runs ----------------------------------------------------------------------------------------

def script(name, attributes=(), killed_at=None):
    """In a process of its own: a script with other constants, that measures little. Where `killed_at` is (objective,
    iteration), it saves at every iteration and is killed there."""
    module = importlib.import_module(f"q4_wgan.experiments.{name}")
    for key, value in attributes:
        setattr(module, key, value)
    training.NORM_IMAGES, run.SAVE_EVERY = 512, -1 if killed_at else run.SAVE_EVERY
    for kind in (training.Training, textbook.Textbook):
        def step(self, original=kind.step):
            if killed_at == (self.options["objective"], self.iteration):
                die()
            original(self)
        kind.step = step
    command.run_main(module.main)


def bare(line):
    """Without the time that it took."""
    return {key: value for key, value in line.items() if key not in ("core_seconds", "time")}


def tuned_only(objective):
    return {"tuned": jobs.tuned(objective)}


@pytest.mark.parametrize("name, few, words, killed", [
    ("compare", [("POINTS", (0.5, 1.0)), ("BATCH", 16)], ("--compute", 60), [("wgan-gp", 13), ("textbook", 4)]),
    ("stability", [("SETTINGS", {"MLP generator": stability.SETTINGS["MLP generator"]}), ("rates", tuned_only), ("BATCH", 16)],
     ("--compute", 20), [("wgan-gp", 2)])])
def test_killed_and_gone_on_with_to_the_same_bits(data, tmp_path, name, few, words, killed):
    def start(folder, killed_at=None):
        return run_script(f"q4_wgan/experiments/{name}.py", *folders(data, tmp_path / folder), "--dim", 2, *words, "--seeds", 1,
                          "--jobs", 1, prepare=(script, name, few, killed_at))
    record_name = {"compare": "comparison"}.get(name, name)
    done = start("whole")
    assert done.returncode == 0, done.stderr
    for at in killed:
        assert start("killed", at).returncode == KILLED
    runs = tmp_path / "killed/runs"
    assert len(list(runs.glob(f"q4_{record_name}_*/checkpoint.pt"))) == 1
    before = record(record_name, runs / "q4")
    done = start("killed")
    assert done.returncode == 0, done.stderr
    lines = [record(record_name, tmp_path / folder / "runs/q4") for folder in ("whole", "killed")]
    assert len(lines[0]) >= 3 and list(map(bare, lines[0])) == list(map(bare, lines[1])) and lines[1][:len(before)] == before
    kept = list(runs.glob("q4_*_*"))
    assert bool(kept) == (name == "compare") and not list(runs.glob("q4_*/checkpoint.pt"))
    assert all((folder / file).exists() for folder in kept for file in ("options.json", "generator.pt", "outcome.json"))
    assert all(line["reached"] == line["iterations"] and line["precision"] for line in lines[1])
    assert Image.open(runs / f"q4/{record_name}.png").size[0] > 1000
    if name == "compare":
        assert all({"precision", "recall", "relative_distance"} < line["test"].keys() for line in lines[1])
        assert all([point["iteration"] for point in line["curve"]][-1] == line["iterations"] for line in lines[1])
        assert "| DCGAN | 1 |" in done.stdout


def dies_while_it_scores(*arguments):
    run.metrics.scores = lambda *_: die()
    script(*arguments)


def test_the_recipe(data, tmp_path):
    def start(prepare):
        return run_script("q4_wgan/experiments/recipe.py", *folders(data, tmp_path), "--dim", 2, "--compute", 20, "--seeds", 1, "--jobs", 1,
                          prepare=(prepare, "recipe", [("POINTS", (1.0,)), ("BATCH", 16)], None))
    assert start(dies_while_it_scores).returncode == KILLED
    assert len(list(tmp_path.glob("runs/q4_recipe_*/checkpoint.pt"))) == 1  # of its end: it is not trained again
    done = start(script)
    assert done.returncode == 0, done.stderr
    assert [row[:3] for row in tables(done.stdout)[0][1:]] == [["DCGAN", "20", "1"], ["WGAN-GP", "17", "1"]]
    assert len(record("recipe", tmp_path / "runs/q4")) == len(list(tmp_path.glob("runs/q4_recipe_*/generator.pt"))) == 2


def launch(log, *arguments, **environment):
    """A script that starts processes of its own, or a part of a cluster; what it says goes to a file."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with open(log, "w") as file:
        return subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, stdout=file, stderr=file,
                                env={**clean, "OMP_NUM_THREADS": "1", **environment})


def wait_for(true, process=None):
    end = time.monotonic() + 200
    while not true():
        assert (process is None or process.poll() is None) and time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_its_processes_save_and_end_with_a_killed_search(data, tmp_path):
    """Else they would train for another hour beside those of the same command."""
    log = tmp_path / "log"
    process = launch(log, "q4_wgan/experiments/tune.py", *folders(data, tmp_path), "--dim", 2, "--compute", 10**6, "--jobs", 2)
    wait_for(lambda: log.read_text().count("q4_tuning_") >= 2, process)
    children = [child for path in Path(f"/proc/{process.pid}/task").glob("*/children") for child in path.read_text().split()]
    mine = [child for child in children if b"loky" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(mine) >= 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in mine))
    assert len(list(tmp_path.glob("runs/q4_tuning_*/checkpoint.pt"))) == 2


def test_a_cluster_as_the_readme_starts_it(data, tmp_path):
    """PYTHONPATH=. in the repository's root, on the scheduler and on the worker."""
    pytest.importorskip("distributed")
    assert "PYTHONPATH=. dask scheduler" in README and "PYTHONPATH=. dask worker tcp://host:8786 --nthreads 1" in README
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    parts = (["scheduler", "--host", address], ["worker", address, "--nthreads", 1, "--no-nanny"])
    cluster = [launch(tmp_path / part[0], "-m", "dask", *part, "--no-dashboard", PYTHONPATH=".") for part in parts]
    try:
        process = launch(tmp_path / "log", "q4_wgan/experiments/tune.py", *folders(data, tmp_path), "--dim", 2,
                         "--compute", 20, "--draws", 1, "--scheduler", address)
        assert process.wait(timeout=250) == 0, (tmp_path / "log").read_text()
    finally:
        for part in cluster:
            part.kill()
            part.wait()
    lines = record("tuning", tmp_path / "runs/q4")
    assert len({jobs.key(line) for line in lines}) == len(lines) >= 4 and not list(tmp_path.glob("runs/q4_tuning_*"))
    found = json.loads((tmp_path / "runs/q4/tuning.json").read_text())
    assert {name: entry["draws"] for name, entry in found.items()} == dict.fromkeys(tune.LISTS, 1)


def test_a_cluster_without_the_modules(monkeypatch):
    distributed = pytest.importorskip("distributed")
    client = SimpleNamespace(run=lambda find, name: {"worker 1": find(name), "worker 2": None},
                             wait_for_workers=lambda n, timeout: None, run_on_scheduler=lambda find, name: None)
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: client)
    with pytest.raises(command.UserError, match="the scheduler, worker 2 cannot import q4_wgan; .* PYTHONPATH=."):
        jobs.connect("tcp://host:8786")


def test_a_run_that_diverges_is_a_line(data, tmp_path):
    options = {"objective": "dcgan", "arch": "conv", "dim": 2, "batch": 16, "iterations": 60, "learning_rate": 1e38, "seed": 0}
    line = jobs.run_one(options, "run", data, tmp_path, "cpu", test=True)
    assert (line["outcome"], line["relative_distance"]) == ("diverged", None) and "test" not in line


# ---- benchmark, figures, bad input ---------------------------------------------------------------

def test_benchmark(data, tmp_path):
    done = run_script("q4_wgan/experiments/benchmark.py", *folders(data, tmp_path), "--dims", 2, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "runs/q4/benchmark.json").read_text())["dims"]["2"]
    seconds = {name: entry["median"] for name, entry in found["seconds_per_iteration"].items()}
    assert found["cost"]["dcgan"] == 1 and seconds.keys() >= set(benchmark.LOOPS)
    assert "| WGAN-GP, 1 critic step, penalty on 16 |" in done.stdout


def test_figures_of_the_pair(tmp_path):
    """Also where the user's settings of matplotlib want TeX and PDF."""
    data = make_dataset(tmp_path / "data", "FashionMNIST", test=5340)
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsavefig.format: pdf\n")
    done = run_script("q4_wgan/experiments/figures.py", *folders(data, tmp_path),
                      environment={"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")})
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs/q4"
    for name in ("losses", "images", "grids", *(f"{model}_{what}" for model in ("dcgan", "wgan")
                                                             for what in ("samples", "training"))):
        assert Image.open(out / f"{name}.png").size[0] >= 600
    assert json.loads((out / "losses.json").read_text()) == about(published("losses"))


def test_figures_of_a_run(tmp_path):
    (tmp_path / "mine").mkdir()
    shutil.copy(ROOT / "weights/q4_dcgan/options.json", tmp_path / "mine")
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.full((1, 10, 28, 28), 100, dtype=np.uint8)
    np.savez(tmp_path / "mine/grids.npz", iterations=np.array([100, 200, 250]), images=images)
    arguments = ["q4_wgan/experiments/figures.py", "--run", tmp_path / "mine"]
    done = run_script(*arguments)
    assert done.returncode == 0, done.stderr
    film = Image.open(tmp_path / "mine/training.gif")
    assert film.n_frames == 3 and film.size == (444, 190)
    for frame in range(3):
        film.seek(frame)
        assert film.convert("L").getpixel((40, 60)) == 100 * frame  # in the first image
    (tmp_path / "mine/grids.npz").write_bytes(b"PK damaged")
    one_line(run_script(*arguments), "grids.npz")
    (tmp_path / "mine/grids.npz").unlink()  # as while it trains
    one_line(run_script(*arguments), "once it has ended")


def test_pictures_of_what_is_not_there_yet():
    empty = tune.search(SimpleNamespace(**{**vars(SUMMARY), "dim": 5}))
    assert empty[1] == set(tune.LISTS) and plots.tuning(empty[0], tune.PARTS)
    assert plots.comparison(dict.fromkeys(CHOSEN, []))
    assert compare.summarise(dict.fromkeys(CHOSEN, []), CHOSEN)["equal_compute"] == {}
    result = stability.summarise(stability.cells(1, 5), {})
    assert plots.stability(result) and "0 of 0" in stability.markdown(result)


@pytest.mark.parametrize("name, arguments, message", [
    ("stability", ["--scheduler", "nonsense"], "no Dask scheduler"), ("stability", ["--scheduler", ""], "--scheduler"),
    ("stability", ["--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"], "--jobs"), ("stability", ["--seeds", "0"], "--seeds"),
    ("tune", ["--draws", "0"], "--draws"), ("tune", ["--dim", "100000"], "--dim"), ("tune", ["--out", ""], "--out"),
    ("tune", ["--data-dir", "/nowhere", "--jobs", "1", "--dim", "2"], "/nowhere"), ("compare", ["--seeds", "x"], "--seeds"),
    ("benchmark", ["--rounds", "0"], "--rounds"), ("figures", ["--run", "/nowhere"], "/nowhere"),
    ("figures", ["--run", "x", "--out", "y"], "--out"), ("tune", ["--device", "cuda", "--dim", "2"], "--device cuda")])
def test_bad_input(tmp_path, name, arguments, message):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    if name == "stability" and "--scheduler" in arguments:
        pytest.importorskip("distributed")
        arguments = [*arguments, "--dim", "2"]
    one_line(run_script(f"q4_wgan/experiments/{name}.py", "--results-dir", tmp_path, *arguments, prepare=(no_network,)),
             message)


def no_network():
    from torchvision import datasets
    datasets.FashionMNIST.resources = []
