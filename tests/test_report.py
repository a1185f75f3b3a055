"""The report: built from made-up results; a missing, damaged or odd result is named in one line."""
import json
import os
import subprocess
import sys

import pytest
import typst
from helpers import ROOT, one_line, run_script
from PIL import Image

from theory import drawings, report

SCRIPT = "theory/report.py"
COUNTS = 100, 600, 1000, 3000


def run(*words, **options):
    return run_script(SCRIPT, *words, **options)


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def q2_record():
    settings = {"d_layers": 1, "g_layers": 2, "d_neurons": 8, "g_neurons": 9, "d_steps": 3, "g_steps": 1,
                "d_learning_rate": 0.1, "g_learning_rate": 0.03, "d_optimizer": "SGD", "g_optimizer": "Adam",
                "noise": "2D Uniform", "loss": "Log loss", "lower_rates": [2345]}
    measure = {"epoch": 5500, "precision": 0.9137, "coverage": 0.95, "w1": 0.03, "w1_real": 0.02, "js": 0.1}
    seen = {"precision": 0.91, "coverage": 0.95, "w1": 0.03, "gradient_ratio": 0.0731,
            "kl_change": 0.01, "js_change": 0.0}
    gan = {"name": "a", "draw": "heart", "seed": 7, "settings": settings, "browser": "Chromium 1", "epoch": 5500,
           "shots": [2, 5500], "seconds": 300, "epochs_per_second": 18.0, "outcome": "converged", "d_loss": 0.671,
           "g_loss": 0.705, "measures": [measure], "histories": {}, "seen": seen}
    old = {**seen, "gradient_ratio": None, "kl_change": None, "js_change": None}
    return {"criterion": drawings.CRITERION, "converged": gan, "hard": {**gan, "outcome": "samples match"},
            "failed": {**gan, "outcome": "not converged"},
            "attempts": [gan, {**gan, "epoch": 12345, "seen": old, "outcome": "samples match"}]}


def scores():
    value = {"std": 0.25, "n": 5}
    names = ("relative_distance", "relative_distance_pixels", "precision", "recall", "kl_to_uniform",
             "smallest_class_frequency", "largest_class_frequency", "median_distance_to_nearest_training")
    moments = [{"iteration": i, "critic_loss": -1.5, "generator_loss": 2.5, "validation_critic_loss": -1.25,
                "relative_distance": d} for i, d in ((500, 83.4), (10000, 14.5), (22000, 9.3))]
    return {
        "real": {"images": 10000, "real_distance": 0.5, "real_distance_validation": 0.6, "precision": 0.8,
                 "recall": 0.8, "median_distance_to_nearest_training": 4.5,
                 "calibration": {"blurred_3x3": 140.0, "without_one_class": [17.0, 50.0]}},
        "failure": {"relative_distance_above": 100.0, "class_frequency_below": 0.01},
        **{model: {"training": {"objective": objective, "arch": "conv", "dim": 64, "batch": 64, "learning_rate": 2e-4,
                                "iterations": 9000, "seconds": 600, "precision": "float32"},
                   "attempts": {"attempts": 9, "converged": 3, "failed": 0, "given_up": 2, "interrupted": 4,
                                "failed_before_first_success": failed},
                   "moments": moments, "lowest_generator_loss": {"value": 2.45, "iteration": 2860},
                   **{name: {"mean": mean, **value} for name in names}}
           for model, objective, mean, failed in (("dcgan", "dcgan", 7.12, 0), ("wgan", "wgan-gp", 5.53, None))}}


@pytest.fixture
def results(tmp_path):
    """Every file the report needs, small and made up, with numbers that can be found again."""
    folder = tmp_path / "results"
    signal = {"median_length": 2e-9, "lengths": [2e-9], "towards_P": 1.0, "history": [1.0]}
    put(folder / "q1/distances.json", {
        "transport": [{"theta": t, "n": 100, "repeats": 2, "mean": t + 0.0123, "std": 0.001} for t in (0.0, 1.0)],
        "blurred": [{"theta": 0.5, "sigma": s, "kl": 12.5, "kl_closed_form": 12.5, "js": 0.69, "js_gap_to_log2": g,
                     "js_slope": -1e-14, "w_slope": 1.0} for s, g in ((0.1, 0.003), (0.01, -1e-15))],
        "networks": [{"theta": 1.0, "repeats": 2, "steps": 10, "mean_D_on_Q": 3e-7, "critic_estimate": [1.0, 1.2],
                      "critic_length_expected": 1.05, "minimax": signal,
                      "non_saturating": {**signal, "median_length": 41.0},
                      "critic": {**signal, "median_length": 1.0437}}]})
    put(folder / "q2/gan_lab.json", q2_record())
    methods = (("raw pixels+SVM", 29.41), ("M1+SVM", 27.16), ("M1+transductive", 20.02), ("M1 (Bernoulli)+SVM", 25.0),
               ("a method of tomorrow", 1.5))
    paper = [{"method": "M1+TSVM", "labels": n, "error_mean": 11.82, "error_std": std}
             for n, std in zip(COUNTS, (0.25, None, 0.1, 0.1))]
    for data in ("fashion", "mnist"):
        put(folder / f"q3/table_{data}.json", {
            "dataset": data, "draws": 10, "svm": {"M1": {"power": 2.0, "width": 1.0, "C": 10.0}}, "rows": [
                {"method": method, "labels": n, "error_mean": mean, "error_std": 0.31} for method, mean in methods
                for n in COUNTS], **({"paper": paper} if data == "mnist" else {})})
    for name in ("vae_fashion", "vae_fashion_bernoulli"):
        put(folder / f"q3/{name}.json", {"settings": {"epochs": 60, "kl_weight": 0.0217, "warmup": 5, "distort": 0.2,
                                                      "batch_size": 200, "learning_rate": 1e-3},
                                         "last_epoch": {"kl": 234.5, "active_latents": 50}})
    put(folder / "q4/scores.json", scores())
    put(folder / "q4/classifier.json", {"test_accuracy": 0.9246})
    for name in (name for names in report.NEEDED.values() for name in names):
        if name.endswith(".png"):
            (folder / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (160, 90), "lightblue").save(folder / name)
    return folder


def shown(results, folder, what="table"):
    """The content of the report's tables, or of another kind of element, as JSON."""
    folder.mkdir()
    report.stage(results, folder)
    return json.dumps(json.loads(typst.query(str(folder / "report.typ"), what, root=str(folder))),
                      ensure_ascii=False)


def test_the_report_that_ships_is_of_these_results(tmp_path):
    made_of = report.stage(ROOT / "results", tmp_path)
    assert made_of.encode() in (ROOT / "results/report.pdf").read_bytes(), "run python theory/report.py"


def test_builds_from_complete_results(results):
    done = run("--results-dir", results)
    assert done.returncode == 0, done.stderr
    assert (results / "report.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in results.iterdir()) == ["q1", "q2", "q3", "q4", "report.pdf"]


def test_the_numbers_of_the_files_stand_in_the_tables(results, tmp_path):
    found = shown(results, tmp_path / "stage")
    for text in ("27.16", "0.31", "a method of tomorrow", "20.02", "11.82", "1.044", "0.91", "12,345", "0.07", "2345",
                 "7.1", "5.53", "83.4", "0.0217", "none succeeded"):
        assert text in found, text
    assert "--draw heart --seed 7" in shown(results, tmp_path / "commands", "raw")


def test_a_comparison_and_differences_are_used_where_they_are_there(results, tmp_path):
    before = shown(results, tmp_path / "before")
    assert "41.7" not in before and "−3.81" not in before
    keys = "relative_distance", "relative_distance_pixels", "precision", "recall"
    means = {key: {"mean": 41.7, "std": 0.5, "n": 5} for key in keys}
    gap = {"mean": 1.0, "low": -3.3, "high": 4.4}
    best = {"dim": 32, "batch": 64, "iterations": 3000, "learning_rate": 0.0023, "generator_learning_rate": 0.018,
            "relative_distance": 38.1}
    put(results / "q4/tuning.json", {"dcgan": {"draws": 24, "best": best, "outcomes": {
        "trained": 17, "collapsed": 6, "diverged": 1}}})
    put(results / "q4/comparison.json", {"equal_compute": {"dcgan": means, "wgan": means},
                                         "seconds_to_reach": {"dcgan": {"100": {"runs": [4638, None]}}},
                                         "difference_at_equal_compute": {**dict.fromkeys(keys, gap), "recall": None}})
    put(results / "q3/differences.json", [{"dataset": "fashion", "labels": 100, "a": "M1+SVM", "b": "raw pixels+SVM",
                                           "difference": -3.81, "low": -4.4, "high": -3.2, "n": 10}])
    total = {"runs": 48, "trained": 37, "collapsed": 11, "diverged": 0, "settings_trained_at_some_rate": 8}
    put(results / "q4/stability.json", {"totals": {"dcgan": total}, "cells": [{"outcomes": ["trained"]}]})
    after = shown(results, tmp_path / "after")
    for text in ("41.7", "−3.3", "+4.4", "−3.81", "37", "77.3", "never", "0.018", "no difference is shown"):
        assert text in after, text


def test_missing_results_are_named_with_their_command(results):
    (results / "q4/losses.png").unlink()
    (results / "q3/table_mnist.json").unlink()
    one_line(run("--results-dir", results), "q4/losses.png", "q4_wgan/figures.py", "q3/table_mnist.json",
             "q3_vae_m1/table.py")
    assert not (results / "report.pdf").exists()


def test_damaged_results_are_named(results):
    path = results / "q3/table_fashion.json"
    path.write_text("{")
    one_line(run("--results-dir", results), "table_fashion.json")
    path.write_bytes(b"\xff\xfe")
    one_line(run("--results-dir", results), "table_fashion.json")
    path.write_text('{"dataset": "fashion"}')
    one_line(run("--results-dir", results), "typst")


@pytest.mark.parametrize("words", [["-m", "theory.report"], [SCRIPT]])
def test_starts_as_module_and_with_a_safe_path(words, results):
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "ascii"}
    if words[0] == "-m":  # that needs the folder at hand on the path
        del environment["PYTHONSAFEPATH"]
    with open("/dev/full" if os.path.exists("/dev/full") else os.devnull, "w") as full:
        done = subprocess.run([sys.executable, *words, "--results-dir", results], cwd=ROOT, stdout=full,
                              stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (results / "report.pdf").exists()


def test_unwritable_output_and_bad_words(results):
    one_line(run("--results-dir", results, "--out", results / "q4/scores.json/report.pdf"), "cannot be written")
    for words in (["--out", ""], ["--results-dir", ""], ["--dra"], ["more"]):
        one_line(run(*words), words[0])
