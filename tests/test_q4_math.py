"""q4_wgan: objectives, networks and measures against closed forms, finite differences and autograd's double backward."""

import math
import time

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from q4_world import load_room

room = load_room("networks", "objectives", "measures", "images", "files", "pictures", "benchmark", "generate", "training")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def critic_and_images(n=5, dim=4):
    critic = room.networks.make_critic("conv", dim, norm=False).double()
    with torch.no_grad():
        for parameter in critic.parameters():  # biases away from zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return critic, torch.randn(n, 1, 28, 28).double(), torch.randn(n, 1, 28, 28).double(), torch.rand(n, 1, 1, 1).double()


def penalty_gradients(critic, real, fake, epsilon):
    penalty = room.objectives.gradient_penalty(critic, real, fake, epsilon)
    gradients = torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)
    return penalty, [torch.zeros_like(p) if g is None else g for p, g in zip(critic.parameters(), gradients)]


def test_input_gradient_is_autograds():
    critic, x, _, _ = critic_and_images()
    assert torch.allclose(critic.input_gradient(x), room.objectives.double_backward(critic, x), rtol=0, atol=1e-12)


def test_penalty_and_its_gradient_match_double_backward():
    critic, *batch = critic_and_images()
    penalty, ours = penalty_gradients(critic, *batch)
    critic.input_gradient = None  # autograd's way
    reference, theirs = penalty_gradients(critic, *batch)
    assert penalty.item() == pytest.approx(reference.item(), rel=1e-12)
    for a, b in zip(ours, theirs):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)
    assert max(g.abs().max() for g in theirs) > 1e-3  # the comparison is not between zeros


def test_penalty_gradient_matches_finite_differences():
    critic, *batch = critic_and_images()
    _, gradients = penalty_gradients(critic, *batch)
    parameters, h = list(critic.parameters()), 1e-8  # small: the slopes jump where a unit crosses zero
    directions = [torch.randn_like(p) for p in parameters]
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions):
                p.add_(sign * h * d)
            values.append(room.objectives.gradient_penalty(critic, *batch).item())
            for p, d in zip(parameters, directions):
                p.sub_(sign * h * d)
    analytic = sum((g * d).sum().item() for g, d in zip(gradients, directions))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(analytic, rel=1e-5)


class Linear(nn.Module):
    input_gradient = None

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(784).double())

    def forward(self, x):
        return x.flatten(1) @ self.w


def test_penalty_of_a_linear_critic_in_closed_form():
    critic = Linear()
    _, real, fake, epsilon = critic_and_images()
    penalty, (gradient,) = penalty_gradients(critic, real, fake, epsilon)
    norm = critic.w.norm()
    assert penalty.item() == pytest.approx((norm.item() - 1) ** 2)  # the norm is over all pixels
    assert torch.allclose(gradient, 2 * (norm - 1) * critic.w / norm)


def test_penalty_on_part_of_a_batch():
    critic, real, fake, epsilon = critic_and_images()
    part = room.objectives.gradient_penalty(critic, real, fake, epsilon[:2])
    assert part.item() == pytest.approx(room.objectives.gradient_penalty(critic, real[:2], fake[:2], epsilon[:2]).item(), rel=1e-12)
    assert part.item() != pytest.approx(room.objectives.gradient_penalty(critic, real, fake, epsilon).item(), rel=1e-3)


def test_every_example_has_its_own_epsilon():
    class Quadratic(nn.Module):  # the gradient is the interpolate itself
        input_gradient = None

        def forward(self, x):
            return x.flatten(1).square().sum(1) / 2

    real, fake = torch.ones(3, 1, 28, 28), torch.zeros(3, 1, 28, 28)
    epsilon = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    expected = np.mean([(28 * e - 1) ** 2 for e in (0.0, 0.5, 1.0)])
    assert room.objectives.gradient_penalty(Quadratic(), real, fake, epsilon).item() == pytest.approx(expected, rel=1e-5)


def test_losses_in_closed_form():
    class Mean(nn.Module):
        input_gradient = None

        def forward(self, x):
            return x.flatten(1).mean(1)

    o, real, fake = room.objectives, torch.full((4, 1, 28, 28), 2.0), torch.full((4, 1, 28, 28), -1.0)
    sigmoid = lambda s: 1 / (1 + math.exp(-s))  # noqa: E731
    assert o.dcgan_critic_loss(Mean(), real, fake)[0].item() == pytest.approx(-math.log(sigmoid(2)) - math.log(1 - sigmoid(-1)))
    assert o.dcgan_generator_loss(Mean(), fake).item() == pytest.approx(-math.log(sigmoid(-1)))
    assert o.wgan_clip_critic_loss(Mean(), real, fake)[0].item() == pytest.approx(-3)
    assert o.wgan_generator_loss(Mean(), fake).item() == pytest.approx(1)
    loss, parts = o.wgan_gp_critic_loss(Mean(), real, fake, torch.rand(4, 1, 1, 1))
    penalty = (1 / 28 - 1) ** 2  # the gradient is 1/784 in each of 784 pixels
    assert parts["penalty"].item() == pytest.approx(penalty, rel=1e-5)
    assert loss.item() == pytest.approx(-3 + 10 * penalty, rel=1e-5)


def test_clipping():
    critic = room.networks.make_critic("conv", 4, norm=True)
    room.objectives.clip_weights(critic)
    assert max(p.abs().max().item() for p in critic.parameters()) <= 0.01 + 1e-9


@pytest.mark.parametrize("arch", ["conv", "resnet"])
def test_networks(arch):
    generator, critic = room.networks.make_generator(arch, 8), room.networks.make_critic(arch, 8, norm=False)
    images = generator(torch.randn(6, 128))
    assert images.shape == (6, 1, 28, 28) and images.abs().max() <= 1
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
    assert torch.allclose(critic(images)[:1], critic(images[:1]), atol=1e-5)  # images do not see each other
    assert any(isinstance(m, nn.BatchNorm2d) for m in room.networks.make_critic(arch, 8, norm=True).modules())


def test_first_transposed_convolution_is_the_cropped_one():
    """Padding without output padding gives the first 7x7 of CIFAR's 8x8."""
    up, h = room.networks.Generator(4).up2, torch.randn(2, 16, 4, 4)
    full = nn.functional.conv_transpose2d(h, up.weight, None, 2, 2, output_padding=1)
    assert full.shape[-1] == 8 and torch.allclose(up(h), full[:, :, :7, :7], atol=1e-6)


@pytest.mark.parametrize("height, channels", [(7, 6), (14, 6), (28, 6), (28, 1)])
def test_up_is_torchs_transposed_convolution(height, channels):
    """Values and both gradients, with and without the form for a single channel."""
    up = room.networks.Up(5, channels, height).double()
    v = torch.randn(3, 5, (height + 1) // 2, (height + 1) // 2, dtype=torch.double, requires_grad=True)
    ours, torchs = up(v), nn.ConvTranspose2d.forward(up, v)
    assert ours.shape == (3, channels, height, height) and torch.allclose(ours, torchs, rtol=0, atol=1e-12)
    weights = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), (v, up.weight, up.bias)) for y in (ours, torchs))):
        assert torch.allclose(a, b, rtol=0, atol=1e-11)


def test_settings_of_the_stability_study_change_the_networks():
    make_generator, make_critic = room.networks.make_generator, room.networks.make_critic
    z, x = torch.randn(6, 128), torch.randn(6, 1, 28, 28)
    def has_norm(network):
        return any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in network.modules())
    assert not has_norm(make_generator("conv", 4, norm=False)) and has_norm(make_generator("conv", 4, activation="tanh"))
    for generator in (make_generator("conv", 4, norm=False), make_generator("conv", 4, activation="tanh"), make_generator("mlp", 4)):
        assert generator(z).shape == (6, 1, 28, 28) and generator(z).abs().max() <= 1
    critic = make_critic("conv", 4, False, activation="tanh").double()
    assert critic.input_gradient is None  # not piecewise linear: the penalty goes through autograd
    fake, epsilon = torch.randn_like(x).double(), torch.rand(6, 1, 1, 1).double()
    assert room.objectives.gradient_penalty(critic, x.double(), fake, epsilon).requires_grad


def test_operation_count_matches_torchs_counter():
    from torch.utils.flop_counter import FlopCounterMode
    generator, critic = room.networks.make_generator("conv", 8), room.networks.make_critic("conv", 8, norm=False)
    generator = room.benchmark.plain(generator)  # ours does a few products with zeros
    counts = []
    for network, x in ((generator, torch.randn(2, 128)), (critic, torch.randn(2, 1, 28, 28))):
        with FlopCounterMode(display=False) as counter:
            network(x)
        counts.append(counter.get_total_flops() / 4)  # two images, two operations per multiply-add
    assert counts == pytest.approx(list(room.benchmark.multiply_adds(8)))


# ---- measures ---------------------------------------------------------------------------------------------------------

def test_frechet_distance():
    a, b = torch.randn(4000, 6).double(), torch.randn(5000, 6).double() @ torch.randn(6, 6).double() + 1
    mean = (a.mean(0) - b.mean(0)).square().sum().item()
    A, B = np.cov(a.numpy().T), np.cov(b.numpy().T)
    expected = mean + np.trace(A + B - 2 * scipy.linalg.sqrtm(A @ B).real)
    assert room.measures.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert room.measures.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    shifted = room.measures.frechet_distance(a, 3 * a + 2)  # same shape: |2 mean + 2|^2 + (3 - 1)^2 tr A
    assert shifted == pytest.approx((2 * a.mean(0) + 2).square().sum().item() + 4 * np.trace(A), rel=1e-6)


def test_precision_and_recall():
    real = torch.randn(400, 4)
    assert room.measures.precision_recall(real, real) == (1.0, 1.0)
    assert room.measures.precision_recall(real, real + 100) == (0.0, 0.0)
    precision, recall = room.measures.precision_recall(real, real[:1] + 1e-3 * torch.randn(400, 4))  # collapsed
    assert precision > 0.9 and recall < 0.1


def test_shares_and_divergence():
    assert room.measures.class_shares(torch.tensor([0, 0, 3, 9])) == [0.5, 0, 0, 0.25, 0, 0, 0, 0, 0, 0.25]
    assert room.measures.kl_to_uniform([0.1] * 10) == pytest.approx(0, abs=1e-12)
    assert room.measures.kl_to_uniform([1.0] + [0.0] * 9) == pytest.approx(math.log(10))


@pytest.mark.parametrize("finite, shares, distance, outcome", [
    (True, [0.1] * 10, 10.0, "converged"), (True, [0.1] * 10, 100.1, "failed"), (False, None, math.inf, "failed"),
    (True, [0.009] + [0.991 / 9] * 9, 10.0, "failed"), (True, [0.01] + [0.11] * 9, 99.9, "converged")])
def test_verdict(finite, shares, distance, outcome):
    assert room.measures.verdict(finite, shares, distance, floor=1.0)[0] == outcome


def test_walk_ends_at_its_seeds_and_keeps_their_length():
    z = room.generate.walk(3, 8, 7)
    ends = room.pictures.latents([3, 8])
    assert torch.allclose(z[[0, -1]], ends, atol=1e-5)
    assert z.norm(dim=1).min() > 0.95 * ends.norm(dim=1).min()
    assert torch.allclose(room.generate.walk(5, 5, 3), room.pictures.latents([5]).expand(3, -1))


def test_bfloat16_penalty_is_close():
    """The chain runs in bfloat16 under autocast, and its gradient stays within that precision."""
    critic = room.networks.make_critic("conv", 16, norm=False)
    batch = torch.randn(16, 1, 28, 28), torch.randn(16, 1, 28, 28), torch.rand(16, 1, 1, 1)
    _, exact = penalty_gradients(critic, *batch)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        _, rough = penalty_gradients(critic, *batch)
    exact, rough = (torch.cat([g.flatten() for g in gradients]) for gradients in (exact, rough))
    assert torch.nn.functional.cosine_similarity(exact, rough, dim=0) > 0.99


@pytest.mark.parametrize("steps", [100, 12_000])
def test_average_forgets_the_untrained_generator(steps):
    """Weight 0 once, then 1 for `steps` iterations: what is left of the first is the product of the decays (1 + n) / (10 + n),
    10! (steps + 1)! / (steps + 10)!, and 0.999 from where that is smaller."""
    network = nn.Linear(1, 1, bias=False).double()
    average = room.training.AveragedModel(network, multi_avg_fn=room.training.move_average)
    for value in [0.0] + [1.0] * steps:
        nn.init.constant_(network.weight, value)
        average.update_parameters(network)
    early = min(steps, 8990)  # (1 + n) / (10 + n) = 0.999 at n = 8990
    left = math.exp(math.lgamma(early + 2) + math.lgamma(11) - math.lgamma(early + 11)) * 0.999 ** (steps - early)
    assert 1 - average.module.weight.item() == pytest.approx(left, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("instructions, slow, precision", [
    (True, torch.float32, "bfloat16"), (True, torch.bfloat16, "float32"), (False, torch.float32, "float32")])
def test_auto_precision_is_what_computes_faster(monkeypatch, instructions, slow, precision):
    class Matrix:
        def __init__(self, *size, dtype):
            self.dtype = dtype

        def __matmul__(self, other):
            time.sleep(0.02 if self.dtype == slow else 0)

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch, "ones", Matrix)
    room.training.cpu_is_faster_in_bfloat16.cache_clear()
    assert room.training.pick_precision("auto", torch.device("cpu")) == precision
    assert room.training.pick_precision("bfloat16", torch.device("cpu")) == "bfloat16"
    room.training.cpu_is_faster_in_bfloat16.cache_clear()
