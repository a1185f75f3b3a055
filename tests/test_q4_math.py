"""q4_wgan: objectives, networks and metrics against closed forms, finite differences and autograd's double backward."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from q4_wgan import images, metrics, objectives, sampling
from q4_wgan.classifier import Classifier, ResidualClassifier
from q4_wgan.command import UserError
from q4_wgan.networks import Up, make_critic, make_generator, to_float, to_pixels
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


def test_penalty_and_its_gradient_match_double_backward():
    critic, *batch = critic_and_images()
    assert torch.allclose(critic.input_gradient(batch[0]), objectives.double_backward(critic, batch[0]), rtol=0, atol=1e-12)
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
    directions, values = [torch.randn_like(p) for p in parameters], []
    for step in (h, -2 * h):
        with torch.no_grad():
            for p, d in zip(parameters, directions):
                p.add_(step * d)
        values.append(objectives.gradient_penalty(critic, *batch).item())
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
    penalty, (gradient,) = penalty_gradients(critic, *critic_and_images()[1:])
    norm = critic.w[0].norm()
    assert penalty.item() == pytest.approx((norm.item() - 1) ** 2)  # the norm is over all pixels
    assert torch.allclose(gradient, 2 * (norm - 1) * critic.w[0] / norm)


def test_every_example_has_its_own_epsilon_and_the_penalty_is_on_the_first_of_a_batch():
    critic = Scores(lambda x: x.square().sum(1) / 2)  # the gradient is the interpolate itself
    real, fake = torch.ones(3, 1, 28, 28), torch.zeros(3, 1, 28, 28)
    epsilon = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    for n in (3, 2):
        expected = np.mean([(28 * e - 1) ** 2 for e in (0.0, 0.5, 1.0)[:n]])
        assert objectives.gradient_penalty(critic, real, fake, epsilon[:n]).item() == pytest.approx(expected, rel=1e-5)


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
    clipped = make_critic("conv", 4, norm="batch")
    objectives.clip_weights(clipped)
    assert max(p.abs().max().item() for p in clipped.parameters()) == pytest.approx(0.01)


@pytest.mark.parametrize("arch", ["conv", "resnet"])
@pytest.mark.parametrize("norm", [None, "layer", "batch"])
def test_networks(arch, norm):
    generator, critic = make_generator(arch, 8), make_critic(arch, 8, norm)
    pictures = generator(torch.randn(6, 128))
    assert pictures.shape == (6, 1, 28, 28) and pictures.abs().max() <= 1
    alone = torch.allclose(critic(pictures)[:1], critic(pictures[:1]), atol=1e-5)
    assert alone == (norm != "batch")  # under the penalty images must not see each other
    penalty = objectives.gradient_penalty(critic, torch.randn_like(pictures), pictures, torch.rand(6, 1, 1, 1))
    gradients = torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in gradients) and any(g is not None for g in gradients)


def test_initialisation_keeps_the_variance():
    """He et al. 2015: N(0, 2 / fan_in); an output of a transposed convolution of stride 2 sees 25 / 4 taps."""
    generator, critic = make_generator("conv", 32), make_critic("conv", 32, None)
    for layer, fan_in in ((generator.linear, 128), (generator.up2, 128 * 25 / 4), (critic.conv2, 32 * 25)):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
    assert not critic.conv1.bias.any()


@pytest.mark.parametrize("height, channels", [(7, 6), (14, 6), (28, 6), (28, 1)])
def test_up_is_torchs_transposed_convolution(height, channels):
    """Values and gradients, with and without the four phases of a single channel."""
    up = Up(5, channels, height).double()
    v = torch.randn(3, 5, (height + 1) // 2, (height + 1) // 2, dtype=torch.double, requires_grad=True)
    ours, torchs = up(v), nn.ConvTranspose2d.forward(up, v)
    assert ours.shape == (3, channels, height, height) and torch.allclose(ours, torchs, rtol=0, atol=1e-12)
    weights = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), (v, up.weight, up.bias)) for y in (ours, torchs))):
        assert torch.allclose(a, b, rtol=0, atol=1e-11)
    full = nn.functional.conv_transpose2d(v, up.weight, up.bias, 2, 2, output_padding=1)
    assert torch.allclose(ours, full[:, :, :height, :height])  # 4 -> 7: the first 7x7 of CIFAR's 8x8


def test_pixels_come_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(4)[:784].view(1, 28, 28)
    x = to_float(pixels)
    assert (x.min().item(), x.max().item()) == (-1, 1) and torch.equal(to_pixels(x), pixels)


# ---- training ------------------------------------------------------------------------------------

def trained(steps=1, **change):
    pixels = torch.randint(0, 256, (80, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    options = {"objective": "wgan-gp", "arch": "conv", "dim": 4, "batch": 8, "iterations": 4, "learning_rate": 1e-3,
               "seed": 0, "precision": "float32", **change}
    data = images.Images(pixels, None, pixels[:24], None, None, None)
    training = Training(options, data, torch.device("cpu"))
    for _ in range(steps):
        training.step()
    return training


def test_the_penalty_is_taken_on_as_many_images_as_asked():
    """The networks hardly move: only the images that the penalty is taken on differ."""
    penalties = [trained(learning_rate=1e-9, **change).take_losses()["penalty"]
                 for change in ({}, {"penalty_images": 8}, {"penalty_images": 2})]
    assert penalties[0] == penalties[1] != penalties[2]


def test_settings_reach_the_optimizers_and_rates_fall_to_zero():
    training = trained(4, generator_learning_rate=2e-3, beta1=0.25, critic_steps=2)
    groups = [optimizer.param_groups[0] for optimizer in (training.critic_optimizer, training.generator_optimizer)]
    assert [group["lr"] for group in groups] == pytest.approx([1e-3 / 4, 2e-3 / 4])  # a quarter at last
    assert [group["betas"] for group in groups] == [(0.25, 0.9)] * 2
    steps = [next(iter(o.state.values()))["step"].item() for o in (training.critic_optimizer, training.generator_optimizer)]
    assert steps == [8, 4]


def test_the_ema_is_a_weighted_mean():
    """With n iterations before: average + (1 - decay) (new - average), decay (1 + n) / (10 + n) until that is 0.999."""
    average, new = [torch.zeros(3)], [torch.ones(3)]
    move_average(average, new, 8)
    assert average[0].tolist() == pytest.approx([0.5] * 3)
    move_average(average, new, 10**6)
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


def test_the_unit_of_the_metrics():
    """The training images themselves are at distance 1; components are those of scikit-learn, but for their signs."""
    from sklearn.decomposition import PCA
    pixels, reference = torch.randint(0, 256, (2, 300, 28, 28), dtype=torch.uint8)
    measure = metrics.Metrics(Classifier().eval(), pixels, reference, ResidualClassifier().eval())
    found = measure(pixels)
    assert [*(found[f"relative_distance{space}"] for space in ("", "_pixels", "_second")),
            sum(found["class_frequencies"])] == pytest.approx([1] * 4)
    theirs = PCA(64, svd_solver="full").fit(pixels.flatten(1).double().numpy() / 255)
    projected = theirs.transform(reference.flatten(1).double().numpy() / 255)[:, ::-1].copy()
    assert np.allclose(np.abs(projected), measure.references["_pixels"].abs().numpy(), atol=1e-8)
    with pytest.raises(UserError, match="alike"):
        metrics.Metrics(Classifier().eval(), pixels[:1].expand(300, -1, -1), pixels[:1].expand(300, -1, -1))


@pytest.mark.parametrize("finite, frequencies, distance, outcome", [
    (True, [0.1] * 10, 10.0, "converged"), (True, [0.1] * 10, 100.1, "far"), (False, None, None, "diverged"),
    (True, [0.009] + [0.991 / 9] * 9, 10.0, "collapsed"), (True, [0.01] + [0.11] * 9, 99.9, "converged")])
def test_verdict(finite, frequencies, distance, outcome):
    assert metrics.verdict(finite, {"class_frequencies": frequencies, "relative_distance": distance})[0] == outcome


# ---- sampling ------------------------------------------------------------------------------------

def test_a_seed_has_the_same_bits_in_any_company():
    generator = make_generator("conv", 16).eval()
    alone = sampling.draw_seeds(generator, [7])[0]
    for seeds in ([71, 7, 135, 7], range(100), [2**32 - 1, 7, 8]):
        assert torch.equal(sampling.draw_seeds(generator, seeds)[list(seeds).index(7)], alone), seeds
    assert torch.equal(sampling.draw_seeds(generator, [71, 7])[0], sampling.draw_seeds(generator, [71])[0])


def test_a_walk_ends_at_its_seeds_and_keeps_their_length():
    ends = sampling.latents([3, 8])
    z = sampling.slerp(*ends, 7)
    assert torch.allclose(z[[0, -1]], ends, atol=1e-5)
    assert ends.norm(dim=1).min() * 0.98 < z.norm(dim=1).min() and z.norm(dim=1).max() < ends.norm(dim=1).max() * 1.02
    assert torch.allclose(sampling.slerp(ends[0], ends[0], 3), ends[:1].expand(3, -1))


def test_grid():
    pixels = torch.arange(3, dtype=torch.uint8).view(3, 1, 1).expand(3, 28, 28)
    sheet = sampling.grid(pixels, columns=2, scale=3)
    assert sheet.shape == (3 * 58, 3 * 58) and sheet[0, 0] == 0 and sheet[0, 3 * 30] == 1 and sheet[3 * 30, 0] == 2
    assert sheet[3 * 28, 0] == 255 and sheet[-1, -1] == 255  # white between the images, and where there is none
    assert sampling.grid(pixels[:1].expand(8, 28, 28)).shape == (58, 118)  # two rows of four: no hole
