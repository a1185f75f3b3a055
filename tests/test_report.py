"""The report: built from synthetic results; a missing, corrupt or odd result is named in one line."""
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

THEORY = Path(__file__).resolve().parent.parent / "theory"
spec = importlib.util.spec_from_file_location("theory_report", THEORY / "report.py")
report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(report)


def run(*arguments, **environment):
    return subprocess.run([sys.executable, str(THEORY / "report.py"), *map(str, arguments)], capture_output=True, text=True, env={**os.environ, **environment})


def one_line(done, *words):
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.fixture
def results(tmp_path):
    """Every file the report reads, small and made up, with numbers that can be found again."""
    folder = tmp_path / "results"
    folder.mkdir()

    def write(name, value):
        (folder / name).write_text(json.dumps(value))

    signal = {"median_length": 2e-9, "lengths": [2e-9], "towards_P": 1.0, "history": [1.0]}
    write("q1_distances.json", {
        "transport": [{"theta": t, "n": 100, "repeats": 2, "closed_form": t, "mean": t + 0.0123, "std": 0.001} for t in (0.0, 1.0)],
        "blurred": [{"theta": 0.5, "sigma": s, "kl": 12.5, "kl_closed_form": 12.5, "js": 0.69, "js_gap_to_log2": g, "js_slope": -1e-14, "w": 0.5, "w_slope": 1.0}
                    for s, g in ((0.1, 0.003), (0.01, -1e-15))],
        "networks": [{"theta": 1.0, "repeats": 2, "steps": 10, "mean_D_on_Q": 3e-7, "critic_estimate": [1.0, 1.2], "critic_length_expected": 1.05,
                      "minimax": signal, "non_saturating": {**signal, "median_length": 41.0}, "critic": {**signal, "median_length": 1.0437}}]})
    settings = {"d_layers": 1, "g_layers": 2, "d_neurons": 8, "g_neurons": 9, "d_steps": 3, "g_steps": 1, "d_learning_rate": 0.1, "g_learning_rate": 0.03,
                "d_optimizer": "SGD", "g_optimizer": "Adam", "noise": "2D Uniform", "loss": "Log loss", "lower_rates": [2000]}
    measure = {"epoch": 5500, "precision": 0.9137, "coverage": 0.95, "w1": 0.03, "w1_floor": 0.02, "js": 0.1}
    gan = {"name": "a", "draw": "heart", "seed": 0, "settings": settings, "browser": "Chromium 1", "epoch": 5500, "shots": [1, 5500], "seconds": 300,
           "epochs_per_second": 18.0, "outcome": "converged", "d_loss": 0.671, "g_loss": 0.705, "measures": [measure], "histories": {}}
    write("q2_gan_lab.json", {
        "criterion": {"reach": 0.04, "min_precision": 0.9, "min_coverage": 0.9, "max_w1": 0.05, "in_a_row": 3, "every_epochs": 500},
        "attempts": [{**{k: gan[k] for k in ("name", "draw", "seed", "settings", "epoch", "outcome", "seconds")}, "worst_of_last": measure, "epoch": e} for e in (5500, 12345)],
        "converged": gan, "failed": {**gan, "outcome": "not converged"}})
    for data in ("fashion", "mnist"):
        write(f"q3_table_{data}.json", {"dataset": data, "draws": 10, "rows": [
            {"method": method, "labels": n, "error_mean": mean, "error_std": 0.31} for method, mean in
            (("raw pixels+SVM", 29.41), ("M1+SVM", 27.16), ("M1+transductive", 20.02), ("a method of tomorrow", 1.5)) for n in (100, 600, 1000, 3000)],
            **({"svm": {"M1": {"power": 2.0, "width": 1.0, "C": 10.0}}, "paper": [
                {"method": "M1+TSVM", "labels": n, "error_mean": 11.82, "error_std": std} for n, std in ((100, 0.25), (600, None), (1000, 0.1), (3000, 0.1))]}
               if data == "mnist" else {})})  # without them the older form of the file
    keys = ("frechet_distance", "frechet_in_floors", "precision", "recall", "kl_to_uniform", "smallest_share", "largest_share",
            "median_distance_to_nearest_training")
    write("q4_scores.json", {
        "real": {"images": 10000, "floor": 0.5, "precision": 0.8, "recall": 0.8, "median_distance_test_to_nearest_training": 4.5},
        **{model: {"training": {"objective": objective, "arch": "conv", "dim": 64, "batch": 64, "learning_rate": 2e-4, "beta1": 0.0, "penalty_images": 16, "iterations": 9000, "seconds": 600, "floor": 0.5,
                                "attempt": {"dcgan": "d2", "wgan": "w3"}[model]},
                   **{key: {"mean": mean, "std": 0.25, "n": 5} for key in keys}}
           for model, objective, mean in (("dcgan", "dcgan", 7.12), ("wgan", "wgan-gp", 5.53))}})
    write("q4_stability.json", {"seeds": 5, "iterations": 1234, "dim": 16, "cells": [
        {"objective": name, "setting": setting, "runs": 5, "converged": 3, "lost_a_class": 1, "seconds": 700} for name in ("dcgan", "wgan-gp", "wgan-clip")
        for setting in ("no batch norm in G", "MLP generator (4 ReLU layers)", "learning rate x 10", "baseline")], "totals": {
        name: {"runs": 40, "converged": n} for name, n in (("dcgan", 17), ("wgan-gp", 31), ("wgan-clip", 0))}})
    write("q4_race.json", {"minutes": 10, "threads": 2, "dim": 16, "floor": 0.5, "curves": {
        name: [{"iteration": 4321, "seconds": 600, "distance": n}] for name, n in (("dcgan", 8.5), ("wgan-gp", 9.5), ("textbook", 21.5))}})
    for model in ("dcgan", "wgan"):
        (folder / f"q4_{model}_losses.csv").write_text(
            "iteration,seconds,generator_loss,critic_loss,held_out_critic_loss,distance\n10,1,1.5,-8,,\n20,2,2.5,-6,-7.5,40.5\n30,3,3.5,-2,-1.5,4.5\n")
    ledger = [{"attempt": "d1", "model": "dcgan", "outcome": "started"}, {"attempt": "d1", "model": "dcgan", "outcome": "failed", "reason": "class 3 is gone"},
              {"attempt": "d2", "model": "dcgan", "outcome": "converged"},
              {"attempt": "w1", "model": "wgan", "outcome": "converged", "iterations": 6000, "learning_rate": 0.00123},
              {"attempt": "w3", "continues": "w1", "model": "wgan", "outcome": "converged", "iterations": 9000, "learning_rate": 0.00045}, {"attempt": "w2", "model": "wgan", "outcome": "failed", "reason": "NaN"}]
    (folder / "q4_attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ledger))
    for name in [n for n in report.REQUIRED if n.endswith(".png")] + ["q3_vae_fashion_loss.png", "q3_transductive_mnist_map.png", "q3_vae_fashion_oddity.png"]:
        Image.new("RGB", (160, 90), "lightblue").save(folder / name)
    return folder


def test_builds_from_complete_results(results):
    done = run("--results-dir", results)
    assert done.returncode == 0, done.stderr
    pdf = (results / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    assert not list(results.glob("*.tmp"))


def test_the_numbers_of_the_files_stand_in_the_tables(results, tmp_path):
    typst = pytest.importorskip("typst")  # a requirement of the report; test_without_typst covers its absence
    folder = tmp_path / "stage"
    folder.mkdir()
    report.stage(results, folder)
    tables = typst.query(str(folder / "report.typ"), "table", root=str(folder))
    for text in ("27.16", "0.31", "a method of tomorrow", "20.02", "11.82", "0.25", "1.044", "0.91", "12,345", "7.1", "5.53", "lowered"):
        assert text in json.dumps(json.loads(tables), ensure_ascii=False), text


def test_a_training_that_continued_another_is_told_with_it(results, tmp_path):
    folder = tmp_path / "stage"
    folder.mkdir()
    report.stage(results, folder)
    parts = json.loads((folder / "derived.json").read_text())["parts"]
    assert [(part["iterations"], part["learning_rate"]) for part in parts["wgan"]] == [(6000, 0.00123), (9000, 0.00045)]
    assert len(parts["dcgan"]) == 1


def test_missing_results_are_named_with_their_command(results):
    (results / "q4_losses.png").unlink()
    (results / "q3_table_mnist.json").unlink()
    one_line(run("--results-dir", results), "q4_losses.png", "q4_wgan/figures.py", "q3_table_mnist.json", "q3_vae_m1/table.py")
    assert not (results / "report.pdf").exists()
    done = run("--results-dir", results, "--draft", "--out", results / "draft.pdf")
    assert done.returncode == 0 and "2 results missing" in done.stdout, done.stderr
    assert (results / "draft.pdf").read_bytes().startswith(b"%PDF")


def test_a_draft_needs_nothing(tmp_path):
    done = run("--results-dir", tmp_path, "--draft")
    assert done.returncode == 0, done.stderr


def test_corrupt_results_are_named(results):
    (results / "q3_table_fashion.json").write_text("{")
    one_line(run("--results-dir", results), "q3_table_fashion.json")
    (results / "q3_table_fashion.json").write_text('{"dataset": "fashion"}')
    one_line(run("--results-dir", results), "typst")
    (results / "q3_table_fashion.json").unlink()
    (results / "q4_attempts.jsonl").write_text("not json\n")
    one_line(run("--results-dir", results, "--draft"), "q4_attempts.jsonl", "line 1")


def test_without_typst(results, tmp_path):
    (tmp_path / "typst.py").write_text("raise ImportError")
    one_line(run("--results-dir", results, PYTHONPATH=str(tmp_path)), "pip install typst")


def test_unwritable_output(results):
    one_line(run("--results-dir", results, "--out", results / "q4_scores.json" / "report.pdf"), "cannot write")


def test_failures_are_counted_up_to_the_first_success(tmp_path):
    lines = [("1", "dcgan", "failed"), ("2", "dcgan", "interrupted"), ("2", "dcgan", "failed"), ("3", "dcgan", "started"), ("3", "dcgan", "converged"),
             ("4", "dcgan", "failed"), ("5", "wgan", "failed")]
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(json.dumps({"attempt": a, "model": m, "outcome": o}) + "\n" for a, m, o in lines))
    summary, _ = report.read_attempts(path)
    assert summary["dcgan"]["failed_before"] == 2 and summary["dcgan"]["failed"] == 3 and summary["dcgan"]["attempts"] == 4
    assert not summary["wgan"]["succeeded"] and summary["wgan"]["failed_before"] == 1


def test_moments_of_the_losses(results):
    losses = report.read_losses(results / "q4_wgan_losses.csv", last=15)
    assert losses["early"] == {"iteration": 20, "distance": 40.5, "held_out": -7.5, "critic": -7, "generator": 2}
    assert losses["end"] == {"iteration": 30, "distance": 4.5, "held_out": -1.5, "critic": -4, "generator": 3}
    (results / "q4_wgan_losses.csv").write_text("iteration\n1\n")
    one_line(run("--results-dir", results), "q4_wgan_losses.csv")
