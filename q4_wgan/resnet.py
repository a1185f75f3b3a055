"""The residual pair of appendix F (Gulrajani et al. 2017), adapted to 28x28x1: `--arch resnet`.

Images are (n, 1, 28, 28) in [-1, 1]. Numbers in brackets are the deviations listed in README.md.
"""

import torch
from torch import nn
from torch.nn import functional as F


def make_norm(kind, channels, track=True):
    """None, 'batch' or 'layer'. Layer norm is over all of an image's channels and pixels, as in the authors' code."""
    return {None: nn.Identity, "batch": lambda: nn.BatchNorm2d(channels, track_running_stats=track),
            "layer": lambda: nn.GroupNorm(1, channels)}[kind]()


class Residual(nn.Module):
    """Pre-activation block of two 3x3 convolutions: (n, inputs, h, h) -> (n, outputs, h', h').

    Up: nearest-neighbour before the second convolution; down: mean pooling after it; `first` leaves out the activation
    before the first convolution, which would cut the raw image.
    """

    def __init__(self, inputs, outputs, resample=None, norm=None, track=True, first=False):
        super().__init__()
        self.resample = resample
        self.before = nn.Identity() if first else nn.Sequential(make_norm(norm, inputs, track), nn.ReLU())
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.between = nn.Sequential(make_norm(norm, outputs, track), nn.ReLU())
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
    """Latents (n, latent) -> images:  Linear 4x4xD, three blocks up (the first cropped 8 -> 7 [1]), 3x3, tanh."""

    def __init__(self, latent, dim=128):
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(latent, 4 * 4 * dim)
        self.blocks = nn.ModuleList(Residual(dim, dim, "up", "batch") for _ in range(3))
        self.norm = nn.BatchNorm2d(dim)
        self.out = nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, z):
        h = self.linear(z).view(-1, 4, 4, self.dim).permute(0, 3, 1, 2)
        h = self.blocks[0](h)[:, :, :7, :7]
        h = self.blocks[2](self.blocks[1](h))
        return torch.tanh(self.out(F.relu(self.norm(h))))


class ResidualCritic(nn.Module):
    """Images -> scores (n,):  two blocks down to 7x7, two blocks, ReLU, mean over pixels, Linear -> 1."""

    input_gradient = None  # use autograd

    def __init__(self, dim=128, norm=None):
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
