"""Generator and critic: the convolutional networks of Gulrajani et al. 2017 for CIFAR-10, adapted to 28x28x1.

The plain pair (`arch='conv'`) is the one of the authors' gan_cifar.py; resnet.py has the residual pair of appendix F.
Images are (n, 1, 28, 28) in [-1, 1]; latents z are (n, 128), standard normal; D is `dim`. Numbers in brackets, [1] and
so on, are the deviations listed in README.md.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from .resnet import ResidualCritic, ResidualGenerator, make_norm

Z = 128  # length of z (gan_cifar.py; appendix F)
SLOPE = 0.2  # of LeakyReLU (gan_cifar.py)


def to_float(pixels):
    """uint8 (n, 28, 28) in 0..255 -> float32 (n, 1, 28, 28) in [-1, 1], the range of the generator's tanh."""
    return pixels.float().div_(127.5).sub_(1).unsqueeze(1)


def to_pixels(x):
    """float (n, 1, 28, 28) in [-1, 1] -> uint8 (n, 28, 28), rounded."""
    return x.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).squeeze(1)


class Generator(nn.Module):
    """Latents -> images:  Linear 4x4x4D, then 5x5 stride-2 transposed convolutions 2D, D, 1, tanh.

    `norm=False` leaves batch norm out and `activation='tanh'` replaces ReLU, for stability.py.
    """

    def __init__(self, dim=64, norm=True, activation="relu"):
        super().__init__()
        self.dim, self.activation = dim, {"relu": F.relu, "tanh": torch.tanh}[activation]
        bias = not norm  # batch norm has a bias of its own
        self.linear = nn.Linear(Z, 4 * 4 * 4 * dim, bias=bias)
        self.norm1 = nn.BatchNorm1d(4 * 4 * 4 * dim) if norm else nn.Identity()
        # 4 -> 7 pixels: the first 7x7 of the 8x8 that CIFAR's network has. [1]
        self.up2 = Up(4 * dim, 2 * dim, 7, bias)
        self.norm2 = make_norm("batch" if norm else None, 2 * dim)
        self.up3 = Up(2 * dim, dim, 14, bias)
        self.norm3 = make_norm("batch" if norm else None, dim)
        self.up4 = Up(dim, 1, 28)

    def forward(self, z):
        h = self.activation(self.norm1(self.linear(z)))
        h = h.view(-1, 4, 4, 4 * self.dim).permute(0, 3, 1, 2)  # channels-last without a copy
        h = self.activation(self.norm2(self.up2(h)))
        h = self.activation(self.norm3(self.up3(h)))
        return torch.tanh(self.up4(h))


class MLPGenerator(nn.Sequential):
    """Latents -> images:  four ReLU layers of 512 units, as in figure 2 of the paper, for stability.py."""

    def __init__(self):
        layers = [nn.Linear(Z, 512), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Linear(512, 512), nn.ReLU()]
        super().__init__(*layers, nn.Linear(512, 28 * 28), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)))


class Critic(nn.Module):
    """Images -> scores (n,):  5x5 stride-2 convolutions D, 2D, 4D with LeakyReLU 0.2, then Linear -> 1.

    norm: 'batch' after the second and third convolution, for DCGAN and for weight clipping [9]; None under the gradient
    penalty, which is about one image's own gradient (section 4), or 'layer', which the paper names instead.
    `activation='tanh'` replaces LeakyReLU, for stability.py.
    """

    def __init__(self, dim=64, norm=None, activation="relu"):
        super().__init__()
        self.dim = dim
        leaky = partial(F.leaky_relu, negative_slope=SLOPE, inplace=True)
        self.activation = torch.tanh if activation == "tanh" else leaky
        bias = norm != "batch"
        self.conv1 = nn.Conv2d(1, dim, 5, 2, padding=2)  # 28 -> 14
        self.conv2 = nn.Conv2d(dim, 2 * dim, 5, 2, padding=2, bias=bias)  # 14 -> 7
        self.conv3 = nn.Conv2d(2 * dim, 4 * dim, 5, 2, padding=2, bias=bias)  # 7 -> 4
        # Statistics of the batch at hand only: the critic is never used in evaluation mode.
        self.norm2, self.norm3 = make_norm(norm, 2 * dim, track=False), make_norm(norm, 4 * dim, track=False)
        self.linear = nn.Linear(4 * 4 * 4 * dim, 1)
        if norm or activation == "tanh":
            self.input_gradient = None  # not piecewise linear in one image: use autograd

    def hidden(self, x):
        """The three layers after their nonlinearity: (n, D, 14, 14), (n, 2D, 7, 7), (n, 4D, 4, 4)."""
        h1 = self.activation(self.conv1(x))
        h2 = self.activation(self.norm2(self.conv2(h1)))
        h3 = self.activation(self.norm3(self.conv3(h2)))
        return h1, h2, h3

    def forward(self, x):
        h3 = self.hidden(x)[-1].permute(0, 2, 3, 1).flatten(1)  # flat in the order of channels-last
        with torch.autocast(x.device.type, enabled=False):  # the score itself in full precision
            return self.linear(h3.to(self.linear.weight.dtype)).squeeze(1)

    def input_gradient(self, x):
        """The gradient of every score by its own image, (n, 1, 28, 28), differentiable in the critic's parameters. [6]

        Convolutions and LeakyReLU make D piecewise linear: around x it is  D(x) = w . M3 W3 M2 W2 M1 W1 x + const,
        where the diagonal M_i hold the slopes, 1 or 0.2. So  grad_x D = W1' M1 W2' M2 W3' M3 w,  a chain of transposed
        convolutions. The slopes are constant almost everywhere, hence nothing of the forward pass needs a graph, and
        the parameter gradient of any function of this is one ordinary backward pass: no double backward.
        """
        with torch.no_grad():
            h1, h2, h3 = self.hidden(x)
        v = self.linear.weight.view(1, 4, 4, 4 * self.dim).permute(0, 3, 1, 2)
        v = times_slope(v.to(h3.dtype).expand_as(h3), h3)
        v = times_slope(transposed(v, self.conv3.weight, 7), h2)
        v = times_slope(transposed(v, self.conv2.weight, 14), h1)
        return transposed(v, self.conv1.weight, 28)


class Up(nn.ConvTranspose2d):
    """5x5, stride 2, transposed: (n, in, h, h) -> (n, out, height, height), height 2h or 2h - 1."""

    def __init__(self, inputs, outputs, height, bias=True):
        super().__init__(inputs, outputs, 5, 2, padding=2, output_padding=1 - height % 2, bias=bias)
        self.height = height

    def forward(self, v):
        return transposed(v, self.weight, self.height, self.bias)


def transposed(v, weight, height, bias=None):
    """The transposed 5x5 stride-2 convolution with padding 2: (n, in, h, h) -> (n, out, height, height).

    Torch's own on a CPU is slow to a single channel. There it is a 3x3 convolution to the four phases of the output.
    """
    if weight.shape[1] == 1 and height == 2 * v.shape[-1] and v.device.type == "cpu":
        return F.pixel_shuffle(F.conv2d(v, phases(weight), None if bias is None else bias.expand(4), padding=1), 2)
    return F.conv_transpose2d(v, weight, bias, stride=2, padding=2, output_padding=height - (2 * v.shape[-1] - 1))


def phases(weight):
    """weight (c, 1, 5, 5) -> (4, c, 3, 3), whose channel 2a + b gives the output's pixels (2i + a, 2j + b).

    Such a pixel meets only the weight's rows of parity a, at i - 1, i, i + 1, and its columns of parity b. There are
    two odd rows and three even ones: the padding makes them three.
    """
    taps = F.pad(weight[:, 0], (0, 1, 0, 1)).view(-1, 3, 2, 3, 2).flip(1, 3)
    return taps.permute(2, 4, 0, 1, 3).reshape(4, -1, 3, 3)


def times_slope(v, h):
    """v times LeakyReLU's slope where its output was h; one fused pass, and differentiable in v."""
    return torch.ops.aten.leaky_relu_backward(v, h, SLOPE, True)


def make_generator(arch, dim, **variant):
    """A generator in channels-last order. arch: 'conv' (whose variant may be norm=False or activation='tanh'),
    'resnet', or 'mlp', which has no `dim`."""
    generator = {"conv": lambda: Generator(dim, **variant), "resnet": lambda: ResidualGenerator(Z, dim),
                 "mlp": MLPGenerator}[arch]()
    return initialise(generator).to(memory_format=torch.channels_last)


def make_critic(arch, dim, norm, **variant):
    """A critic in channels-last order. norm: None, 'batch' or 'layer'. variant of 'conv': activation='tanh'."""
    critic = {"conv": lambda: Critic(dim, norm, **variant), "resnet": lambda: ResidualCritic(dim, norm)}[arch]()
    return initialise(critic).to(memory_format=torch.channels_last)


def initialise(network):
    """He et al.'s initialisation, the same for every model: N(0, 2 / fan_in), biases 0. [11]"""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            weight = module.weight
            if isinstance(module, nn.ConvTranspose2d):  # an output pixel sees a quarter of the taps at stride 2
                fan_in = weight.shape[0] * weight[0, 0].numel() / (module.stride[0] * module.stride[1])
            else:
                fan_in = weight[0].numel()
            nn.init.normal_(weight, 0.0, (2 / fan_in) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
