"""Generator and critic: the convolutional networks of Gulrajani et al. 2017 for CIFAR-10, adapted to 28x28x1.

The plain pair (`arch='conv'`) is the one of the authors' gan_cifar.py; appendix F of the published paper describes the
residual pair (`arch='resnet'`). Images are (n, 1, 28, 28) in [-1, 1]; z is (n, 128), standard normal. D is `dim`.
Numbers in brackets, [1] and so on, are the deviations listed in README.md.
"""

import torch
from torch import nn
from torch.nn import functional as F

Z = 128  # length of z (gan_cifar.py; section F)
SLOPE = 0.2  # of LeakyReLU (gan_cifar.py)


class Generator(nn.Module):
    """z (n, 128) -> images (n, 1, 28, 28):  Linear 4x4x4D, then 5x5 stride-2 transposed convolutions 2D, D, 1, tanh."""

    def __init__(self, dim=64):
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(Z, 4 * 4 * 4 * dim, bias=False)  # batch norm follows and has the bias
        self.norm1 = nn.BatchNorm1d(4 * 4 * 4 * dim)
        # Padding 2 without output padding gives 4 -> 7 pixels: the first 7x7 of the 8x8 that CIFAR's network has. [1]
        self.up2 = nn.ConvTranspose2d(4 * dim, 2 * dim, 5, 2, padding=2, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * dim)
        self.up3 = nn.ConvTranspose2d(2 * dim, dim, 5, 2, padding=2, output_padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(dim)
        self.up4 = nn.ConvTranspose2d(dim, 1, 5, 2, padding=2, output_padding=1)

    def forward(self, z):
        h = F.relu(self.norm1(self.linear(z)))
        h = h.view(-1, 4, 4, 4 * self.dim).permute(0, 3, 1, 2)  # channels-last without a copy
        h = F.relu(self.norm2(self.up2(h)))
        h = F.relu(self.norm3(self.up3(h)))
        return torch.tanh(self.up4(h))


class Critic(nn.Module):
    """Images (n, 1, 28, 28) -> scores (n,):  5x5 stride-2 convolutions D, 2D, 4D with LeakyReLU 0.2, then Linear -> 1.

    `norm=True` puts batch norm after the second and third convolution, for DCGAN and for weight clipping [9]. Under the
    gradient penalty it must be off: the penalty is about one image's own gradient (section 4).
    """

    def __init__(self, dim=64, norm=False):
        super().__init__()
        self.dim = dim
        self.conv1 = nn.Conv2d(1, dim, 5, 2, padding=2)  # 28 -> 14
        self.conv2 = nn.Conv2d(dim, 2 * dim, 5, 2, padding=2, bias=not norm)  # 14 -> 7
        self.conv3 = nn.Conv2d(2 * dim, 4 * dim, 5, 2, padding=2, bias=not norm)  # 7 -> 4
        # Statistics of the batch at hand only: the critic is never used in evaluation mode.
        self.norm2 = nn.BatchNorm2d(2 * dim, track_running_stats=False) if norm else nn.Identity()
        self.norm3 = nn.BatchNorm2d(4 * dim, track_running_stats=False) if norm else nn.Identity()
        self.linear = nn.Linear(4 * 4 * 4 * dim, 1)
        if norm:
            self.input_gradient = None  # batch norm mixes the images: use autograd

    def hidden(self, x):
        """The three layers after their LeakyReLU: (n, D, 14, 14), (n, 2D, 7, 7), (n, 4D, 4, 4)."""
        h1 = F.leaky_relu(self.conv1(x), SLOPE, inplace=True)
        h2 = F.leaky_relu(self.norm2(self.conv2(h1)), SLOPE, inplace=True)
        h3 = F.leaky_relu(self.norm3(self.conv3(h2)), SLOPE, inplace=True)
        return h1, h2, h3

    def forward(self, x):
        h3 = self.hidden(x)[-1].permute(0, 2, 3, 1).flatten(1)  # flat in the order of channels-last
        with torch.autocast(x.device.type, enabled=False):  # the score itself in full precision
            return self.linear(h3.to(self.linear.weight.dtype)).squeeze(1)

    def input_gradient(self, x):
        """The gradient of every score by its own image, (n, 1, 28, 28), differentiable in the critic's parameters.

        Convolutions and LeakyReLU make D piecewise linear: around x it is  D(x) = w . M3 W3 M2 W2 M1 W1 x + const, where
        the diagonal M_i hold the slopes, 1 or 0.2. So  grad_x D = W1' M1 W2' M2 W3' M3 w,  a chain of transposed
        convolutions. The slopes are constant almost everywhere, hence nothing of the forward pass needs a graph, and
        the parameter gradient of any function of this is one ordinary backward pass: no double backward.
        """
        with torch.no_grad():
            h1, h2, h3 = self.hidden(x)
        v = self.linear.weight.view(1, 4, 4, 4 * self.dim).permute(0, 3, 1, 2)
        v = times_slope(v.to(h3.dtype).expand_as(h3), h3)
        v = times_slope(transposed(v, self.conv3, h2), h2)
        v = times_slope(transposed(v, self.conv2, h1), h1)
        return transposed(v, self.conv1, x)


def times_slope(v, h):
    """v times LeakyReLU's slope where its output was h; one fused pass, and differentiable in v."""
    return torch.ops.aten.leaky_relu_backward(v, h, SLOPE, True)


def transposed(v, conv, like):
    """The transpose of the linear map `conv`, to the height of `like`: (n, out, .., ..) -> (n, in, height, height)."""
    spare = like.shape[-1] - (2 * v.shape[-1] - 1)  # 28 and 14 need one row more than the transpose gives by itself
    return F.conv_transpose2d(v, conv.weight, None, stride=2, padding=2, output_padding=spare)


# ---- appendix F: residual networks ------------------------------------------------------------------------------------

class Residual(nn.Module):
    """Pre-activation block of two 3x3 convolutions: (n, inputs, h, h) -> (n, outputs, h', h').

    Up: nearest-neighbour before the second convolution; down: mean pooling after it; `first` leaves out the activation
    before the first convolution, which would cut the raw image.
    """

    def __init__(self, inputs, outputs, resample=None, norm=False, track=True, first=False):
        super().__init__()
        def make_norm(channels):
            return nn.BatchNorm2d(channels, track_running_stats=track) if norm else nn.Identity()
        self.resample = resample
        self.before = nn.Identity() if first else nn.Sequential(make_norm(inputs), nn.ReLU())
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.between = nn.Sequential(make_norm(outputs), nn.ReLU())
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if resample or inputs != outputs else nn.Identity()

    def forward(self, x):
        h = self.between(self.conv1(self.before(x)))
        if self.resample == "up":
            h, x = F.interpolate(h, scale_factor=2.0), F.interpolate(x, scale_factor=2.0)
        h = self.conv2(h)
        if self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.shortcut(x)


class ResidualGenerator(nn.Module):
    """z (n, 128) -> images (n, 1, 28, 28):  Linear 4x4xD, three blocks up (the first cropped 8 -> 7 [1]), 3x3, tanh."""

    def __init__(self, dim=128):
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(Z, 4 * 4 * dim)
        self.blocks = nn.ModuleList(Residual(dim, dim, "up", norm=True) for _ in range(3))
        self.norm = nn.BatchNorm2d(dim)
        self.out = nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, z):
        h = self.linear(z).view(-1, 4, 4, self.dim).permute(0, 3, 1, 2)
        h = self.blocks[0](h)[:, :, :7, :7]
        h = self.blocks[2](self.blocks[1](h))
        return torch.tanh(self.out(F.relu(self.norm(h))))


class ResidualCritic(nn.Module):
    """Images (n, 1, 28, 28) -> scores (n,):  two blocks down to 7x7, two blocks, ReLU, mean over pixels, Linear -> 1."""

    input_gradient = None  # use autograd

    def __init__(self, dim=128, norm=False):
        super().__init__()
        self.blocks = nn.Sequential(Residual(1, dim, "down", norm, track=False, first=True),
                                    Residual(dim, dim, "down", norm, track=False),
                                    Residual(dim, dim, None, norm, track=False),
                                    Residual(dim, dim, None, norm, track=False))
        self.linear = nn.Linear(dim, 1)

    def forward(self, x):
        h = F.relu(self.blocks(x)).mean((2, 3))
        with torch.autocast(x.device.type, enabled=False):
            return self.linear(h.to(self.linear.weight.dtype)).squeeze(1)


# ---- building ---------------------------------------------------------------------------------------------------------

def make_generator(arch, dim):
    """A generator with its layers in channels-last order; `arch` is 'conv' or 'resnet'."""
    generator = {"conv": Generator, "resnet": ResidualGenerator}[arch](dim)
    return initialise(generator).to(memory_format=torch.channels_last)


def make_critic(arch, dim, norm):
    """A critic, with batch norm where `norm`."""
    critic = {"conv": Critic, "resnet": ResidualCritic}[arch](dim, norm)
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
