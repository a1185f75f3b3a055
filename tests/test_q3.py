"""Question 3: the bound, the label draw, the classifiers, and the command lines a user types, on small synthetic images."""
import gzip
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from command import run_script

ROOT = Path(__file__).resolve().parent.parent
ROOM = ROOT / "q3_vae_m1"


def load_room():
    """The room's modules, without leaving its path or its names behind (question 4 has modules of the same names)."""
    names = [path.stem for path in ROOM.glob("*.py")]
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(ROOM))
    try:
        return {name: importlib.import_module(name) for name in names if name != "benchmark"}
    finally:
        sys.path.remove(str(ROOM))
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


q3 = load_room()
images, m1, classify, store, train, table = (q3[name] for name in ("images", "m1", "classify", "store", "train", "table"))


# ---------------------------------------------------------------- the mathematics

def test_kl_matches_monte_carlo_and_is_zero_at_the_prior():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(3, 4), torch.randn(3, 4)
    z = mean + torch.exp(0.5 * log_variance) * torch.randn(200_000, 3, 4)
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance)).log_prob(z)
    p = torch.distributions.Normal(0, 1).log_prob(z)
    assert torch.allclose((q - p).sum(2).mean(0), m1.kl_to_prior(mean, log_variance), rtol=0.02)
    assert torch.equal(m1.kl_to_prior(torch.zeros(2, 5), torch.zeros(2, 5)), torch.zeros(2))


@pytest.mark.parametrize("likelihood", m1.LIKELIHOODS)
def test_log_likelihood_is_that_of_the_named_distribution(likelihood):
    torch.manual_seed(0)
    model = m1.M1(likelihood, pixels=9, hidden=6, latent=2)
    logits, x = torch.randn(4, 9), torch.rand(4, 9)
    if likelihood == "bernoulli":
        x = x.round()
        reference = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(1)
    else:
        reference = torch.distributions.Normal(torch.sigmoid(logits), torch.exp(0.5 * model.log_variance)).log_prob(x).sum(1)
    assert torch.allclose(model.log_likelihood(x, logits), reference, rtol=1e-4)


def test_the_bound_is_below_the_exact_log_evidence():
    """With one latent dimension log p(x) is a sum over a grid of z; no q may exceed it, and the gap is KL(q || p(z|x))."""
    torch.manual_seed(0)
    model = m1.M1("bernoulli", pixels=6, hidden=5, latent=1)
    x = torch.rand(3, 6).round()
    z = torch.linspace(-8, 8, 4001)[:, None]
    log_prior = torch.distributions.Normal(0, 1).log_prob(z[:, 0])
    with torch.no_grad():
        log_joint = torch.stack([model.log_likelihood(row.expand(len(z), -1), model.decode(z)) + log_prior for row in x])
        evidence = torch.logsumexp(log_joint, 1) + np.log(16 / 4000)
        likelihood, kl = model.bound(x.repeat(20_000, 1), x.repeat(20_000, 1), torch.randn(60_000, 1))
        bound = (likelihood - kl).view(20_000, 3).mean(0)
        mean, log_variance = model.posterior(x)
        q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance)).log_prob(z.T.expand(3, -1))
        gap = (q.exp() * (q - (log_joint - evidence[:, None]))).sum(1) * 16 / 4000
    assert (bound < evidence).all()
    assert torch.allclose(evidence - bound, gap, atol=0.01)


def test_distortion_of_strength_zero_changes_nothing_and_shifts_are_bounded():
    x = torch.zeros(64, 784)
    x[:, 14 * 28 + 14] = 1
    random = torch.Generator().manual_seed(0)
    assert torch.allclose(train.distorted(x, 0.0, random), x, atol=1e-5)
    moved = train.distorted(x, 1.0, random).view(64, 28, 28)
    assert not torch.allclose(moved[0], moved[1])  # a map of its own for each image
    assert moved[:, 10:20, 10:20].sum() == pytest.approx(float(moved.sum()))


def test_label_draw_is_balanced_and_depends_on_seed_and_count_alone():
    labels = torch.arange(1000) % 10
    first = images.labelled_draw(labels, 100, 3)
    np.random.seed(5), torch.manual_seed(5), images.labelled_draw(labels, 50, 1)
    assert np.array_equal(first, images.labelled_draw(labels, 100, 3))
    assert not np.array_equal(first, images.labelled_draw(labels, 100, 4))
    assert len(set(first)) == 100 and (np.bincount(labels[first]) == 10).all()
    for bad in (0, -10, 101, 2000):
        with pytest.raises(ValueError):
            images.labelled_draw(labels, bad, 0)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_kernel_values_and_positive_definiteness(power):
    x = np.random.default_rng(0).normal(size=(60, 4))
    kernel = classify.Kernel(power, 1.7)(x, x)
    distance = np.linalg.norm(x[3] - x[7])
    assert kernel[3, 7] == pytest.approx(np.exp(-(distance / 1.7) ** power))
    assert np.linalg.eigvalsh(kernel).min() > 0


def test_spreading_on_a_chain_matches_the_linear_system():
    """F <- a S F + (1 - a) Y converges to (1 - a) (I - a S)^-1 Y; on a chain labelled at both ends each half goes to its end."""
    n = 12
    chain = np.diag(np.ones(n - 1), 1)
    chain = chain + chain.T
    scale = 1 / np.sqrt(chain.sum(1))
    graph = csr_matrix(scale[:, None] * chain * scale)
    start = np.zeros((n, 2))
    start[0, 0] = start[-1, 1] = 1
    field = classify.spread(graph, start, 0.9, 400)
    exact = 0.1 * np.linalg.solve(np.eye(n) - 0.9 * graph.toarray(), start)
    assert np.allclose(field, exact, atol=1e-8)
    assert (field.argmax(1) == np.repeat([0, 1], n // 2)).all()


def test_neighbour_graph_is_symmetric_with_unit_spectral_radius():
    graph = classify.neighbour_graph(np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32), 5)
    dense = graph.toarray()
    assert np.allclose(dense, dense.T) and (dense.diagonal() == 0).all()
    assert np.abs(np.linalg.eigvalsh(dense)).max() == pytest.approx(1, abs=1e-4)


def test_balancing_equalises_the_classes():
    field = classify.balanced(np.random.default_rng(0).dirichlet([4, 1, 1], 3000), rounds=30)
    assert np.allclose(field.sum(1), 1) and np.allclose(field.mean(0), 1 / 3, atol=1e-3)


def test_transductive_classifier_solves_two_moons_where_the_svm_cannot():
    from sklearn.datasets import make_moons
    points, truth = make_moons(1200, noise=0.07, random_state=0)
    blob = np.random.default_rng(0).normal([0.5, 3], 0.2, (600, 2))  # a third class: the classifiers are made for more than two
    points, truth = np.concatenate([points, blob]).astype(np.float32), np.concatenate([truth, np.full(600, 2)])
    drawn = np.array([np.flatnonzero(truth == c)[i] for c in range(3) for i in range(3)])
    svm = {"power": 2.0, "width": 0.3, "C": 10.0}
    plain = classify.fit_svm(points[drawn], truth[drawn], **svm)
    graph = classify.neighbour_graph(points, 10)
    spread = classify.fit_transductive(points, drawn, truth[drawn], graph, "mnist", svm=svm, alpha=0.999, steps=1000, rounds=4, weight=1.0, propagated=900)
    error = lambda machine: (classify.predict(machine, points) != truth).mean()
    assert error(plain) > 0.05 and error(spread) < 0.01


# ---------------------------------------------------------------- the command lines

@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Synthetic Fashion-MNIST in torchvision's layout: class c is a bright bar at a place of its own. 1,200 + 200 images."""
    root = tmp_path_factory.mktemp("q3")
    raw = root / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    sums = []
    for name, count in (("train", 1200), ("t10k", 200)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = random.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for i, c in enumerate(labels):
            pixels[i, 2 + 2 * c:6 + 2 * c, 4:24] = random.integers(150, 255)
        for kind, array, magic in (("images-idx3", pixels, [2051, count, 28, 28]), ("labels-idx1", labels, [2049, count])):
            content = np.array(magic, ">i4").tobytes() + array.tobytes()
            (raw / f"{name}-{kind}-ubyte").write_bytes(content)
            sums.append(f"{hashlib.sha256(content).hexdigest()}  FashionMNIST/raw/{name}-{kind}-ubyte\n")
    (root / "SUMS").write_text("".join(sums))
    return root


def run(small, script, *words, expect=0, folder="out"):
    done = run_script(ROOM / script, *words, "--data-dir", small / "data", "--results-dir", small / folder / "results",
                      "--weights-dir", small / folder / "weights",
                      environment={"IMAGES_SHA256SUMS": str(small / "SUMS"), "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == expect, done.stdout + done.stderr
    if expect == 2:
        assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()[-1]) > 10
    return done


QUICK = ["--epochs", "3", "--batch-size", "50"]


@pytest.fixture(scope="session")
def trained(small):
    return run(small, "train.py", "--labels", "20", "50", *QUICK)


def test_train_then_test(small, trained):
    report = json.loads((small / "out/results/q3_svm_fashion_20.json").read_text())
    assert report["images"] == 200 and report["error"] < 50 and np.array(report["confusion"]).sum() == 200
    for name in ("loss", "reconstructions", "samples", "latent"):
        assert (small / f"out/results/q3_vae_fashion_{name}.png").stat().st_size > 5000
    listed = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=small / "out/weights")
    assert listed.returncode == 0
    tested = run(small, "test.py", "--labels", "20", "50")
    assert f"{report['error']:.2f} %" in tested.stdout and "Sneaker" in tested.stdout
    assert (small / "out/results/q3_svm_fashion_20_confusion.png").is_file()


def test_the_vae_is_used_again_and_another_vae_orphans_its_classifiers(small, trained):
    shutil.copytree(small / "out", small / "again")
    assert "using q3_vae_fashion.pt again" in run(small, "train.py", "--labels", "20", *QUICK, folder="again").stdout
    run(small, "train.py", "--labels", "20", *QUICK, "--vae-seed", "7", folder="again")
    refused = run(small, "test.py", "--labels", "50", folder="again", expect=2)
    assert "another VAE" in refused.stderr and "--labels 50" in refused.stderr


def test_transductive_command(small, trained):
    done = run(small, "train.py", "--labels", "20", "--classifier", "transductive", *QUICK)
    assert "test error" in done.stdout
    assert "test error" in run(small, "test.py", "--labels", "20", "--classifier", "transductive").stdout


def test_killed_training_resumes_to_the_same_bits(small, trained):
    words = ["train.py", "--labels", "20", "--epochs", "20", "--batch-size", "50", "--precision", "float32"]
    run(small, *words, folder="whole")
    env = os.environ | {"IMAGES_SHA256SUMS": str(small / "SUMS"), "CUDA_VISIBLE_DEVICES": ""}
    out = small / "killed"
    shutil.copytree(small / "out/weights", out / "weights")
    before = (out / "weights/q3_vae_fashion.pt").read_bytes()
    killed = subprocess.Popen([sys.executable, str(ROOM / words[0]), *words[1:], "--data-dir", str(small / "data"), "--results-dir", str(out / "results"),
                               "--weights-dir", str(out / "weights")], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = out / "results/runs/q3_vae_fashion/metrics.csv"
    while killed.poll() is None and not (metrics.is_file() and metrics.read_text().count("\n") > 3):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    assert (out / "weights/q3_vae_fashion.pt").read_bytes() == before  # what ships is untouched
    assert "--resume" in run(small, *words, folder="killed", expect=2).stderr
    run(small, *words, "--resume", folder="killed")
    whole, resumed = (torch.load(small / name / "weights/q3_vae_fashion.pt", weights_only=True)["parameters"] for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("words, message", [
    (["train.py", "--labels", "101"], "multiple of 10"), (["train.py", "--labels", "20", "--resume"], "no interrupted training"),
    (["test.py", "--labels", "600"], "train.py --dataset fashion --likelihood gaussian --labels 600"), (["train.py", "--dataset", "cifar"], "invalid choice"),
])
def test_bad_input_is_one_line_and_status_2(small, trained, words, message):
    assert message in run(small, *words, expect=2).stderr


@pytest.mark.parametrize("script, words, message", [
    ("train", ["--labels", "0"], "multiple of 10"), ("train", ["--labels", "-10"], "multiple of 10"), ("train", ["--labels", "2000"], "has only"),
    ("train", ["--epochs", "0"], "positive"), ("train", ["--learning-rate", "nan"], "positive"), ("train", ["--distort", "-1"], "negative"),
    ("test", ["--dataset", "mnist"], "--retrain"), ("table", ["--draws", "0"], "positive"), ("tune", ["kernel", "--jobs", "0"], "positive"),
])
def test_more_bad_input(small, trained, monkeypatch, capsys, script, words, message):
    """The same scripts in this process, which spares each the import of torch; what they raise is what __main__ prints."""
    monkeypatch.setenv("IMAGES_SHA256SUMS", str(small / "SUMS"))
    folders = ["--data-dir", str(small / "data"), "--weights-dir", str(small / "out/weights"), "--results-dir", str(small / "out/results")]
    with pytest.raises((SystemExit, ValueError, store.StoreError, images.ImagesError)) as raised:
        q3[script].main(words + folders)
    assert message in str(raised.value) + capsys.readouterr().err
    assert not isinstance(raised.value, SystemExit) or raised.value.code == 2


def test_corrupt_images_and_weights_are_refused_by_name(small, trained):
    bad = small / "bad"
    shutil.copytree(small / "data", bad / "data")
    (bad / "data/FashionMNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"\0" * 208)
    shutil.copy(small / "SUMS", bad / "SUMS")
    assert "t10k-labels-idx1-ubyte is not the published file" in run(bad, "train.py", "--labels", "20", *QUICK, expect=2).stderr
    shutil.copytree(small / "out", small / "corrupt")
    weights = small / "corrupt/weights/q3_svm_fashion_20.joblib"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "does not match" in run(small, "test.py", "--labels", "20", folder="corrupt", expect=2).stderr
    foreign = small / "corrupt/weights/q3_vae_fashion.pt"
    store.ship(foreign, lambda path: torch.save({"model": "another"}, path))
    assert "holds no weights of M1" in run(small, "test.py", "--labels", "20", folder="corrupt", expect=2).stderr


def test_unwritable_results(small, trained):
    (small / "file").write_text("")
    assert "cannot write" in run(small, "train.py", "--labels", "20", folder="file", expect=2).stderr


def test_gzipped_images_are_read(small, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGES_SHA256SUMS", str(small / "SUMS"))
    raw = tmp_path / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for path in (small / "data/FashionMNIST/raw").iterdir():
        (raw / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    loaded = images.load("fashion", tmp_path)
    assert loaded.train_x.shape == (1200, 784) and loaded.test_y.dtype == torch.int64 and loaded.validation == 1000


# ---------------------------------------------------------------- what ships

def test_shipped_weights_match_their_sums():
    sums = store.read_sums(ROOT / "weights")
    assert {f"q3_svm_{d}_{n}.joblib" for d in ("fashion", "mnist") for n in table.COUNTS} <= set(sums)
    for name, digest in sums.items():
        assert store.sha256(ROOT / "weights" / name) == digest, name


@pytest.mark.parametrize("dataset", ["fashion", "mnist"])
def test_readme_tables_are_the_results(dataset):
    rows = json.loads((ROOT / f"results/q3_table_{dataset}.json").read_text())["rows"]
    readme = (ROOM / "README.md").read_text()
    assert table.markdown(rows, dataset == "mnist") in readme
    assert q3["tune"].tries_markdown(json.loads((ROOT / f"results/q3_tries_{dataset}.json").read_text())["rows"]) in readme
    transductive = json.loads((ROOT / f"results/q3_validation_transductive_{dataset}.json").read_text())
    assert q3["tune"].transductive_markdown(transductive["rows"]) in readme
    assert transductive["base"] == {str(n): classify.transductive_settings(dataset, n) for n in table.COUNTS}


@pytest.mark.parametrize("dataset, title", [("fashion", "Fashion-MNIST"), ("mnist", "MNIST")])
def test_top_readme_shows_the_results(dataset, title):
    rows = json.loads((ROOT / f"results/q3_table_{dataset}.json").read_text())["rows"]
    for method in ("raw pixels+SVM", "M1+SVM", "M1+transductive"):
        cells = [f"{table.fixed(row['error_mean'])} ± {table.fixed(row['error_std'])}" for row in rows if row["method"] == method]
        assert f"| {title}, {method} | {' | '.join(cells)} |" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("dataset", ["fashion", "mnist"])
def test_the_constants_are_what_validation_chose(dataset):
    chosen = json.loads((ROOT / f"results/q3_validation_{dataset}.json").read_text())["chosen"]
    assert {name: classify.SVM[dataset, name] for name in chosen} == chosen
