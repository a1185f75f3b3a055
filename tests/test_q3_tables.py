"""Question 3: intervals against simulation and closed forms, the record killed and resumed, tables from the record."""

import json
import shutil
import sys

import numpy as np
import pytest
from helpers import KILLED, ROOT, die, make_dataset, one_line, run_script
from scipy import stats

sys.path.insert(0, str(ROOT))
from q3_vae_m1 import classifiers, intervals, markdown, record, table  # noqa: E402  (after the path)

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
    assert intervals.paired(pixels, pixels).tolist() == [[0, 0]]


def test_deviations_are_of_each_factor():
    random = np.random.default_rng(0)
    errors = 3 * random.normal(size=(400, 1)) + 0.5 * random.normal(size=(400, 300))
    over_draws, over_trainings = intervals.deviations(errors)
    assert over_draws == pytest.approx(0.5, rel=0.05) and over_trainings == pytest.approx(9.25**0.5, rel=0.1)
    assert intervals.deviations(errors[:1, :1]) == (None, None)


# ---- the record ----------------------------------------------------------------------------------

COUNTS = (20, 50)
WORDS = ("--dataset", "toy", "--draws", "2", "--vae-seeds", "2", "--ablation-seeds", "0", "--precision", "float32")


def shrink(lines=None):
    """In the script's process: short trainings, few labels; with `lines`, die when the record has so many."""
    from q3_vae_m1 import classifiers, files, vae
    classifiers.COUNTS = COUNTS
    vae.DEFAULTS = {key: value | {"epochs": 2} for key, value in vae.DEFAULTS.items()}
    if lines is not None:
        append = files.append_line

        def dying(path, entry):
            append(path, entry)
            if len(files.read_lines(path)) == lines:
                die()
        files.append_line = dying


def shipped(folder):
    """A small data set and its two VAEs of seed 0."""
    make_dataset(folder / "data")
    for likelihood in ("gaussian", "bernoulli"):
        done = run_script("q3_vae_m1/train.py", "--dataset", "toy", "--labels", "20", "--epochs", "2", "--likelihood",
                          likelihood, *folders(folder))
        assert done.returncode == 0, done.stderr
    return folder


def folders(folder):
    return [word for name in ("data", "weights", "results") for word in (f"--{name}-dir", folder / name)]


def without_times(path):
    lines = [json.loads(line) for line in (path / "results/q3/errors.jsonl").read_text(encoding="utf-8").splitlines()]
    return sorted(json.dumps({k: v for k, v in line.items() if k not in ("time", "seconds")}) for line in lines)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """(folder before the record, folder with the whole record)."""
    start = shipped(tmp_path_factory.mktemp("q3") / "start")
    whole = start.with_name("whole")
    shutil.copytree(start, whole)
    done = run_script("q3_vae_m1/record.py", *WORDS, *folders(whole), prepare=(shrink,))
    assert done.returncode == 0 and "complete" in done.stdout, done.stderr
    return start, whole


def test_a_killed_record_goes_on_and_is_the_same(filled, tmp_path):
    start, whole = filled
    shutil.copytree(start, tmp_path / "killed")
    out = folders(tmp_path / "killed")
    assert run_script("q3_vae_m1/record.py", *WORDS, *out, prepare=(shrink, 26)).returncode == KILLED
    assert run_script("q3_vae_m1/record.py", *WORDS, *out, prepare=(shrink,)).returncode == 0
    lines = without_times(tmp_path / "killed")
    assert len(lines) == len(set(lines)) == 6 * 3 * 2  # 4 controls and 2 further trainings, 3 classifiers, 2 draws
    assert lines == without_times(whole)


def test_a_complete_record_is_left_alone(filled):
    _, whole = filled
    before = (whole / "results/q3/errors.jsonl").read_bytes()
    assert run_script("q3_vae_m1/record.py", *WORDS, *folders(whole), prepare=(shrink,)).returncode == 0
    assert (whole / "results/q3/errors.jsonl").read_bytes() == before


@pytest.mark.parametrize("what, rows", [("kernel", 4 * 20), ("transductive", 8), ("graph", 3), ("vae", 7)])
def test_searches(filled, tmp_path, what, rows):
    """Their file has a row for every setting, whose errors are those of validation images."""
    start, _ = filled
    words = ("--dataset", "toy", "--draws", "1", "--epochs", "1", "--jobs", "1", "--data-dir", start / "data",
             "--weights-dir", start / "weights", "--results-dir", tmp_path)
    done = run_script("q3_vae_m1/tune.py", what, *words, prepare=(shrink,))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / f"q3/{what}_search_toy.json").read_text(encoding="utf-8"))
    assert len(found["rows"]) == rows and found["validation_images"] == 100
    for row in found["rows"]:
        assert [*row["errors"]] == ["20", "50"] and row["errors"]["50"] < 80
        assert row["score"] == pytest.approx(np.sqrt(np.prod([*row["errors"].values()])), abs=0.01)
    if what == "kernel":
        assert [*found["chosen"]["M1"]] == ["power", "width", "C"]


def test_the_same_settings_train_the_vae_that_ships():
    units = list(record.units(["mnist"], 5, 3))
    assert len(set(units)) == len(units) and units[0] == ("mnist", "raw pixels", None, record.ALL)
    assert record.settings_of("mnist", "M1", 0) == record.settings_of("mnist", "M1, samples", 0)
    assert record.settings_of("mnist", "M1, KL weight 0", 2)["kl_weight"] == 0
    assert record.settings_of("fashion", "M1 (Bernoulli), small KL weight", 0)["kl_weight"] == 0.02


# ---- tables --------------------------------------------------------------------------------------

@pytest.mark.parametrize("dataset", ["toy", "mnist"])
def test_tables_from_a_record(tmp_path, dataset):
    """Errors known in closed form: seed + draw / 10 + 1 for M1, 5 for raw pixels, a point more without distortion."""
    path = tmp_path / "q3/errors.jsonl"
    path.parent.mkdir()
    lines = [{"dataset": dataset, "features": features, "vae_seed": seed, "classifier": "svm", "draw": draw,
              "errors": {str(n): value for n in table.COUNTS}}
             for draw in range(3) for features, seed, value in (
                 ("raw pixels", None, 5.0), ("M1", 0, 1 + draw / 10), ("M1", 1, 2 + draw / 10),
                 ("M1, no distortion", 1, 3 + draw / 10), ("M1", 2, 9.0))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]), encoding="utf-8")  # seed 2 lacks a draw
    texts = [(ROOT / "q3_vae_m1" / name).read_bytes() for name in ("README.md", "EXPERIMENTS.md")]
    done = run_script("q3_vae_m1/table.py", "--results-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert texts == [(ROOT / "q3_vae_m1" / name).read_bytes() for name in ("README.md", "EXPERIMENTS.md")]
    content = json.loads((tmp_path / f"q3/table_{dataset}.json").read_text(encoding="utf-8"))
    assert (content["draws"], content["trainings"]) == (3, 2)
    m1 = next(row for row in content["rows"] if row["method"] == "M1+SVM" and row["labels"] == 600)
    assert (m1["error_mean"], m1["error_std"], m1["training_std"]) == (1.6, 0.1, 0.7071)
    assert (m1["trainings"], m1["draws"]) == (2, 3)
    assert {row["method"] for row in content["ablations"]} == {"M1, no distortion+SVM"}
    assert "| M1+SVM | 2 | 1.60 ± 0.10 (0.71) |" in done.stdout
    assert "| raw pixels+SVM |  | 5.00 ± 0.00 |" in done.stdout
    assert ("| paper: M1+TSVM |  | 11.82 ± 0.25 |" in done.stdout) == (dataset == "mnist")
    entries = json.loads((tmp_path / "q3/differences.json").read_text(encoding="utf-8"))
    first, second = (entry for entry in entries if entry["labels"] == 100)
    assert (first["a"], first["b"], first["difference"], first["n"]) == ("M1+SVM", "raw pixels+SVM", -3.4, 3)
    assert first["low"] < -3.4 < first["high"]
    assert (second["a"], second["b"], second["trainings"]) == ("M1, no distortion+SVM", "M1+SVM", 1)
    assert second["difference"] == second["low"] == second["high"] == 1
    assert (tmp_path / "q3/table.png").stat().st_size > 10_000


def test_a_table_takes_the_place_of_the_one_with_its_header():
    old, new = markdown.table(["a"], [["x", 1, 2, 3, 4]]), markdown.table(["a"], [["y", 5, 6, 7, 8], ["z", 5, 6, 7, 8]])
    other = markdown.table(["b"], [["x", 1, 2, 3, 4]])
    assert markdown.with_tables(f"one\n\n{old}\n{other}\ntwo\n", [new]) == f"one\n\n{new}\n{other}\ntwo\n"


def test_no_record_is_one_line(tmp_path):
    one_line(run_script("q3_vae_m1/table.py", "--results-dir", tmp_path), "errors.jsonl", "record.py")


# ---- what is said in the texts -------------------------------------------------------------------

README, EXPERIMENTS = ((ROOT / "q3_vae_m1" / name).read_text(encoding="utf-8") for name in ("README.md", "EXPERIMENTS.md"))
SETS = {"fashion": "Fashion-MNIST", "mnist": "MNIST"}


def result(name):
    return json.loads((ROOT / f"results/q3/{name}.json").read_text(encoding="utf-8"))


def mean(dataset, method, n):
    rows = result(f"table_{dataset}")
    return next(r for r in rows["rows"] + rows.get("paper", []) if (r["method"], r["labels"]) == (method, n))


@pytest.mark.parametrize("dataset", SETS)
def test_tables_in_the_texts_are_those_of_the_results(dataset):
    made = markdown.tables(ROOT / "results/q3", dataset)
    assert len(made) >= 4 and all(table in README or table in EXPERIMENTS for table in made)


@pytest.mark.parametrize("dataset", SETS)
def test_table_is_that_of_the_record(dataset):
    """But for rounding of another machine or version: a propagated label may go over to the other side of a tie."""
    lines = [json.loads(line) for line in (ROOT / "results/q3/errors.jsonl").read_text(encoding="utf-8").splitlines()]
    found = table.methods([line for line in lines if line["dataset"] == dataset], dataset)
    for row in result(f"table_{dataset}")["rows"]:
        for seed, errors in row["errors"].items():
            recorded = found[row["method"]][row["labels"]][None if seed == "None" else int(seed)]
            assert np.abs(recorded - errors).max() < 0.06, (row["method"], row["labels"], seed)
        values = np.array(list(row["errors"].values()))
        assert row["error_mean"] == pytest.approx(values.mean(), abs=1e-4)
        assert row["error_std"] == pytest.approx(np.sqrt(values.var(1, ddof=1).mean()), abs=1e-4)


def test_errors_in_sentences():
    def cell(dataset, method):
        row = mean(dataset, method, 100)
        return f"{markdown.two_digits(row['error_mean'])} ± {markdown.two_digits(row['error_std'])} %"
    text = " ".join(README.split())
    assert f"is {cell('fashion', 'M1+SVM')} on Fashion-MNIST and {cell('mnist', 'M1+SVM')} on MNIST" in text
    assert f"it is {cell('fashion', 'raw pixels+SVM')} and {cell('mnist', 'raw pixels+SVM')}" in text
    assert f"test error {result('classifiers_fashion')['svm']['100']['error']:.2f} %`" in text
    for dataset, title in SETS.items():
        assert f"{result(f'vae_{dataset}')['last_epoch']['seconds']:.0f} s on {title}" in text


def test_comparisons_in_sentences_hold_with_their_intervals():
    def sign(dataset, a, b, n):
        """-1 or 1 where a's error is lower or higher than b's, 0 where the interval has both."""
        [e] = [e for e in result("differences") if (e["dataset"], e["a"], e["b"], e["labels"]) == (dataset, a, b, n)]
        return (e["low"] > 0) - (e["high"] < 0)
    for n in classifiers.COUNTS:
        for dataset in SETS:
            assert sign(dataset, "M1+SVM", "raw pixels+SVM", n) == -1
        for ours in ("M1+SVM", "M1 (Bernoulli)+transductive"):
            assert mean("mnist", ours, n)["error_mean"] < mean("mnist", "M1+TSVM", n)["error_mean"]
    bernoulli = [sign("fashion", "M1 (Bernoulli)+SVM", "raw pixels+SVM", n) for n in classifiers.COUNTS]
    assert bernoulli == [0, 1, 1, 1]
    bernoulli = [sign("fashion", "M1 (Bernoulli)+transductive", "raw pixels+transductive", n) for n in classifiers.COUNTS]
    assert bernoulli == [-1, 0, 1, 1]
    ablations = {(row["method"], row["labels"]): row["error_mean"] for row in result("table_mnist")["ablations"]}
    for method, lower in (("M1, KL weight 1", True), ("M1, no distortion", False),
                          ("M1 (Bernoulli), small KL weight", False)):
        for n in classifiers.COUNTS[:3]:
            assert (ablations[f"{method}+SVM", n] < mean("mnist", "M1+TSVM", n)["error_mean"]) == lower
    behind = [mean("mnist", "M1 (Bernoulli)+SVM", n)["error_mean"] - mean("mnist", "M1+TSVM", n)["error_mean"]
              for n in classifiers.COUNTS]
    assert min(behind[:3]) > 0 and -0.2 < behind[3] < 0  # about level


@pytest.mark.parametrize("dataset", SETS)
def test_settings_in_use_are_those_that_the_search_found(dataset):
    chosen = result(f"kernel_search_{dataset}")["chosen"]
    assert chosen == {features: classifiers.svm_settings(dataset, features) for features in chosen} and len(chosen) == 4


def test_the_effect_of_each_deviation_is_that_of_the_record():
    """Every range of differences in the section; and where none is shown, the interval has 0."""
    text = " ".join(EXPERIMENTS.split())

    def of(dataset, method, counts=classifiers.COUNTS):
        return [e for e in result("differences") if e["dataset"] == dataset and e["a"] == f"{method}+SVM"
                and e["labels"] in counts]

    def span(*words):
        sizes = sorted(abs(e["difference"]) for e in of(*words))
        return " to ".join(markdown.two_digits(size) for size in (sizes[0], sizes[-1]))

    def size(*words):
        return markdown.two_digits(abs(of(*words)[0]["difference"]))

    many, few = classifiers.COUNTS[1:], classifiers.COUNTS[:1]
    small, none = "M1 (Bernoulli), small KL weight", "M1, no distortion"
    assert f"Bernoulli model gains {span('fashion', small)} points on Fashion-MNIST" in text
    assert f"On MNIST it loses {span('mnist', small)}." in text
    assert (f"Weight 1 costs M1 {span('fashion', 'M1, KL weight 1')} points on Fashion-MNIST and "
            f"{span('mnist', 'M1, KL weight 1')} on MNIST") in text
    assert f"autoencoder, costs {span('fashion', 'M1, KL weight 0')} on Fashion-MNIST" in text
    assert f"it costs {span('mnist', 'M1, KL weight 0', many)} from 600 labels on" in text
    gains = [(e["difference"], mean(d, "M1+SVM", e["labels"])["training_std"]) for d in SETS
             for e in of(d, "M1, KL weight 0", many)]
    assert (f"adds {min(gains)[0]:.2f} to {max(gains)[0]:.2f} points" in text
            and all(1.8 < gain / deviation < 4.2 for gain, deviation in gains))
    search = {row["settings"]["distort"]: row["errors"] for row in result("vae_search_fashion")["rows"]
              if row["settings"]["kl_weight"] == 0.02}
    assert (f"{search[0]['100'] - search[0.2]['100']:.2f} better at 100 labels, "
            f"{search[0.2]['3000'] - search[0]['3000']:.2f} worse at 3000") in text
    for dataset, title in SETS.items():
        row = [markdown.two_digits(np.mean(
            mean(dataset, "M1+SVM", n)["errors"]["0"])) for n in classifiers.COUNTS]
        assert f"{', '.join(row[:3])} and {row[3]} on {title}" in text
    assert f"on MNIST is {span('mnist', none)} points larger" in text
    assert (f"it is {size('fashion', none)} smaller at 100 labels, {size('fashion', none, (3000,))} smaller at 3000"
            in text)
    assert (f"error is {span('mnist', 'M1, 60 epochs', many)} points larger from 600 labels on, and "
            f"{size('mnist', 'M1, 60 epochs')} points smaller at 100.") in text
    for e in (*of("mnist", "M1, KL weight 0", few), *of("fashion", none, (600, 1000))):
        assert e["low"] < 0 < e["high"]
    samples = [e["difference"] for d in SETS for m in ("samples", "samples to train on") for e in of(d, f"M1, {m}")]
    assert f"error changes by at most {max(map(abs, samples)):.2f} points" in text
    for of_all, words in (("samples", "it loses {} points on Fashion-MNIST and {} on MNIST"),
                          ("samples to train on", "for the training images alone, {} and {}.")):
        assert words.format(*(size(d, f"M1 (Bernoulli), {of_all}") for d in SETS)) in text
    assert (f"costs the SVM {span('fashion', 'binarised pixels')} points on Fashion-MNIST and "
            f"{span('mnist', 'binarised pixels')} on MNIST") in text


def test_other_graphs_gain_as_little_as_is_said():
    first, *others = (row["errors"] for row in result("graph_search_fashion")["rows"])
    gain = max(first[n] - other[n] for other in others for n in first)
    assert f"Other graphs gain at most {gain:.2f} points" in EXPERIMENTS


def test_speed_and_worse_draws_are_those_of_the_records():
    text, speed = " ".join(EXPERIMENTS.split()), result("benchmark")
    assert f"One epoch takes {speed['our_seconds']} s, where the usual loop takes {speed['usual_seconds']} s" in text
    assert f"ratio is {speed['ratio']}" in text and f"torch {speed['torch']}" in text
    worse = {dataset: [a - b for n in classifiers.COUNTS for seed in map(str, range(5)) for a, b in zip(
        *(mean(dataset, f"M1+{fit}", n)["errors"][seed] for fit in ("transductive", "SVM"))) if a > b] for dataset in SETS}
    assert not worse["mnist"] and (f"SVM in {len(worse['fashion'])} of the 200 cases of Fashion-MNIST (four label counts, "
                                   f"ten draws, five trainings), by at most {max(worse['fashion']):.2f} points") in text
