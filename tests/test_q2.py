"""Question 2 without a browser: drawings, measures, the criterion, runs with an imitation of the page, bad input."""

import importlib.util
import json

import numpy as np
import pytest
from helpers import one_line, run_script
from PIL import Image

from theory import drawings, plots, q2_gan_lab, q2_page

SCRIPT = "theory/q2_gan_lab.py"


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_strokes_are_inside_the_canvas_with_equal_spacing(name):
    pieces = drawings.strokes(name, points=400)
    gaps = np.concatenate([np.linalg.norm(np.diff(piece, axis=0), axis=1) for piece in pieces])
    points = np.concatenate(pieces)
    # three pen widths away from the border, so that the page's noise stays on the plot
    assert points.min() > 3 * drawings.PEN_SIGMA and points.max() < 1 - 3 * drawings.PEN_SIGMA
    assert abs(len(points) - 400) <= len(pieces) and gaps.max() < 1.1 * np.median(gaps)


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


def test_wasserstein_and_grid_js_of_known_cases():
    assert drawings.wasserstein([[0, 0], [0, 1]], [[0, 1], [0, 0.5]]) == pytest.approx(0.25)  # 1 with 1, 0 with 0.5
    a, b, c = [0.1, 0.1], [0.5, 0.5], [0.9, 0.9]
    assert drawings.grid_js([a, b], [a, c]) == pytest.approx(0.5)  # half of the mass in common: 1/2 bit


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
    assert drawings.verdict([{**GOOD, "gradient": 1}, GOOD, {**GOOD, "w1": 0.2}, GOOD], FLAT)[1] == "not converged"


def test_plateau_of_a_constant_discriminator_is_the_minimum_of_its_loss():
    d = np.linspace(0.3, 0.7, 400001)
    losses = -(0.95 * np.log(d) + np.log(1 - d)) / 2
    assert plots.D_PLATEAU == pytest.approx(losses.min(), abs=1e-9)
    assert plots.G_PLATEAU == pytest.approx(-np.log(d[losses.argmin()]), abs=1e-5)


class Page:
    """An imitation of q2_page.GanLab whose generator is good from the first epoch on, or never."""

    version, good = "none", True

    def __init__(self):
        self.now, self.set_to = 0, {"d_layers": 1, "g_layers": 1, "d_neurons": 8, "g_neurons": 8, "d_steps": 2,
                                    "g_steps": 1, "d_learning_rate": 0.1, "g_learning_rate": 0.03}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def choose(self, name):
        self.draw = name

    def start(self, seed):
        self.seed = seed

    def set(self, wanted):
        self.set_to |= wanted

    def settings(self):
        return dict(self.set_to)

    def play_until(self, epoch, progress):
        self.now = epoch
        progress(epoch)

    def samples(self):
        return samples(self.draw, 2000, 0), samples(self.draw, 2000, 1) + (not self.good)

    def gradients(self):
        return np.full(150, 1 / self.now**2)

    def screenshot(self, folder):
        for part, size in (("", (160, 80)), ("_plot", (40, 40)), ("_graphs", (20, 40))):
            Image.new("RGB", size, "white").save(folder / f"epoch{self.now:06d}{part}.png")
        return self.now

    def losses(self):
        return {"d_loss": 0.6, "g_loss": 0.7}

    def histories(self):
        return {key: curve(lambda e: 0.3) for key in ("d_loss", "g_loss", "kl", "js")}


def with_page(good):
    Page.good = good
    q2_page.open_page = lambda *words: Page()


def run(*words, good=True):
    return run_script(SCRIPT, *words, prepare=(with_page, good))


def test_a_run_is_a_folder_that_is_counted_once_and_shown_in_the_place_of_its_outcome(tmp_path):
    where, out = ("--results-dir", tmp_path), tmp_path / "runs/q2"
    words = (*where, "--epochs", 1500, "--lower-rates", 1000, "--stages", 250, "--d-neurons", 5)
    for good, name in ((True, "smile"), (False, "bad")):
        done = run(*words, "--name", name, good=good)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "runs" / f"q2_{name}"
        assert {"run.json", "stages.png", "histories.png", "epoch001500.png"} <= {p.name for p in folder.iterdir()}
    assert run(*words, "--name", "smile").stdout.startswith(f"{tmp_path}/runs/q2_smile: this run has ended")
    one_line(run(*words, "--name", "smile", "--seed", 3), "seed 0, not 3", "--name")
    one_line(run(*words, "--name", "smile", "--d-neurons", 6), "d-neurons 5, not 6", "--name")
    records = json.loads((out / "gan_lab.json").read_text())
    assert [(a["name"], a["outcome"]) for a in records["attempts"]] == [("smile", "converged"), ("bad", "not converged")]
    assert records["attempts"][0]["settings"]["d_learning_rate"] == 0.1  # as it began
    last = done.stdout.splitlines()[-1].split("--publish ")[1]
    for name in (last, "smile"):
        assert run(*where, "--publish", name).returncode == 0
    names = {"gan_lab", "gan_lab_failed", "gan_lab_graphs", "gan_lab_stages", "gan_lab_histories"}
    assert {p.name for p in out.iterdir()} == {f"{name}.png" for name in names} | {"gan_lab.json"}
    records = json.loads((out / "gan_lab.json").read_text())
    assert len(records["attempts"]) == 2 and (records["converged"]["name"], records["failed"]["name"]) == ("smile", "bad")


@pytest.mark.parametrize("words, named", [
    (["--draw", "cat"], "cat"), (["--epochs", "0"], "--epochs"), (["--stages", "0"], "--stages"),
    (["--d-neurons", "101"], "100"), (["--g-learning-rate", "0.02"], "0.03"), (["--chromium", ""], "empty"),
    (["--name", "../x"], "../x"), (["--ep", "9"], "--ep"), (["--publish", "nothing"], "no finished run")])
def test_bad_arguments_are_one_line(words, named, tmp_path):
    one_line(run_script(SCRIPT, *words, "--results-dir", tmp_path), named)


def test_no_browser_is_one_line_and_leaves_nothing(tmp_path):
    """Without playwright the script says so; with it, that this browser does not start."""
    one_line(run_script(SCRIPT, "--chromium", tmp_path / "none", "--results-dir", tmp_path / "new"),
             "playwright" if importlib.util.find_spec("playwright") is None else "does not answer")
    assert not list(tmp_path.iterdir()) and q2_gan_lab.RATES == tuple(sorted(q2_gan_lab.RATES))
