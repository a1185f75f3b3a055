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
    value = q1.wasserstein(theta, 200, np.random.default_rng(1))
    again = np.random.default_rng(1)
    heights = np.sort(again.random(200)), np.sort(again.random(200))
    assert theta <= value <= np.hypot(theta, heights[0] - heights[1]).mean() + 1e-12


@pytest.mark.parametrize("theta, sigma", [(0.5, 0.2), (0.1, 0.05), (1.0, 0.01)])
def test_blurred_kl_is_that_of_two_gaussians_and_js_keeps_its_bound(theta, sigma):
    kl, js, _ = q1.blurred(theta, sigma)
    assert kl == pytest.approx(theta**2 / (2 * sigma**2), rel=1e-9)
    assert -1e-12 <= math.log(2) - js <= math.log(2) * math.exp(-theta**2 / (8 * sigma**2)) + 1e-12


def test_blurred_js_has_the_slope_that_is_given_and_is_zero_at_zero():
    step = 1e-4
    numeric = (q1.blurred(0.3 + step, 0.1)[1] - q1.blurred(0.3 - step, 0.1)[1]) / (2 * step)
    assert q1.blurred(0.3, 0.1)[2] == pytest.approx(numeric, rel=1e-6)
    assert np.allclose(q1.blurred(0.0, 0.1), 0, atol=1e-12)


def test_networks_side_by_side_are_each_a_network_of_its_own():
    nets = q1.Networks(3, torch.Generator().manual_seed(0))
    x = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(1))
    for k, out in enumerate(nets(x)):
        h = x[k]
        for weight, bias in zip(nets.weights, nets.biases):
            h = h @ weight[k] + bias[k]
            h = torch.nn.functional.leaky_relu(h, 0.2) if weight is not nets.weights[-1] else h
        assert torch.allclose(out, h[:, 0], atol=1e-6)


def test_same_seed_same_numbers():
    one, two, other = (q1.networks((0.5, 1.0), 5, seed)[0] for seed in (3, 3, 4))
    assert one == two and one != other


def test_the_script_writes_what_the_report_reads_and_its_claims_hold(tmp_path):
    """A matplotlibrc that wants LaTeX and PDF, or a notebook's backend, changes nothing."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsavefig.format: pdf\n")
    done = run_script(SCRIPT, "--steps", 100, "--samples", 30, "--out", tmp_path / "new",
                      environment={"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "module://none"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new/distances.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "new/distances.json").read_text())
    assert result.keys() == json.loads((q1.command.ROOT / "results/q1/distances.json").read_text()).keys()
    record = next(r for r in result["networks"] if r["theta"] == 1.0)
    assert record["minimax"]["length"] < 0.2 and record["D_on_Q"] < 0.1
    assert record["critic"]["length"] == pytest.approx(1, abs=0.35)
    assert record["critic"]["towards_P"] > 0.8


def test_medians_that_are_published_keep_the_identity_of_the_two_losses():
    """|grad log(1 - D)| = D / (1 - D) |grad log D|, so the published medians are of one order."""
    for r in json.loads((q1.command.ROOT / "results/q1/distances.json").read_text())["networks"]:
        assert r["D_on_Q"] * r["non_saturating"]["length"] == pytest.approx(r["minimax"]["length"], rel=0.2)


@pytest.mark.parametrize("words", [["--steps", "0"], ["--steps", "1000000000000"], ["--samples", "1000000"],
                                   ["--seed", "x"], ["--out", ""], ["--nonsense"], ["--step", "5"]])
def test_bad_values_are_one_line(words):
    one_line(run_script(SCRIPT, *words), words[0])


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    one_line(run_script(SCRIPT, "--out", tmp_path / "file" / "below"), "below")


def interrupt():
    def stop(*args):
        raise KeyboardInterrupt
    torch.set_num_threads = stop


def test_ctrl_c_is_one_line_and_130(tmp_path):
    done = run_script(SCRIPT, "--out", tmp_path, prepare=(interrupt,))
    assert done.returncode == 130 and done.stderr.splitlines() == ["q1_distances.py: interrupted"]
