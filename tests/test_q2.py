"""Question 2 without a browser: drawings, measures, the criterion, publishing a recorded run, bad input."""
import importlib.util
import json
import shutil

import numpy as np
import pytest
from helpers import one_line, run_script
from PIL import Image

from theory import drawings, plots

SCRIPT = "theory/q2_gan_lab.py"


def run(*words, **options):
    return run_script(SCRIPT, *words, **options)


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_strokes_are_inside_the_canvas_with_equal_spacing(name):
    pieces = drawings.strokes(name, points=400)
    assert abs(sum(map(len, pieces)) - 400) <= len(pieces)
    gaps = np.concatenate([np.linalg.norm(np.diff(piece, axis=0), axis=1) for piece in pieces])
    points = np.concatenate(pieces)
    # three pen widths away from the border, so that the page's noise stays on the plot
    assert points.min() > 3 * drawings.PEN_SIGMA and points.max() < 1 - 3 * drawings.PEN_SIGMA
    assert gaps.max() < 1.1 * np.median(gaps)


def test_moons_are_in_two_pieces_and_the_heart_is_closed():
    one, other = drawings.strokes("moons")
    assert np.linalg.norm(one[:, None] - other[None], axis=2).min() > 4 * drawings.PEN_SIGMA
    (heart,) = drawings.strokes("heart")
    assert np.allclose(heart[0], heart[-1], atol=1e-9)


def samples(name, n, seed, width=drawings.PEN_SIGMA):
    rng = np.random.default_rng(seed)
    line = np.concatenate(drawings.strokes(name))
    return line[rng.integers(len(line), size=n)] + width * rng.normal(size=(n, 2))


def test_measures_of_a_perfect_a_collapsed_and_a_missed_generator():
    real = samples("heart", 12000, 0)
    perfect = drawings.measure(real, samples("heart", 12000, 1))
    assert perfect["precision"] > 0.97 and perfect["coverage"] > 0.97 and perfect["w1"] < 0.05 and perfect["js"] < 0.03
    collapsed = drawings.measure(real, np.repeat(real[:1], 12000, axis=0))
    assert collapsed["precision"] == 1 and collapsed["coverage"] < 0.2 and collapsed["w1"] > 0.2
    missed = drawings.measure(real, real + 2)
    assert missed["precision"] == 0 and missed["coverage"] == 0 and missed["js"] == pytest.approx(1)
    assert missed["w1"] == pytest.approx(2 * 2**0.5, rel=0.05)


def test_grid_js_of_a_known_case():
    """Half of the mass in common: JS = 1/2 bit."""
    a, b, c = [0.1, 0.1], [0.5, 0.5], [0.9, 0.9]
    assert drawings.grid_js([a, b], [a, c]) == pytest.approx(0.5)
    assert drawings.grid_js([a, b], [b, a]) == 0


def curve(value):
    return [[epoch, value(epoch)] for epoch in range(50, 6001, 50)]


def test_change_of_a_curve_over_its_last_epochs():
    assert drawings.change(curve(lambda e: 0.3)) == pytest.approx(0, abs=1e-9)
    # a line: its ends differ by the whole slope; nothing before the last 2,000 epochs counts
    assert drawings.change(curve(lambda e: 9 if e < 3900 else e / 20000)) == pytest.approx(0.1, abs=1e-3)
    # a step in the middle: the halves differ by it, the fitted line by half as much again
    assert drawings.change(curve(lambda e: 0.1 * (e > 5000))) == pytest.approx(0.15, abs=2e-3)
    assert drawings.change([[e, None if e == 5000 else 1.0] for e, _ in curve(abs)]) == pytest.approx(0, abs=1e-9)
    assert drawings.change(curve(abs)[:30]) is None and drawings.change([]) is None


GOOD = {"precision": 0.95, "coverage": 0.95, "w1": 0.03, "gradient": 0.2}
FLAT = {name: curve(lambda e: 0.3) for name in ("kl", "js")}


@pytest.mark.parametrize("last, histories, outcome", [
    ({}, FLAT, "converged"), ({"precision": 0.5}, FLAT, "not converged"), ({"coverage": 0.5}, FLAT, "not converged"),
    ({"w1": 0.2}, FLAT, "not converged"), ({"gradient": 0.21}, FLAT, "samples match"),
    ({}, {**FLAT, "kl": curve(lambda e: e / 30000)}, "samples match"),
    ({}, {**FLAT, "js": curve(lambda e: e / 90000)}, "samples match"),
    ({}, {**FLAT, "kl": FLAT["kl"][:20]}, "samples match")])
def test_each_condition_of_the_criterion_can_spoil_it(last, histories, outcome):
    measures = [{**GOOD, "w1": 1, "gradient": 1}, GOOD, GOOD, {**GOOD, **last}]
    assert drawings.verdict(measures, histories)[1] == outcome


def test_convergence_needs_three_good_measurements_in_a_row():
    assert drawings.verdict([{**GOOD, "gradient": 1}, GOOD], FLAT)[1] == "not converged"
    seen, outcome = drawings.verdict([{**GOOD, "gradient": 1}, GOOD, {**GOOD, "w1": 0.2}, GOOD], FLAT)
    assert outcome == "not converged" and seen["w1"] == 0.2 and seen["gradient_ratio"] == 0.2


def test_plateau_of_a_constant_discriminator_is_the_minimum_of_its_loss():
    d = np.linspace(0.3, 0.7, 400001)
    losses = -(0.95 * np.log(d) + np.log(1 - d)) / 2
    assert plots.D_PLATEAU == pytest.approx(losses.min(), abs=1e-9)
    assert plots.G_PLATEAU == pytest.approx(-np.log(d[losses.argmin()]), abs=1e-5)


def record(results, name, outcome="converged"):
    """A small run folder as the script leaves it."""
    folder = results / "runs" / f"q2_{name}"
    folder.mkdir(parents=True)
    points = [[1, 0.6], [50, 0.7], [100, None], [150, 0.68]]
    value = {"precision": 0.95, "coverage": 0.96, "w1": 0.03, "w1_real": 0.02, "js": 0.1, "gradient": 0.5}
    settings = {"d_layers": 1, "g_layers": 1, "d_neurons": 8, "g_neurons": 8, "lower_rates": [100]}
    run = {"name": name, "draw": "heart", "epoch": 150, "shots": [1, 150], "settings": settings, "outcome": outcome,
           "measures": [{"epoch": 50, **value}, {"epoch": 150, **value}],
           "histories": {key: points for key in ("d_loss", "g_loss", "kl", "js")}}
    (folder / "run.json").write_text(json.dumps(run))
    for epoch in run["shots"]:
        for part, size in (("", (160, 80)), ("_plot", (40, 40)), ("_graphs", (20, 40))):
            Image.new("RGB", size, "white").save(folder / f"epoch{epoch:06d}{part}.png")
    return folder


def test_publish_puts_runs_in_the_places_of_their_outcomes(tmp_path):
    for name, outcome in (("good", "converged"), ("long", "samples match"), ("bad", "not converged")):
        record(tmp_path, name, outcome)
    shown = tmp_path / "q2"
    assert run("--publish", "bad", "--results-dir", tmp_path).returncode == 0
    assert sorted(p.name for p in shown.iterdir()) == [
        "gan_lab.json", "gan_lab_failed.png", "gan_lab_histories.png"]
    narrow = Image.open(shown / "gan_lab_histories.png").width
    for name in ("long", "good"):
        assert run("--publish", name, "--results-dir", tmp_path).returncode == 0
    for name in ("gan_lab", "gan_lab_hard", "gan_lab_failed", "gan_lab_graphs", "gan_lab_stages"):
        Image.open(shown / f"{name}.png").verify()
    assert Image.open(shown / "gan_lab_histories.png").width == 3 * narrow
    records = json.loads((shown / "gan_lab.json").read_text())
    assert [records[place]["name"] for place in ("converged", "hard", "failed")] == ["good", "long", "bad"]
    assert records["attempts"] == [] and records["criterion"] == drawings.CRITERION  # publishing is no run


def test_publish_names_what_is_missing_or_damaged(tmp_path):
    one_line(run("--publish", "nothing", "--results-dir", tmp_path), "no finished run")
    folder = record(tmp_path, "broken")
    (folder / "epoch000150.png").unlink()
    one_line(run("--publish", "broken", "--results-dir", tmp_path), "epoch000150.png")
    for picture in ("epoch000150.png", "epoch000150_plot.png"):
        (folder / picture).write_bytes(b"")
    one_line(run("--publish", "broken", "--results-dir", tmp_path), "cannot be shown")
    (folder / "run.json").write_text('{"outcome": "converged"}')
    one_line(run("--publish", "broken", "--results-dir", tmp_path), "cannot be shown")
    (folder / "run.json").write_text("{")
    one_line(run("--publish", "broken", "--results-dir", tmp_path), "run.json")
    assert not (tmp_path / "q2").exists()


@pytest.mark.parametrize("words, named", [
    (["--draw", "cat"], "cat"), (["--epochs", "0"], "--epochs"), (["--epochs", "1000000000000"], "--epochs"),
    (["--stages", "0"], "--stages"), (["--d-neurons", "101"], "100"),
    (["--g-layers", "6"], "5"), (["--d-steps", "0"], "10"), (["--g-learning-rate", "0.02"], "0.03"),
    (["--g-learning-rate", "x"], "--g-learning-rate"), (["--chromium", ""], "empty"),
    (["--name", "../x"], "../x"), (["--publish", ""], "--publish"),
    (["--ep", "9"], "--ep")])
def test_bad_arguments_are_one_line(words, named):
    one_line(run(*words), named)


def test_no_browser_is_one_line_and_leaves_nothing(tmp_path):
    """Without playwright the script says so; with it, that this browser does not start."""
    one_line(run("--url", "http://127.0.0.1:9/", "--chromium", tmp_path / "none", "--results-dir", tmp_path / "new"),
             "playwright" if importlib.util.find_spec("playwright") is None else "does not answer")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not (importlib.util.find_spec("playwright") and shutil.which("chromium")), reason="no browser")
def test_an_unreachable_page_is_one_line(tmp_path):
    one_line(run("--url", "http://127.0.0.1:9/", "--results-dir", tmp_path), "http://127.0.0.1:9/ does not answer")


def test_a_run_is_never_overwritten(tmp_path):
    folder = record(tmp_path, "smile")
    before = (folder / "run.json").read_bytes()
    one_line(run("--results-dir", tmp_path), "exists")
    assert (folder / "run.json").read_bytes() == before
