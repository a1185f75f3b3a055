"""q4_wgan's scores: the tables of READMEs are those of results/q4/scores.json, and the arithmetic behind it."""

import json

import pytest
import torch
from helpers import ROOT, make_dataset, run_script, tables

from q4_wgan import evaluate, sampling

SCORES = json.loads((ROOT / "results/q4/scores.json").read_text())


def test_readme_has_the_scores():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("q4_wgan/README.md", "README.md")]
    ours, = tables(evaluate.table(SCORES))
    assert ours in tables(texts[0])
    short = next(table for table in tables(texts[1]) if table[0][1:] == ["DCGAN", "WGAN-GP"])
    assert [row[1:3] for row in ours[1:3]] == [row[1:] for row in short[1:3]]  # the two distances


def test_scores_are_of_what_ships():
    for model in sampling.SHIPPED:
        content, trained = sampling.load_generator(ROOT / f"weights/q4_{model}/generator.pt")[1], SCORES[model]["training"]
        for key in ("objective", "arch", "dim", "iterations", "learning_rate", "seed"):
            assert content[key] == trained[key]
        outcome = json.loads((ROOT / f"weights/q4_{model}/outcome.json").read_text())
        assert outcome["outcome"] == "converged"
        assert outcome["relative_distance"] == pytest.approx(trained["validation_relative_distance"], rel=0.001)


def test_nearest():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (n, 28, 28), generator=random, dtype=torch.uint8) for n in (30, 40))
    brute = torch.cdist(a.flatten(1).double() / 255, b.flatten(1).double() / 255).min(1).values
    assert evaluate.nearest(a, b, chunk=7) == pytest.approx(brute.median().item(), abs=1e-3)


def noise():
    """In place of the generators' images, which would take a minute."""
    def sample(generator, n, seed, device):
        return torch.randint(0, 256, (n, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    sampling.sample = sample


def test_the_pair_that_ships_is_scored_without_a_run(tmp_path):
    make_dataset(tmp_path / "data", "FashionMNIST", train=240)
    done = run_script("q4_wgan/evaluate.py", "--data-dir", tmp_path / "data", "--results-dir", tmp_path / "results",
                      "--repeats", 2, "--seed", 5, prepare=(noise,))
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "results/runs/q4/scores.json").read_text())
    assert evaluate.table(scores) in done.stdout and len(scores["real"]["calibration"]["without_one_class"]) == 10
    for model in sampling.SHIPPED:
        assert scores[model]["sampling_seeds"] == [5, 6] and scores[model]["relative_distance"]["n"] == 2
        assert sum(scores[model]["class_frequencies"]) == pytest.approx(1)
        assert scores[model]["relative_distance"]["mean"] > 1 and scores[model]["training"]["objective"]
