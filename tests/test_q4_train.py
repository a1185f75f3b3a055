"""q4_wgan's training on small synthetic images: killing and resuming, going on, failures and the ledger, bad input."""

import csv
import hashlib
import json
import shutil
import signal

import pytest
import torch
from PIL import Image

from q4_world import call, load_room, run, train


def ledger(base, results):
    return [json.loads(line) for line in (base / results / "q4_attempts.jsonl").read_text().splitlines()]


def same(a, b):
    """Bit for bit the same checkpoint, but for the time it took and the name of the attempt."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k not in ("seconds", "attempt"))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_same_run(base, results, model="wgan"):
    one, other = (base / folder / f"runs/q4_{model}_seed3" for folder in ("results", results))
    for name in ("checkpoint.pt", "generator.pt"):
        assert same(*(torch.load(run / name, weights_only=True) for run in (one, other))), name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader((run / "metrics.csv").open())]
            for run in (one, other)]
    assert rows[0] == rows[1] and [row["iteration"] for row in rows[0]] == ["5", "10", "12", "15", "20", "24"]
    assert not list(other.glob(".*.tmp"))
    for name in ("000012.png", "000024.png"):
        assert (one / "grids" / name).read_bytes() == (other / "grids" / name).read_bytes()


def test_what_a_run_leaves(trained):
    for model, objective in (("wgan", "wgan-gp"), ("dcgan", "dcgan")):
        content = torch.load(trained / f"weights/q4_{model}.pt", weights_only=True)
        assert (content["model"], content["objective"], content["iterations"], content["seed"]) == (model, objective, 24, 3)
        assert content["distance"] > 0 and len(content["shares"]) == 10
        rows = list(csv.DictReader((trained / f"results/q4_{model}_losses.csv").open()))
        assert rows[-1]["held_out_critic_loss"] and rows[-1]["distance"] and bool(rows[0]["penalty"]) == (model == "wgan")
        entries = [e for e in ledger(trained, "results") if e["model"] == model]
        assert [e["outcome"] for e in entries] == ["started", "converged"]
    sums = (trained / "weights/SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in sums] == [
        "q4_classifier.pt", "q4_dcgan.pt", "q4_dcgan_critic.pt", "q4_wgan.pt", "q4_wgan_critic.pt"]
    for line in sums:
        digest, name = line.split("  ")
        assert hashlib.sha256((trained / "weights" / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("model, kill", [("wgan", "step9"), ("wgan", "save3"), ("wgan", "interrupt14"), ("dcgan", "step20")])
def test_kill_and_resume_gives_the_same_bits(trained, model, kill):
    results = f"{model}-{kill}"
    killed = train(trained, results, model=model, kill=kill, lenient=True)
    if kill.startswith("interrupt"):
        assert killed.returncode == 130 and "--resume" in killed.stdout
        assert ledger(trained, results)[-1]["outcome"] == "interrupted"
    else:
        assert killed.returncode == -signal.SIGKILL
    again = train(trained, results, model=model)
    assert again.returncode == 2 and "--resume" in again.stderr  # a run is not overwritten
    resumed = train(trained, results, "--resume", model=model, lenient=True)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(trained, results, model)
    assert "kept" in resumed.stdout  # the shipped weights are as good: they stay
    entries = ledger(trained, results)
    assert len({entry["attempt"] for entry in entries}) == 1 and entries[-1]["outcome"] == "converged"


def test_continue_an_ended_run(trained, tmp_path):
    (tmp_path / "data").symlink_to(trained / "data")
    for folder in ("weights", "results"):
        shutil.copytree(trained / folder, tmp_path / folder)
    def more(*args, **kwargs):
        return train(tmp_path, "results", "--continue", "q4_wgan_seed3", "--lr", "3e-4", "--name", *args, **kwargs)
    assert more("killed", "--generator-lr", "1e-3", lenient=True, kill="step33").returncode == -signal.SIGKILL
    unended = train(tmp_path, "results", "--continue", "killed")
    assert unended.returncode == 2 and "has not ended" in unended.stderr
    done = run(tmp_path, "train.py", "--model", "wgan", "--resume", "--name", "killed", lenient=True)
    assert done.returncode == 0, done.stderr
    done = more("whole", "--generator-lr", "1e-3", lenient=True)
    assert done.returncode == 0, done.stderr
    first, killed, whole = (tmp_path / "results/runs" / name for name in ("q4_wgan_seed3", "killed", "whole"))
    assert same(*(torch.load(run / "checkpoint.pt", weights_only=True) for run in (killed, whole)))
    content = torch.load(whole / "generator.pt", weights_only=True)
    assert (content["start"], content["iterations"], content["learning_rate"], content["generator_learning_rate"]) == (
        24, 48, 3e-4, 1e-3)
    plain = more("plain", lenient=True)
    assert "generator_learning_rate" not in json.loads((whole.with_name("plain") / "options.json").read_text())
    assert plain.returncode == 0 and not same(*(torch.load(tmp_path / f"results/runs/{name}/checkpoint.pt", weights_only=True)[
        "generator"] for name in ("plain", "whole")))
    rows = (whole / "metrics.csv").read_text().splitlines()
    assert rows[:7] == (first / "metrics.csv").read_text().splitlines() and rows[7].startswith("25,") and rows[-1].startswith("48,")
    attempts = {line["attempt"]: line for line in ledger(tmp_path, "results") if line["model"] == "wgan"}
    assert len(attempts) == 4 and content["continues"] in attempts
    refused = more("wider", "--dim", "8")
    assert refused.returncode == 2 and "--dim" in refused.stderr and not (tmp_path / "results/runs/wider").exists()


def test_continue_the_shipped_weights_with_a_new_critic(trained, tmp_path):
    for folder in ("data", "weights", "results"):
        shutil.copytree(trained / folder, tmp_path / folder, ignore=shutil.ignore_patterns("runs"))
    def more(name, *args, **kwargs):
        return train(tmp_path, "results", "--iterations", "40", "--checkpoint-every", "2", "--name", name, *args, lenient=True, **kwargs)
    shipped = torch.load(tmp_path / "weights/q4_wgan.pt", weights_only=True)
    assert more("with_critic", "--continue", "shipped", kill="step25").returncode == -signal.SIGKILL
    folder = tmp_path / "results/runs/with_critic"
    critic = torch.load(tmp_path / "weights/q4_wgan_critic.pt", weights_only=True)
    assert critic["attempt"] == shipped["attempt"] and "critic_alone" not in json.loads((folder / "options.json").read_text())
    assert same(torch.load(folder / "start.pt", weights_only=True)["critic"], critic["state"])
    assert more("asked", "--continue", "shipped", "--critic-alone", "3", kill="step25").returncode == -signal.SIGKILL
    assert json.loads((folder.with_name("asked") / "options.json").read_text())["critic_alone"] == 3
    last = torch.load(trained / "results/runs/q4_wgan_seed3/checkpoint.pt", weights_only=True)
    assert same(last["critic"], critic["state"])
    critic["attempt"] = "another"  # than the generator's: a new critic, then
    files = load_room("files").files
    files.ship(tmp_path / "weights", "q4_wgan_critic.pt", critic)
    for name, kill in (("early", "step25"), ("later", "step27")):
        assert more(name, "--continue", "shipped", kill=kill).returncode == -signal.SIGKILL
    early, later, whole = (tmp_path / "results/runs" / name for name in ("early", "later", "whole"))
    assert not (early / "checkpoint.pt").exists()
    checkpoint = torch.load(later / "checkpoint.pt", weights_only=True)
    assert checkpoint["iteration"] == 26 and checkpoint["options"]["critic_alone"] == 10
    assert all(torch.equal(checkpoint["generator"][key], value) for key, value in shipped["state"].items()
               if "running" not in key and "batches" not in key)  # it stood still
    assert more("whole", "--continue", "shipped").returncode == 0
    for run_folder in (early, later):
        done = run(tmp_path, "train.py", "--model", "wgan", "--resume", "--name", run_folder.name, lenient=True)
        assert done.returncode == 0, done.stderr
        assert same(*(torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (run_folder, whole)))
    moved = torch.load(whole / "checkpoint.pt", weights_only=True)["generator"]
    assert not any(torch.equal(moved[key], value) for key, value in shipped["state"].items() if key.endswith("weight"))
    rows = (whole / "metrics.csv").read_text().splitlines()
    assert rows[:7] == (trained / "results/q4_wgan_losses.csv").read_text().splitlines() and rows[-1].startswith("64,")
    assert torch.load(whole / "generator.pt", weights_only=True)["continues"] == shipped["attempt"]
    refused = more("wider", "--continue", "shipped", "--dim", "8")
    assert refused.returncode == 2 and "--dim" in refused.stderr and not (tmp_path / "results/runs/wider").exists()


def test_a_failure_is_counted_and_ships_nothing(trained):
    shipped = (trained / "weights/q4_wgan.pt").read_bytes()
    done = train(trained, "collapsed", "--name", "short")
    assert done.returncode == 1 and "failed" in done.stdout
    done = train(trained, "collapsed", "--lr", "1e30", "--name", "nan")
    assert done.returncode == 1 and "NaN" in done.stdout
    files = load_room("files").files
    attempts = files.read_ledger(trained / "collapsed")
    assert [a["outcome"] for a in attempts] == ["failed", "failed"]
    assert files.failures_before_success(attempts, "wgan") == (2, False)
    assert (trained / "weights/q4_wgan.pt").read_bytes() == shipped
    assert not (trained / "collapsed/q4_wgan_losses.csv").exists()


def test_ledger_counts_failures_before_the_first_success(tmp_path):
    files = load_room("files").files
    for attempt, model, outcome in (("a", "wgan", "started"), ("a", "wgan", "failed"), ("b", "dcgan", "failed"),
                                    ("c", "wgan", "interrupted"), ("c", "wgan", "converged"), ("d", "wgan", "failed")):
        files.append_ledger(tmp_path, {"attempt": attempt, "model": model, "outcome": outcome})
    with open(tmp_path / "q4_attempts.jsonl", "a") as file:
        file.write('{"attempt": "e", "mod')  # a crash of the machine
    attempts = files.read_ledger(tmp_path)
    assert [a["outcome"] for a in attempts] == ["failed", "failed", "converged", "failed"]
    assert files.failures_before_success(attempts, "wgan") == (1, True)
    assert files.failures_before_success(attempts, "dcgan") == (1, False)


def test_shipping_keeps_the_lines_of_others(tmp_path):
    files = load_room("files").files
    (tmp_path / "SHA256SUMS").write_text("00  q3_svm.joblib\n11  q4_wgan.pt\n")
    files.ship(tmp_path, "q4_wgan.pt", {"model": "wgan"})
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert lines[0] == "00  q3_svm.joblib" and len(lines) == 2 and not lines[1].startswith("11")


def test_resnet_and_clipping_train(trained, tmp_path):
    for folder in ("data", "weights"):
        shutil.copytree(trained / folder, tmp_path / folder)
    done = run(tmp_path, "train.py", "--model", "wgan", "--penalty", "clip", "--arch", "resnet", "--dim", "4", "--batch", "4",
               "--iterations", "2", lenient=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weights/q4_wgan_clip_resnet.pt").exists()


def test_settings_are_used_and_recorded(trained):
    done = train(trained, "settings", "--beta1", "0.5", "--penalty-images", "2", "--lr", "1e-3", lenient=True)
    assert done.returncode == 0, done.stderr
    found = []
    for folder in ("results", "settings"):  # a CPU's defaults, and those given: one rate is for both networks
        checkpoint = torch.load(trained / folder / "runs/q4_wgan_seed3/checkpoint.pt", weights_only=True)
        groups = [checkpoint[f"{name}_optimizer"]["param_groups"][0] for name in ("critic", "generator")]
        left = 1 / 24  # of the learning rate, at the last iteration
        found.append([(pytest.approx(group["lr"] / left), group["betas"]) for group in groups])
        options = json.loads((trained / folder / "runs/q4_wgan_seed3/options.json").read_text())
        found[-1].append(options["penalty_images"])
    assert found == [[(8e-4, (0.0, 0.9)), (3e-3, (0.0, 0.9)), 8], [(1e-3, (0.5, 0.9)), (1e-3, (0.5, 0.9)), 2]]
    content = torch.load(trained / "settings/runs/q4_wgan_seed3/generator.pt", weights_only=True)
    for record in (content, *ledger(trained, "settings")):
        assert (record["learning_rate"], record["beta1"], record["penalty_images"]) == (1e-3, 0.5, 2)
        assert "generator_learning_rate" not in record
    # The networks hardly move: only the images that the penalty is taken on differ.
    training = load_room("training").training
    pixels = torch.randint(0, 256, (80, 28, 28), dtype=torch.uint8)
    penalties = []
    for change in ({}, {"penalty_images": 8}, {"penalty_images": 2}):
        run = training.Training({"objective": "wgan-gp", "arch": "conv", "dim": 4, "batch": 8, "iterations": 1, "learning_rate": 1e-9,
                                 "seed": 0, "precision": "float32", **change}, pixels, pixels, torch.device("cpu"))
        run.step()
        penalties.append(run.take_losses()["penalty"])
    assert penalties[0] == penalties[1] != penalties[2]


def test_race_times_all_three(trained):
    done = run(trained, "race.py", "--minutes", "0.01", "--dim", "4", results="race", lenient=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((trained / "race/q4_race.json").read_text())
    assert set(result["curves"]) == {"dcgan", "wgan-gp", "textbook"}
    for points in result["curves"].values():
        assert len(points) == 12 and points[-1]["seconds"] >= 0.6 and all(point["distance"] > 0 for point in points)
        assert [p["iteration"] for p in points] == sorted(p["iteration"] for p in points)
    assert Image.open(trained / "race/q4_race.png").size[0] > 800


@pytest.mark.parametrize("args, message", [
    (("--model", "dcgan", "--penalty", "gp"), "--penalty"), (("--model", "wgan", "--iterations", "0"), "above zero"),
    (("--model", "wgan", "--lr", "-1"), "above zero"), (("--model", "wgan", "--batch", "1"), "--batch"),
    (("--model", "wgan", "--resume"), "no run to go on with"), (("--model", "wgan", "--continue", "absent"), "no run to go on with"),
    (("--model", "wgan", "--continue", "../x"), "letters, digits"), (("--model", "wgan", "--continue", "x", "--resume"), "--continue"),
    (("--model", "dcgan", "--penalty-images", "4"), "gradient penalty"), (("--model", "wgan", "--penalty-images", "65"), "at most the 64"),
    (("--model", "wgan", "--beta1", "1"), "below 1"), (("--model", "wgan", "--penalty", "clip", "--beta1", "0"), "clipping"),
    (("--model", "wgan", "--seed", "-1"), "-1"), (("--model", "wgan", "--device", "tpu"), "tpu")])
def test_train_refuses_bad_input(trained, capsys, monkeypatch, tmp_path, args, message):
    room = load_room("train", "images")
    for name in room.images.SHA256:
        path = trained / "data/FashionMNIST/raw" / name
        monkeypatch.setitem(room.images.SHA256, name, hashlib.sha256(path.read_bytes()).hexdigest())
    status, _, err = call(capsys, room.train.main, *args, "--data-dir", trained / "data", "--weights-dir", trained / "weights",
                          "--results-dir", tmp_path, monkeypatch=monkeypatch)
    assert status == 2 and message in err and err.count("\n") == 1


def test_a_resumed_run_keeps_its_options(trained):
    done = train(trained, "results", "--resume", "--dim", "8")
    assert done.returncode == 2 and "--dim" in done.stderr and done.stderr.count("\n") == 1
