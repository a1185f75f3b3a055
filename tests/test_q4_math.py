"""q4_wgan: objectives, networks and metrics against closed forms, finite differences and autograd's double backward."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from q4_wgan import metrics, objectives, sampling
from q4_wgan.networks import Generator, Up, make_critic, make_generator, to_float, to_pixels
from q4_wgan.training import Training, move_average


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


# ---- the gradient penalty ------------------------------------------------------------------------

def critic_and_images(n=5, dim=4):
    critic = make_critic("conv", dim, norm=None).double()
    with torch.no_grad():
        for parameter in critic.parameters():  # biases away from zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    real, fake = torch.randn(2, n, 1, 28, 28).double()
    return critic, real, fake, torch.rand(n, 1, 1, 1).double()


def penalty_gradients(critic, real, fake, epsilon):
    penalty = objectives.gradient_penalty(critic, real, fake, epsilon)
    gradients = torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)
    return penalty, [torch.zeros_like(p) if g is None else g for p, g in zip(critic.parameters(), gradients)]


def test_input_gradient_is_autograds():
    critic, x, _, _ = critic_and_images()
    assert torch.allclose(critic.input_gradient(x), objectives.double_backward(critic, x), rtol=0, atol=1e-12)


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
            values.append(objectives.gradient_penalty(critic, *batch).item())
            for p, d in zip(parameters, directions):
                p.sub_(sign * h * d)
    analytic = sum((g * d).sum().item() for g, d in zip(gradients, directions))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(analytic, rel=1e-5)


class Scores(nn.Module):
    """A critic of one function of the flat images, for closed forms."""

    input_gradient = None

    def __init__(self, function, *parameters):
        super().__init__()
        self.function, self.w = function, nn.ParameterList(parameters)

    def forward(self, x):
        return self.function(x.flatten(1), *self.w)


def test_penalty_of_a_linear_critic_in_closed_form():
    critic = Scores(lambda x, w: x @ w, torch.randn(784).double())
    _, real, fake, epsilon = critic_and_images()
    penalty, (gradient,) = penalty_gradients(critic, real, fake, epsilon)
    norm = critic.w[0].norm()
    assert penalty.item() == pytest.approx((norm.item() - 1) ** 2)  # the norm is over all pixels
    assert torch.allclose(gradient, 2 * (norm - 1) * critic.w[0] / norm)


def test_penalty_on_part_of_a_batch():
    critic, real, fake, epsilon = critic_and_images()
    part, same, whole = (objectives.gradient_penalty(critic, real[:n], fake[:n], epsilon[:m]).item()
                         for n, m in ((5, 2), (2, 2), (5, 5)))
    assert part == pytest.approx(same, rel=1e-12) and part != pytest.approx(whole, rel=1e-3)


def test_every_example_has_its_own_epsilon():
    critic = Scores(lambda x: x.square().sum(1) / 2)  # the gradient is the interpolate itself
    real, fake = torch.ones(3, 1, 28, 28), torch.zeros(3, 1, 28, 28)
    epsilon = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    expected = np.mean([(28 * e - 1) ** 2 for e in (0.0, 0.5, 1.0)])
    assert objectives.gradient_penalty(critic, real, fake, epsilon).item() == pytest.approx(expected, rel=1e-5)


def test_bfloat16_penalty_is_close():
    """The chain runs in bfloat16 under autocast, and its gradient stays within that precision."""
    critic = make_critic("conv", 16, norm=None)
    batch = torch.randn(16, 1, 28, 28), torch.randn(16, 1, 28, 28), torch.rand(16, 1, 1, 1)
    _, exact = penalty_gradients(critic, *batch)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        _, rough = penalty_gradients(critic, *batch)
    exact, rough = (torch.cat([g.flatten() for g in gradients]) for gradients in (exact, rough))
    assert nn.functional.cosine_similarity(exact, rough, dim=0) > 0.99


# ---- objectives and networks ---------------------------------------------------------------------

def test_losses_in_closed_form():
    critic = Scores(lambda x: x.mean(1))
    real, fake = torch.full((4, 1, 28, 28), 2.0), torch.full((4, 1, 28, 28), -1.0)
    def sigmoid(s):
        return 1 / (1 + math.exp(-s))
    loss = objectives.dcgan_critic_loss(critic, real, fake)[0].item()
    assert loss == pytest.approx(-math.log(sigmoid(2)) - math.log(1 - sigmoid(-1)))
    assert objectives.dcgan_generator_loss(critic, fake).item() == pytest.approx(-math.log(sigmoid(-1)))
    assert objectives.wgan_clip_critic_loss(critic, real, fake)[0].item() == pytest.approx(-3)
    assert objectives.wgan_generator_loss(critic, fake).item() == pytest.approx(1)
    loss, parts = objectives.wgan_gp_critic_loss(critic, real, fake, torch.rand(4, 1, 1, 1))
    penalty = (1 / 28 - 1) ** 2  # the gradient is 1/784 in each of 784 pixels
    assert parts["penalty"].item() == pytest.approx(penalty, rel=1e-5)
    assert loss.item() == pytest.approx(-3 + 10 * penalty, rel=1e-5)


def test_clipping():
    critic = make_critic("conv", 4, norm="batch")
    objectives.clip_weights(critic)
    assert max(p.abs().max().item() for p in critic.parameters()) == pytest.approx(0.01)


@pytest.mark.parametrize("arch", ["conv", "resnet"])
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_networks(arch, norm):
    generator, critic = make_generator(arch, 8), make_critic(arch, 8, norm)
    pictures = generator(torch.randn(6, 128))
    assert pictures.shape == (6, 1, 28, 28) and pictures.abs().max() <= 1
    alone = torch.allclose(critic(pictures)[:1], critic(pictures[:1]), atol=1e-5)
    assert alone == (norm != "batch")  # under the penalty images must not see each other
    kinds = {None: (), "layer": nn.GroupNorm, "batch": nn.BatchNorm2d}[norm]
    assert norm is None or any(isinstance(module, kinds) for module in critic.modules())
    penalty = objectives.gradient_penalty(critic, torch.randn_like(pictures), pictures, torch.rand(6, 1, 1, 1))
    gradients = torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in gradients) and any(g is not None for g in gradients)


def test_layer_norm_is_over_an_images_channels_and_pixels():
    critic = make_critic("conv", 4, "layer")
    h = torch.randn(3, 8, 7, 7)
    normed = nn.functional.layer_norm(h, h.shape[1:])
    assert torch.allclose(critic.norm2(h), normed, atol=1e-5)


def test_settings_of_the_stability_study_change_the_networks():
    def has_norm(network):
        return any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in network.modules())
    bare, tanh = make_generator("conv", 4, norm=False), make_generator("conv", 4, activation="tanh")
    assert not has_norm(bare) and has_norm(tanh)
    for generator in (bare, tanh, make_generator("mlp", 4)):
        pictures = generator(torch.randn(6, 128))
        assert pictures.shape == (6, 1, 28, 28) and pictures.abs().max() <= 1
    critic = make_critic("conv", 4, None, activation="tanh").double()
    assert critic.input_gradient is None  # not piecewise linear: the penalty goes through autograd
    x, fake = torch.randn(2, 6, 1, 28, 28).double()
    assert objectives.gradient_penalty(critic, x, fake, torch.rand(6, 1, 1, 1).double()).requires_grad


def test_first_transposed_convolution_is_the_cropped_one():
    """Padding without output padding gives the first 7x7 of CIFAR's 8x8."""
    up, h = Generator(4).up2, torch.randn(2, 16, 4, 4)
    full = nn.functional.conv_transpose2d(h, up.weight, None, 2, 2, output_padding=1)
    assert full.shape[-1] == 8 and torch.allclose(up(h), full[:, :, :7, :7], atol=1e-6)


@pytest.mark.parametrize("height, channels", [(7, 6), (14, 6), (28, 6), (28, 1)])
def test_up_is_torchs_transposed_convolution(height, channels):
    """Values and both gradients, with and without the form for a single channel."""
    up = Up(5, channels, height).double()
    v = torch.randn(3, 5, (height + 1) // 2, (height + 1) // 2, dtype=torch.double, requires_grad=True)
    ours, torchs = up(v), nn.ConvTranspose2d.forward(up, v)
    assert ours.shape == (3, channels, height, height) and torch.allclose(ours, torchs, rtol=0, atol=1e-12)
    weights = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), (v, up.weight, up.bias)) for y in (ours, torchs))):
        assert torch.allclose(a, b, rtol=0, atol=1e-11)


def test_pixels_come_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(4)[:784].view(1, 28, 28)
    x = to_float(pixels)
    assert (x.min().item(), x.max().item()) == (-1, 1) and torch.equal(to_pixels(x), pixels)


# ---- training ------------------------------------------------------------------------------------

def options(**change):
    return {"objective": "wgan-gp", "arch": "conv", "dim": 4, "batch": 8, "iterations": 4, "learning_rate": 1e-3,
            "seed": 0, "precision": "float32", **change}


def trained(steps=1, **change):
    pixels = torch.randint(0, 256, (80, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    training = Training(options(**change), pixels, pixels[:24], torch.device("cpu"))
    for _ in range(steps):
        training.step()
    return training


def test_the_penalty_is_taken_on_as_many_images_as_asked():
    """The networks hardly move: only the images that the penalty is taken on differ."""
    penalties = [trained(learning_rate=1e-9, **change).take_losses()["penalty"]
                 for change in ({}, {"penalty_images": 8}, {"penalty_images": 2})]
    assert penalties[0] == penalties[1] != penalties[2]


def test_settings_reach_the_optimizers_and_rates_fall_to_zero():
    training = trained(4, generator_learning_rate=2e-3, beta1=0.25)
    groups = [optimizer.param_groups[0] for optimizer in (training.critic_optimizer, training.generator_optimizer)]
    assert [group["lr"] for group in groups] == pytest.approx([1e-3 / 4, 2e-3 / 4])  # a quarter at last
    assert [group["betas"] for group in groups] == [(0.25, 0.9)] * 2


@pytest.mark.parametrize("change", [{}, {"objective": "dcgan"}, {"objective": "wgan-clip"}])
def test_a_restored_training_goes_on_with_the_same_bits(change):
    whole, first, second = trained(4, **change), trained(2, **change), trained(0, **change)
    second.restore(first.state())
    second.step()
    second.step()
    for a, b in zip(whole.ema_generator().state_dict().values(), second.ema_generator().state_dict().values()):
        assert torch.equal(a, b)
    assert whole.take_losses() == second.take_losses() and whole.validation_losses() == second.validation_losses()
    assert second.seconds > 0 and second.iteration == 4


def test_the_ema_is_a_weighted_mean():
    """With n iterations before: average + (1 - decay) (new - average), decay (1 + n) / (10 + n) until that is 0.999."""
    average, new = [torch.zeros(3)], [torch.ones(3)]
    move_average(average, new, torch.tensor(8))
    assert average[0].tolist() == pytest.approx([0.5] * 3)
    move_average(average, new, torch.tensor(10**6))
    assert average[0].tolist() == pytest.approx([0.5005] * 3)


# ---- metrics -------------------------------------------------------------------------------------

def test_frechet_distance():
    a, b = torch.randn(4000, 6).double(), torch.randn(5000, 6).double() @ torch.randn(6, 6).double() + 1
    mean = (a.mean(0) - b.mean(0)).square().sum().item()
    A, B = np.cov(a.numpy().T), np.cov(b.numpy().T)
    expected = mean + np.trace(A + B - 2 * scipy.linalg.sqrtm(A @ B).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    shifted = metrics.frechet_distance(a, 3 * a + 2)  # same shape: |2 mean + 2|^2 + (3 - 1)^2 tr A
    assert shifted == pytest.approx((2 * a.mean(0) + 2).square().sum().item() + 4 * np.trace(A), rel=1e-6)


def test_precision_and_recall():
    real = torch.randn(400, 4)
    assert metrics.precision_recall(real, real) == (1.0, 1.0)
    assert metrics.precision_recall(real, real + 100) == (0.0, 0.0)
    precision, recall = metrics.precision_recall(real, real[:1] + 1e-3 * torch.randn(400, 4))  # collapsed
    assert precision > 0.9 and recall < 0.1


def test_class_frequencies():
    found = metrics.class_frequencies(torch.tensor([0, 0, 3, 9]))
    assert found == [0.5, 0, 0, 0.25, 0, 0, 0, 0, 0, 0.25]


def test_the_unit_of_the_metrics():
    """The training images themselves are at distance 1; components are those of scikit-learn, but for their signs."""
    from sklearn.decomposition import PCA

    from q4_wgan.classifier import Classifier
    pixels, reference = torch.randint(0, 256, (2, 300, 28, 28), dtype=torch.uint8)
    measure = metrics.Metrics(Classifier().eval(), pixels, reference, torch.device("cpu"))
    found = measure(pixels)
    assert (found["relative_distance"], found["relative_distance_pixels"]) == pytest.approx((1, 1))
    theirs = PCA(64, svd_solver="full").fit(pixels.flatten(1).double().numpy() / 255)
    projected = theirs.transform(reference.flatten(1).double().numpy() / 255)[:, ::-1].copy()
    assert np.allclose(np.abs(projected), measure.components(reference).abs().numpy(), atol=1e-8)


@pytest.mark.parametrize("finite, frequencies, distance, outcome", [
    (True, [0.1] * 10, 10.0, "converged"), (True, [0.1] * 10, 100.1, "failed"), (False, None, None, "failed"),
    (True, [0.009] + [0.991 / 9] * 9, 10.0, "failed"), (True, [0.01] + [0.11] * 9, 99.9, "converged")])
def test_verdict(finite, frequencies, distance, outcome):
    assert metrics.verdict(finite, frequencies, distance)[0] == outcome


# ---- sampling ------------------------------------------------------------------------------------

def test_a_walk_ends_at_its_seeds_and_keeps_their_length():
    ends = sampling.latents([3, 8])
    z = sampling.slerp(*ends, 7)
    assert torch.allclose(z[[0, -1]], ends, atol=1e-5)
    assert z.norm(dim=1).min() > 0.95 * ends.norm(dim=1).min()
    same = sampling.latents([5])
    assert torch.allclose(sampling.slerp(same[0], same[0], 3), same.expand(3, -1))


def test_grid():
    pixels = torch.arange(3, dtype=torch.uint8).view(3, 1, 1).expand(3, 28, 28)
    sheet = sampling.grid(pixels, columns=2, space=2, scale=3)
    assert sheet.shape == (3 * 58, 3 * 58) and sheet[0, 0] == 0 and sheet[0, 3 * 30] == 1 and sheet[3 * 30, 0] == 2
    assert sheet[3 * 28, 0] == 255 and sheet[-1, -1] == 255  # white between the images, and where there is none
