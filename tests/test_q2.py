"""Question 2 without a browser: the drawings, the measures, publishing a recorded run, bad input; with one, the page's own driver."""
import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

THEORY = Path(__file__).resolve().parent.parent / "theory"
sys.path.insert(0, str(THEORY))
try:
    import drawings
    import q2_figures
    import q2_gan_lab
finally:
    sys.path.remove(str(THEORY))


def run(*arguments):
    return subprocess.run([sys.executable, str(THEORY / "q2_gan_lab.py"), *map(str, arguments)], capture_output=True, text=True)


def one_line(done, *words):
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert all(word in last for word in words), last
    return last


# ---- drawings -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_strokes_are_inside_the_canvas_with_equal_spacing(name):
    pieces = drawings.strokes(name, points=400)
    assert abs(sum(map(len, pieces)) - 400) <= len(pieces)
    gaps = np.concatenate([np.linalg.norm(np.diff(piece, axis=0), axis=1) for piece in pieces])
    points = np.concatenate(pieces)
    # three pen widths away from the border, so that the page's noise stays on the plot
    assert points.min() > 3 * drawings.PEN_SIGMA and points.max() < 1 - 3 * drawings.PEN_SIGMA
    assert gaps.max() < 1.1 * np.median(gaps)


def test_moons_and_face_are_in_pieces_and_the_heart_is_closed():
    def apart(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2).min()

    assert len(drawings.strokes("face")) == 3 and len(drawings.strokes("moons")) == 2
    assert apart(*drawings.strokes("moons")) > 4 * drawings.PEN_SIGMA
    (heart,) = drawings.strokes("heart")
    assert np.allclose(heart[0], heart[-1], atol=1e-9)


# ---- measures -------------------------------------------------------------------------------------------------------

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
    assert missed["precision"] == 0 and missed["coverage"] == 0 and missed["js"] == pytest.approx(1) and missed["w1"] == pytest.approx(2 * 2**0.5, rel=0.05)


def test_grid_js_of_a_known_case():
    """Half of the mass in common: JS = 1/2 bit."""
    a, b, c = [0.1, 0.1], [0.5, 0.5], [0.9, 0.9]
    assert drawings.grid_js([a, b], [a, c]) == pytest.approx(0.5)
    assert drawings.grid_js([a, b], [b, a]) == 0


def test_convergence_needs_several_good_measurements_in_a_row():
    good = {"precision": 0.95, "coverage": 0.95, "w1": 0.03}
    assert drawings.converged([good] * 3) and drawings.converged([{**good, "w1": 1}] + [good] * 3)
    assert not drawings.converged([good] * 2)
    for spoiled in ({"precision": 0.5}, {"coverage": 0.5}, {"w1": 0.2}):
        assert not drawings.converged([good, good, {**good, **spoiled}])


def test_plateau_of_a_constant_discriminator_is_the_minimum_of_its_loss():
    d = np.linspace(0.3, 0.7, 400001)
    losses = -(0.95 * np.log(d) + np.log(1 - d)) / 2
    assert q2_figures.D_PLATEAU == pytest.approx(losses.min(), abs=1e-9)
    assert q2_figures.G_PLATEAU == pytest.approx(-np.log(d[losses.argmin()]), abs=1e-5)


def test_a_gap_in_a_history_stays_a_gap():
    epochs, values = q2_figures.curve([[1, 0.5], [50, None], [100, 0.25]])
    assert list(epochs) == [1, 50, 100] and np.isnan(values[1]) and values[2] == 0.25
    assert q2_figures.curve([])[0].shape == (0,)


# ---- publishing a recorded run --------------------------------------------------------------------------------------

def record(results, name, outcome="converged"):
    """A small run folder as the script leaves it."""
    folder = results / "runs" / f"q2_{name}"
    folder.mkdir(parents=True)
    points = [[1, 0.6], [50, 0.7], [100, None], [150, 0.68]]
    value = {"precision": 0.95, "coverage": 0.96, "w1": 0.03, "w1_floor": 0.02, "js": 0.1}
    run = {"name": name, "draw": "heart", "seed": 0, "browser": "Chromium 1", "epoch": 150, "shots": [1, 150], "seconds": 9, "epochs_per_second": 16.0,
           "settings": {"d_layers": 1, "g_layers": 1, "d_neurons": 8, "g_neurons": 8, "d_steps": 1, "g_steps": 1, "d_learning_rate": 0.1,
                        "g_learning_rate": 0.1, "d_optimizer": "SGD", "g_optimizer": "SGD", "noise": "2D Uniform", "loss": "Log loss"},
           "outcome": outcome, "d_loss": 0.68, "g_loss": 0.71, "measures": [{"epoch": 50, **value}, {"epoch": 150, **value}],
           "histories": {key: points for key in ("d_loss", "g_loss", "kl", "js")}}
    (folder / "run.json").write_text(json.dumps(run))
    for epoch in run["shots"]:
        Image.new("RGB", (160, 80), "white").save(folder / f"epoch{epoch:06d}.png")
        Image.new("RGB", (40, 40), "grey").save(folder / f"epoch{epoch:06d}_plot.png")
    return folder


def test_publish_puts_converged_and_failed_runs_in_their_places(tmp_path):
    record(tmp_path, "good")
    record(tmp_path, "bad", outcome="not converged")
    assert run("--publish", "bad", "--results-dir", tmp_path).returncode == 0
    assert (tmp_path / "q2_gan_lab_failed.png").exists() and not (tmp_path / "q2_gan_lab.png").exists()
    narrow = Image.open(tmp_path / "q2_gan_lab_histories.png").width
    assert run("--publish", "good", "--results-dir", tmp_path).returncode == 0
    for name in ("q2_gan_lab.png", "q2_gan_lab_stages.png", "q2_gan_lab_failed.png"):
        Image.open(tmp_path / name).verify()
    assert Image.open(tmp_path / "q2_gan_lab_histories.png").width > narrow  # two columns now
    ledger = json.loads((tmp_path / "q2_gan_lab.json").read_text())
    assert ledger["converged"]["name"] == "good" and ledger["failed"]["name"] == "bad"
    assert ledger["attempts"] == []  # publishing is no attempt
    assert not list(tmp_path.glob("*.tmp*"))


def test_publish_names_what_is_missing_or_corrupt(tmp_path):
    one_line(run("--publish", "nothing", "--results-dir", tmp_path), "run.json")
    folder = record(tmp_path, "broken")
    (folder / "epoch000150.png").unlink()
    one_line(run("--publish", "broken", "--results-dir", tmp_path), "broken")
    (folder / "run.json").write_text("{")
    one_line(run("--publish", "broken", "--results-dir", tmp_path), "run.json")
    assert not (tmp_path / "q2_gan_lab.json").exists()


# ---- bad input ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, word", [
    (["--draw", "cat"], "cat"), (["--epochs", "0"], "--epochs"), (["--max-epochs", "10"], "--max-epochs"), (["--stages", "0"], "--stages"),
    (["--d-neurons", "101"], "100"), (["--g-layers", "6"], "5"), (["--d-steps", "0"], "10"), (["--g-learning-rate", "0.02"], "0.03"),
    (["--noise", "3D"], "3D"), (["--assets", "no/such/folder"], "no/such/folder"), (["--name", "../x"], "plain word")])
def test_bad_arguments_exit_2_and_are_named(arguments, word, capsys):
    with pytest.raises(SystemExit) as stopped:
        q2_gan_lab.parse(arguments)
    assert stopped.value.code == 2 and word in capsys.readouterr().err.splitlines()[-1]


def test_the_command_line_refuses_without_a_traceback():
    one_line(run("--draw", "cat"), "cat")


def test_unreachable_page_is_one_line(tmp_path):
    with socket.socket() as server:  # a port that nobody listens on
        server.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        one_line(run("--url", url, "--results-dir", tmp_path), url, "cannot be reached")
    one_line(run("--url", "nonsense", "--results-dir", tmp_path), "nonsense", "cannot be reached")
    assert not (tmp_path / "q2_gan_lab.json").exists()


def test_a_run_is_never_overwritten(tmp_path):
    folder = record(tmp_path, "heart")
    before = (folder / "run.json").read_bytes()
    one_line(run("--name", "heart", "--results-dir", tmp_path), "exists")
    assert (folder / "run.json").read_bytes() == before


def test_unwritable_results(tmp_path):
    (tmp_path / "file").write_text("")
    one_line(run("--results-dir", tmp_path / "file"), "cannot write")


# ---- the driver, where a browser is installed -----------------------------------------------------------------------

def test_a_page_that_is_not_gan_lab_or_no_browser_at_all(tmp_path):
    """Without playwright or Chromium the script says so; with them it says that this page did not start. One line either way."""
    import http.server
    import threading
    (tmp_path / "index.html").write_text("<p>another page</p>")
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *a: None,
                   "__init__": lambda self, *a, **k: http.server.SimpleHTTPRequestHandler.__init__(self, *a, directory=str(tmp_path), **k)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        # A browser that does not exist, so that the answer does not depend on what is installed.
        done = run("--url", url, "--chromium", tmp_path / "no-browser", "--results-dir", tmp_path / "results")
        server.shutdown()
    line = one_line(done, "q2_gan_lab.py:")
    assert "playwright" in line or "did not start" in line
