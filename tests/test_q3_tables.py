"""Question 3's experiments: intervals against simulation and closed forms, record and searches killed and resumed, and
the tables in the texts against the records."""

import json

import numpy as np
import pytest
from helpers import KILLED, ROOT, die, make_dataset, one_line, run_script
from scipy import stats

from q3_vae_m1 import classifiers, experiments
from q3_vae_m1.experiments import intervals, record, table, tune

# ---- intervals -----------------------------------------------------------------------------------

def test_one_training_gives_the_paired_t_interval():
    d = np.random.default_rng(0).normal(1, 2, (1, 10))
    mean, low, high = intervals.interval(d)
    expected = stats.ttest_1samp(d[0], 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high)) and mean == pytest.approx(d.mean())


@pytest.mark.parametrize("sds", [(1, 1, 1), (0.3, 0.8, 0.3), (1, 0.1, 0.1), (0.1, 1, 0.1)])
@pytest.mark.parametrize("trainings", [3, 5])
def test_intervals_cover_when_trainings_and_draws_both_vary(trainings, sds):
    random, n = np.random.default_rng(0), 800
    by_training, by_draw, rest = (sd * random.normal(size=(n, *shape)) for sd, shape in
                                  zip(sds, ((trainings, 1), (1, 10), (trainings, 10))))
    hits = [low < 0 < high for _, low, high in map(intervals.interval, by_training + by_draw + rest)]
    assert 0.92 < np.mean(hits) < 0.98


def test_pairs_are_of_the_same_training_and_a_method_without_one_goes_with_all():
    m1, pixels = {0: np.array([1.0, 2]), 1: np.array([3.0, 5])}, {None: np.array([10.0, 20])}
    assert intervals.paired(m1, pixels).tolist() == [[-9, -18], [-7, -15]]
    assert intervals.paired(pixels, m1).tolist() == [[9, 18], [7, 15]]
    assert intervals.paired(m1, {1: np.array([1.0, 1]), 2: np.array([0.0, 0])}).tolist() == [[2, 4]]


def test_deviations_are_of_each_factor():
    random = np.random.default_rng(0)
    errors = 3 * random.normal(size=(400, 1)) + 0.5 * random.normal(size=(400, 300))
    over_draws, over_trainings = intervals.deviations(errors)
    assert over_draws == pytest.approx(0.5, rel=0.05) and over_trainings == pytest.approx(9.25**0.5, rel=0.1)
    assert intervals.deviations(errors[:1, :1]) == (None, None)


# ---- the record and the searches -----------------------------------------------------------------

WORDS = ("--draws", "1", "--vae-seeds", "2", "--ablation-seeds", "0", "--precision", "float32")


def shrink(lines=None):
    """In the script's process: a toy set, short trainings, few labels; with `lines`, die when a record has so many."""
    from q3_vae_m1 import command, files, vae
    experiments.DATASETS, classifiers.COUNTS = ("toy",), (20, 50)
    vae.GAUSSIAN["fashion"]["epochs"] = vae.BERNOULLI["epochs"] = 2
    append, write = files.append_line, command.write

    def dying_append(path, entry):
        append(path, entry)
        if len(files.read_lines(path)) == lines:
            die()

    def dying_write(path, data, **how):
        write(path, data, **how)
        if "_search_" in path.name and len(json.loads(data)["rows"]) == lines:
            die()
    files.append_line, command.write = dying_append, dying_write


def folders(base):
    return ["--data-dir", base / "data", "--results-dir", base, "--out", base / "out"]


def without_times(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(json.dumps({k: v for k, v in line.items() if k not in ("time", "seconds")}) for line in lines)


def test_a_killed_record_goes_on_and_is_the_same(tmp_path, monkeypatch):
    script, whole, killed = "q3_vae_m1/experiments/record.py", tmp_path / "whole", tmp_path / "killed"
    for base in (whole, killed):
        make_dataset(base / "data")
    done = run_script(script, *WORDS, *folders(whole), prepare=(shrink,))
    assert done.returncode == 0 and "complete" in done.stdout, done.stderr
    assert run_script(script, *WORDS, *folders(killed), prepare=(shrink, 11)).returncode == KILLED
    assert run_script(script, *WORDS, *folders(killed), prepare=(shrink,)).returncode == 0
    lines = without_times(killed / "out/errors.jsonl")
    monkeypatch.setattr(classifiers, "COUNTS", (20, 50))  # as in the script
    units = [unit for unit in record.units(2, 0) if unit[0] == "fashion"]
    assert len(lines) == len(set(lines)) == sum(len(unit[3]) for unit in units)
    assert lines == without_times(whole / "out/errors.jsonl")


@pytest.mark.parametrize("what, rows, dies", [("kernel", 4 * 20, 40), ("transductive", 8, 2), ("vae", 7, 2),
                                              ("virtual", 2 * 17, 17)])
def test_searches_go_on_after_a_kill(tmp_path, what, rows, dies):
    """Their file has a row for every setting, whose errors are those of validation images."""
    make_dataset(tmp_path / "data")
    words = (what, "--draws", "1", "--epochs", "1", "--jobs", "1", *folders(tmp_path))
    killed = run_script("q3_vae_m1/experiments/tune.py", *words, prepare=(shrink, dies))
    assert killed.returncode == KILLED, killed.stderr
    done = run_script("q3_vae_m1/experiments/tune.py", *words, prepare=(shrink,))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"out/{what}_search_toy.json").read_text(encoding="utf-8"))
    assert len(found["rows"]) == rows and found["validation_images"] == 100
    for row in found["rows"]:
        assert [*row["errors"]] == ["20", "50"] and row["errors"]["50"] < 80
        assert all(row["errors"][n] == pytest.approx(np.mean(e), abs=0.001) for n, e in row.get("by_draw", {}).items())
        assert row["score"] == pytest.approx(np.sqrt(np.prod([*row["errors"].values()])), abs=0.01)
    if what == "kernel":
        assert [*found["chosen"]["M1"]] == ["power", "width", "C"]
        one_line(run_script("q3_vae_m1/experiments/tune.py", *words, "--draws", 2, prepare=(shrink,)), "has 1 label draws")


def test_the_tracked_record_is_complete_and_its_units_are_those_of_the_scripts():
    units = list(record.units(5, 3))
    assert len(set(units)) == len(units) and units[0] == ("fashion", "raw pixels", None, (*record.ALL, "virtual"))
    assert not any(record.missing(ROOT / "results/runs/none", unit, 10) for unit in record.units(5, 1))
    assert record.settings_of("mnist", "M1", 0) == record.settings_of("mnist", "M1, samples", 0)
    assert record.settings_of("mnist", "M1, KL weight 0", 2)["kl_weight"] == 0
    assert record.settings_of("fashion", "M1 (Bernoulli), small KL weight", 0)["kl_weight"] == 0.02


# ---- tables --------------------------------------------------------------------------------------

@pytest.mark.parametrize("dataset", ["toy", "mnist"])
def test_tables_of_errors_known_in_closed_form(dataset):
    """seed + draw / 10 + 1 for M1, 5 for raw pixels, a point more without distortion."""
    lines = [{"dataset": dataset, "features": features, "vae_seed": seed, "classifier": "svm", "draw": draw,
              "errors": {str(n): value for n in table.COUNTS}}
             for draw in range(3) for features, seed, value in (
                 ("raw pixels", None, 5.0), ("M1", 0, 1 + draw / 10), ("M1", 1, 2 + draw / 10),
                 ("M1, no distortion", 1, 3 + draw / 10), ("M1", 2, 9.0))][:-1]  # seed 2 lacks a draw
    found = table.methods(lines, dataset)
    content, entries = table.table(dataset, found), table.differences(dataset, found)
    assert (content["draws"], content["trainings"]) == (3, 2)
    m1 = next(row for row in content["rows"] if row["method"] == "M1+SVM" and row["labels"] == 600)
    assert (m1["error_mean"], m1["error_std"], m1["training_std"]) == (1.6, 0.1, 0.7071)
    assert {row["method"] for row in content["ablations"]} == {"M1, no distortion+SVM"}
    text = "\n".join(table.markdown(content, entries))
    assert "| M1 (ours)+SVM | 2 | 1.60 ± 0.10 (0.71) |" in text and "| raw pixels+SVM |  | 5.00 ± 0.00 |" in text
    assert ("| paper: M1+TSVM |  | 11.82 ± 0.25 |" in text) == (dataset == "mnist")
    first, second = (entry for entry in entries if entry["labels"] == 100)
    assert (first["a"], first["b"], first["difference"], first["n"]) == ("M1+SVM", "raw pixels+SVM", -3.4, 3)
    assert (second["a"], second["b"], second["trainings"]) == ("M1, no distortion+SVM", "M1+SVM", 1)
    assert second["difference"] == second["low"] == second["high"] == 1


def result(name):
    return json.loads((ROOT / f"results/q3/{name}.json").read_text(encoding="utf-8"))


def test_table_py_makes_the_tracked_results_from_the_tracked_record(tmp_path):
    done = run_script("q3_vae_m1/experiments/table.py", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("table_fashion", "table_mnist", "differences"):
        assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) == result(name)
    assert (tmp_path / "table.png").stat().st_size > 10_000


@pytest.mark.parametrize("dataset", ["fashion", "mnist"])
def test_tables_in_the_texts_are_those_of_the_results(dataset):
    texts = [(ROOT / "q3_vae_m1" / name).read_text(encoding="utf-8") for name in ("README.md", "experiments/README.md")]
    entries = [entry for entry in result("differences") if entry["dataset"] == dataset]
    made = table.markdown(result(f"table_{dataset}"), entries)
    assert len(made) >= 6 and [own.split("\n")[0] for own in made if not any(own in text for text in texts)] == []


@pytest.mark.parametrize("dataset", ["fashion", "mnist"])
def test_settings_in_use_are_those_that_the_search_found(dataset):
    chosen = result(f"kernel_search_{dataset}")["chosen"]
    assert chosen == {features: classifiers.svm_settings(dataset, features) for features in chosen} and len(chosen) == 4
    search = result(f"virtual_search_{dataset}")
    for features, settings in search["chosen"].items():
        how = ("transductive-virtual", "M1", features) if features == "transductive" else ("virtual", features, "SVM")
        assert settings == [classifiers.virtual_settings(how[0], dataset, n, how[1]) for n in (100, 600)]
        assert settings == tune.best_virtual(search["rows"], *how[1:])


def test_virtual_examples_are_chosen_where_they_gain_more_than_two_standard_errors():
    def row(strength, few, many):
        by_draw = {"100": few} | ({"600": many, "1000": many, "3000": many} if many else {})
        return {"classifier": "SVM", "features": "M1", "strength": strength, "copies": 9 * (strength > 0), "C": 1.0,
                "by_draw": by_draw}
    rows = [row(0.0, [10, 11, 12], [5, 6, 4]), row(1.0, [8, 9, 10], [4, 6.1, 4]), row(2.0, [7, 8, 8.5], None)]
    assert tune.best_virtual(rows, "M1") == [{"strength": 2.0, "copies": 9, "C": 1.0}, None]


def test_comparisons_in_sentences_hold_with_their_intervals():
    def sign(dataset, a, b, n):
        """-1 or 1 where a's error is lower or higher than b's, 0 where the interval has both."""
        [e] = [e for e in result("differences") if (e["dataset"], e["a"], e["b"], e["labels"]) == (dataset, a, b, n)]
        return (e["low"] > 0) - (e["high"] < 0)

    def signs(dataset, a, b):
        return [sign(dataset, a, b, n) for n in classifiers.COUNTS]
    for dataset in ("fashion", "mnist"):
        for fit in ("SVM", "transductive"):
            assert signs(dataset, f"M1+{fit}", f"raw pixels+{fit}") == [-1] * 4
        assert signs(dataset, "M1+transductive", "M1+SVM") == [-1] * 4
        assert signs(dataset, "M1+SVM, virtual examples", "M1+SVM") == [-1] * 4
    assert signs("fashion", "M1 (Bernoulli)+SVM", "raw pixels+SVM") == [0, 1, 1, 1]
    assert signs("fashion", "M1 (Bernoulli)+transductive", "raw pixels+transductive") == [-1, 0, 1, 1]
    assert signs("mnist", "M1, no distortion+SVM", "M1+SVM") == [1] * 4
