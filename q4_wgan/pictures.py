"""Grids of small images as PNG files, and the latents that belong to seeds."""

import math

import torch
from PIL import Image

from files import write_atomic
from networks import Z


def latents(seeds):
    """z (n, 128): one random generator per seed, so that a seed gives the same z, and picture, in any company."""
    return torch.stack([torch.randn(Z, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def grid(pixels, columns=None, space=2, scale=1):
    """uint8 (n, 28, 28) -> uint8 (height, width): rows of `columns` images (default: as square as can be) on white,
    `space` pixels apart; every pixel is repeated `scale` times in both directions."""
    n, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = torch.full((rows * columns, height + space, width + space), 255, dtype=torch.uint8)
    canvas[:n, :height, :width] = pixels
    canvas = canvas.view(rows, columns, height + space, width + space).transpose(1, 2)
    canvas = canvas.reshape(rows * (height + space), columns * (width + space))
    canvas = canvas[:canvas.shape[0] - space, :canvas.shape[1] - space]
    return canvas.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


def save_png(path, pixels):
    """Write uint8 (height, width) as a greyscale PNG."""
    write_atomic(path, lambda file: Image.fromarray(pixels.numpy(), "L").save(file, "PNG"))
