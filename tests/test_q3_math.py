"""Question 3: the ELBO, label draw, kernel and label propagation against closed forms; the files that ship."""

import json

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from q3_vae_m1 import classifiers, m1, vae
from q3_vae_m1.command import UserError
from q3_vae_m1.features import shipped


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
        sigma = torch.exp(0.5 * model.log_variance)
        reference = torch.distributions.Normal(torch.sigmoid(logits), sigma).log_prob(x).sum(1)
    assert torch.allclose(model.log_likelihood(x, logits), reference, rtol=1e-4)


def test_the_elbo_is_below_the_exact_log_evidence():
    """With one latent dimension log p(x) is a sum over a grid of z; the gap to the ELBO is KL(q || p(z|x))."""
    torch.manual_seed(0)
    model = m1.M1("bernoulli", pixels=6, hidden=5, latent=1)
    x = torch.rand(3, 6).round()
    z = torch.linspace(-8, 8, 4001)[:, None]
    log_prior = torch.distributions.Normal(0, 1).log_prob(z[:, 0])
    with torch.no_grad():
        decoded = model.decode(z)
        log_joint = torch.stack([model.log_likelihood(row.expand(len(z), -1), decoded) + log_prior for row in x])
        evidence = torch.logsumexp(log_joint, 1) + np.log(16 / 4000)
        likelihood, kl = model.elbo(x.repeat(20_000, 1), x.repeat(20_000, 1), torch.randn(60_000, 1))
        elbo = (likelihood - kl).view(20_000, 3).mean(0)
        mean, log_variance = model.posterior(x)
        q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance)).log_prob(z.T.expand(3, -1))
        gap = (q.exp() * (q - (log_joint - evidence[:, None]))).sum(1) * 16 / 4000
    assert (elbo < evidence).all()
    assert torch.allclose(evidence - elbo, gap, atol=0.01)


def test_distortion_of_strength_zero_changes_nothing_and_shifts_are_bounded():
    x = torch.zeros(64, 784)
    x[:, 14 * 28 + 14] = 1
    random = torch.Generator().manual_seed(0)
    assert torch.allclose(vae.distorted(x, 0.0, random), x, atol=1e-5)
    moved = vae.distorted(x, 1.0, random).view(64, 28, 28)
    assert not torch.allclose(moved[0], moved[1])  # a map of its own for each image
    assert moved[:, 10:20, 10:20].sum() == pytest.approx(float(moved.sum()))


def test_label_draw_is_balanced_and_depends_on_seed_and_count_alone():
    labels = torch.arange(1000) % 10
    first = classifiers.labelled_draw(labels, 100, 3)
    np.random.seed(5), torch.manual_seed(5), classifiers.labelled_draw(labels, 50, 1)
    assert np.array_equal(first, classifiers.labelled_draw(labels, 100, 3))
    assert not np.array_equal(first, classifiers.labelled_draw(labels, 100, 4))
    assert len(set(first)) == 100 and (np.bincount(labels[first]) == 10).all()
    for bad in (101, 2000):
        with pytest.raises(UserError):
            classifiers.labelled_draw(labels, bad, 0)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_kernel_values_and_positive_definiteness(power):
    x = np.random.default_rng(0).normal(size=(60, 4))
    kernel = classifiers.Kernel(power, 1.7)
    distance = np.linalg.norm(x[3] - x[7])
    assert kernel(x, x)[3, 7] == pytest.approx(np.exp(-(distance / 1.7) ** power))
    assert np.linalg.eigvalsh(kernel(x, x)).min() > 0
    assert np.allclose(kernel(x, x[:7]), kernel.of_sklearn()(x, x[:7]), atol=1e-6)  # as a file has it


def test_label_propagation_on_a_chain_matches_the_linear_system():
    """F <- a S F + (1 - a) Y converges to (1 - a) (I - a S)^-1 Y; on a chain each half goes to its labelled end."""
    n = 12
    chain = np.diag(np.ones(n - 1), 1)
    chain = chain + chain.T
    scale = 1 / np.sqrt(chain.sum(1))
    graph = csr_matrix(scale[:, None] * chain * scale)
    start = np.zeros((n, 2))
    start[0, 0] = start[-1, 1] = 1
    field = classifiers.propagate(graph, start, 0.9, 400)
    exact = 0.1 * np.linalg.solve(np.eye(n) - 0.9 * graph.toarray(), start)
    assert np.allclose(field, exact, atol=1e-8)
    assert (field.argmax(1) == np.repeat([0, 1], n // 2)).all()


def test_neighbour_graph_is_symmetric_with_unit_spectral_radius():
    graph = classifiers.neighbour_graph(np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32), 5)
    dense = graph.toarray()
    assert np.allclose(dense, dense.T) and (dense.diagonal() == 0).all()
    assert np.abs(np.linalg.eigvalsh(dense)).max() == pytest.approx(1, abs=1e-4)


def test_balancing_equalises_the_classes():
    field = classifiers.balanced(np.random.default_rng(0).dirichlet([4, 1, 1], 3000), rounds=30)
    assert np.allclose(field.sum(1), 1) and np.allclose(field.mean(0), 1 / 3, atol=1e-3)


def test_transductive_classifier_solves_two_moons_where_the_svm_cannot():
    from sklearn.datasets import make_moons
    points, truth = make_moons(1200, noise=0.07, random_state=0)
    blob = np.random.default_rng(0).normal([0.5, 3], 0.2, (600, 2))
    points = np.concatenate([points, blob]).astype(np.float32)
    truth = np.concatenate([truth, np.full(600, 2)])
    drawn = np.array([np.flatnonzero(truth == c)[i] for c in range(3) for i in range(3)])
    svm = {"power": 2.0, "width": 0.3, "C": 10.0}
    plain = classifiers.fit_svm(points[drawn], truth[drawn], **svm)
    graph = classifiers.neighbour_graph(points, 10)
    chosen = classifiers.TRANSDUCTIVE | {"svm": svm, "alpha": 0.999, "steps": 1000, "rounds": 4, "weight": 1.0,
                                         "propagated": 900}
    taught = classifiers.fit_transductive(points, drawn, truth[drawn], graph, chosen)
    plain, taught = ((classifiers.predict(svm, points) != truth).mean() for svm in (plain, taught))
    assert plain > 0.05 and taught < 0.01


def test_virtual_examples_are_distorted_copies_that_depend_on_the_seed_alone():
    pixels = torch.randint(0, 256, (20, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels = np.arange(20) % 10

    def made(seed, strength, copies=3):
        return classifiers.virtual_examples(pixels, labels, torch.Tensor.numpy, seed, strength, copies)
    points, given = made(1, 1.0)
    torch.manual_seed(5)
    assert points.shape == (60, 784) and (given == np.tile(labels, 3)).all() and np.array_equal(points, made(1, 1.0)[0])
    assert not np.allclose(points, made(2, 1.0)[0]) and not np.allclose(points[:20], points[20:40])
    assert np.allclose(made(1, 0.0)[0][:20], pixels.flatten(1) / 255, atol=1e-5)
    assert len(made(1, 1.0, 1000)[0]) == classifiers.MOST - 20 and made(1, 1.0, 0)[0].shape == (0, 784)
    plain, virtual = (classifiers.fit(name, "mnist", "raw pixels", pixels.flatten(1).numpy() / 255, np.arange(20), labels,
                                      copies=lambda *chosen: made(1, *chosen)) for name in ("svm", "virtual"))
    assert virtual.shape_fit_ == (20 * 30, 784) and virtual.kernel == plain.kernel  # its width: as the search had it


# ---- what ships ----------------------------------------------------------------------------------

@pytest.mark.parametrize("dataset", ["fashion", "mnist"])
@pytest.mark.parametrize("likelihood", m1.LIKELIHOODS)
def test_what_ships_has_the_default_settings_and_its_records(dataset, likelihood):
    folder = shipped(dataset, likelihood)
    _, trained = vae.load(folder)
    record = json.loads((folder / "vae.json").read_text(encoding="utf-8"))
    assert trained["settings"] == vae.settings(dataset, likelihood) == record["settings"]
    if likelihood == "gaussian":
        files = sorted(folder.glob("*.joblib"))
        assert len(files) == (10 if dataset == "fashion" else 9)
        for file in files:
            told = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            assert file.stem == f"{told['classifier']}_{told['labels']}" and told["images"] == 10_000
            assert told["kernel"] == classifiers.describe(classifiers.load(file), told["classifier"])
            assert told["error"] == pytest.approx(100 - np.trace(np.array(told["confusion"])) / 100)
