"""Question 1: the assignment, the grid, the networks, and the script's command line."""
import json
import math

import numpy as np
import pytest
import torch
from helpers import one_line, run_script

from theory import q1_distances as q1

SCRIPT = "theory/q1_distances.py"


@pytest.mark.parametrize("theta", [0.25, 1.0])
def test_assignment_is_between_the_shift_and_the_shift_plus_the_sorted_coupling(theta):
    """W of samples is at least theta (the first coordinate) and at most what pairing the sorted heights costs."""
    rng = np.random.default_rng(1)
    value = q1.wasserstein(theta, 200, rng)
    again = np.random.default_rng(1)
    heights = np.sort(again.random(200)), np.sort(again.random(200))
    upper = np.hypot(theta, heights[0] - heights[1]).mean()
    assert theta <= value <= upper + 1e-12


def test_assignment_of_a_case_with_a_known_answer():
    class Heights:
        calls = iter([np.array([0.0, 1.0]), np.array([1.0, 0.5])])

        def random(self, n):
            return next(self.calls)

    assert q1.wasserstein(0.0, 2, Heights()) == pytest.approx(0.25)  # 1 with 1, 0 with 0.5


@pytest.mark.parametrize("theta, sigma", [(0.5, 0.2), (0.1, 0.05), (1.0, 0.01)])
def test_blurred_kl_is_that_of_two_gaussians(theta, sigma):
    kl, js, _ = q1.blurred(theta, sigma)
    assert kl == pytest.approx(theta**2 / (2 * sigma**2), rel=1e-9)
    # 0 <= log 2 - JS <= log 2 exp(-theta^2 / 8 sigma^2)
    assert -1e-12 <= math.log(2) - js <= math.log(2) * math.exp(-theta**2 / (8 * sigma**2)) + 1e-12


def test_blurred_js_depends_on_the_ratio_alone_and_its_slope_is_its_derivative():
    assert q1.blurred(0.2, 0.1)[1] == pytest.approx(q1.blurred(0.4, 0.2)[1], rel=1e-9)
    step = 1e-4
    numeric = (q1.blurred(0.3 + step, 0.1)[1] - q1.blurred(0.3 - step, 0.1)[1]) / (2 * step)
    assert q1.blurred(0.3, 0.1)[2] == pytest.approx(numeric, rel=1e-6)


def test_blurred_at_zero_and_in_the_limit():
    assert np.allclose(q1.blurred(0.0, 0.1), 0, atol=1e-12)
    slopes = [q1.blurred(0.5, sigma)[2] for sigma in (0.2, 0.1, 0.05)]
    assert slopes[0] > slopes[1] > slopes[2] > 0 and slopes[2] < 1e-4


def test_networks_run_side_by_side_do_not_touch_each_other():
    nets = q1.Networks(3, torch.Generator().manual_seed(0))
    x = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(1))
    out = nets(x)
    moved = x.clone()
    moved[1] += 1
    again = nets(moved)
    assert torch.equal(out[0], again[0]) and torch.equal(out[2], again[2]) and not torch.equal(out[1], again[1])
    h = x[0]  # the first of them by hand
    for weight, bias in zip(nets.weights, nets.biases):
        h = h @ weight[0] + bias[0]
        h = torch.nn.functional.leaky_relu(h, 0.2) if weight is not nets.weights[-1] else h
    assert torch.allclose(out[0], h[:, 0], atol=1e-6)


def test_same_seed_same_numbers():
    one, two, other = (q1.networks((0.5, 1.0), 20, seed)[0] for seed in (3, 3, 4))
    assert one == two and one != other
    samples = [q1.transport(30, np.random.default_rng(3)) for _ in range(2)]
    assert samples[0] == samples[1]


def test_the_script_writes_what_the_report_reads_and_its_claims_hold(tmp_path):
    # A backend inherited from a notebook and a safe path must not end it.
    done = run_script(SCRIPT, "--steps", 150, "--samples", 60, "--results-dir", tmp_path / "new",
                      environment={"MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "new" / "q1"
    assert sorted(p.name for p in folder.iterdir()) == ["distances.json", "distances.png"]
    assert (folder / "distances.png").stat().st_size > 10_000
    result = json.loads((folder / "distances.json").read_text())
    assert {row["theta"] for row in result["transport"]} == set(q1.THETAS)
    wanted = {(t, s) for t in q1.THETAS for s in q1.SIGMAS}
    assert {(row["theta"], row["sigma"]) for row in result["blurred"]} == wanted
    record = next(r for r in result["networks"] if r["theta"] == 1.0)
    assert record["minimax"]["median_length"] < 0.1
    assert record["critic"]["median_length"] == pytest.approx(1, abs=0.35)
    assert record["critic"]["towards_P"] > 0.8


@pytest.mark.parametrize("words", [
    ["--steps", "0"], ["--steps", "1000000000000"], ["--samples", "-1"], ["--samples", "1000000"],
    ["--seed", "x"], ["--seed", "4294967296"], ["--results-dir", ""], ["--nonsense"], ["--step", "5"]])
def test_bad_values_are_one_line(words):
    one_line(run_script(SCRIPT, *words), words[0])


def test_unwritable_output_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    one_line(run_script(SCRIPT, "--results-dir", tmp_path / "file" / "below"), "cannot be written")


def interrupt():
    def stop(*args):
        raise KeyboardInterrupt
    torch.set_num_threads = stop


def test_ctrl_c_is_one_line_and_130(tmp_path):
    done = run_script(SCRIPT, "--results-dir", tmp_path, prepare=(interrupt,))
    assert done.returncode == 130 and done.stderr.splitlines() == ["q1_distances.py: interrupted"]
