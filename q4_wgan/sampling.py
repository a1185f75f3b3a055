"""From seeds to images: latents, the shipped generators, walks between latents, grids and picture files."""

import io
import math
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import files
from .classifier import suffix
from .command import ROOT, UserError
from .networks import Z, make_generator, to_pixels

MODELS = ("dcgan", "wgan")


def latents(seeds):
    """z (n, 128): one random generator per seed, so that a seed gives the same z, and image, in any company."""
    return torch.stack([torch.randn(Z, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])


def slerp(a, b, steps):
    """z (steps, 128) from z a to z b (128,) along a great circle, where normal z are; the ends are a and b."""
    angle = torch.arccos(torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1))
    t = torch.linspace(0, 1, steps).unsqueeze(1)
    if angle < 1e-3:  # from a seed to itself
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


# ---- generators ----------------------------------------------------------------------------------

def load_generator(path, model):
    """(generator of a weights file in evaluation mode on the CPU, the dict that came with it). Raises UserError.

    A generator.pt of a run folder has no SHA-256 to match.
    """
    path = Path(path)
    if path.name == "generator.pt":
        content = files.from_torch(files.read(path), path)
    else:
        named, command = f"q4_{model}_", f"python q4_wgan/train.py --model {model}"
        rest = path.stem.removeprefix(named) if path.stem.startswith(named) else ""
        for word, option in (("clip", "--penalty"), ("resnet", "--arch")):
            if rest.partition("_")[0] == word:
                rest, command = rest.partition("_")[2], f"{command} {option} {word}"
        command += f" --dataset {rest}" if rest else ""
        content = files.from_torch(files.read_shipped(path, command), path)
    if content.get("model") != model:
        raise UserError(f"{path}: holds a {content.get('model')!r}, not a {model!r}")
    try:
        generator = make_generator(content["arch"], content["dim"])
    except (KeyError, TypeError, RuntimeError):
        raise UserError(f"{path}: does not say which network it holds (damaged or from another version)") from None
    files.load_state(generator, content.get("state"), path)
    return generator.eval(), content


@torch.no_grad()
def draw(generator, z):
    """uint8 (n, 28, 28) of z (n, 128), one by one: sums, and so bits, do not depend on the company."""
    return torch.cat([to_pixels(generator(row)) for row in z.split(1)])


@torch.no_grad()
def sample(generator, n, seed, device, batch=500):
    """n images of `generator` as uint8 (n, 28, 28) on `device`, from z drawn on the CPU with `seed`; for statistics."""
    noise = torch.randn(n, Z, generator=torch.Generator().manual_seed(seed))
    generator.eval()
    return torch.cat([to_pixels(generator(z.to(device))) for z in noise.split(batch)])


def generate(model, seeds, dataset="fashion", weights_dir=ROOT / "weights"):
    """Images of a shipped generator, 'dcgan' or 'wgan': uint8 numpy (n, 28, 28), one for each of the `seeds`.

    The same pixels as `python q4_wgan/generate.py` gives. Raises UserError where the weights are missing or damaged,
    or a seed is not a whole number from 0 to 2^32 - 1.
    """
    if model not in MODELS:
        raise UserError(f"model {model!r}: there are {' and '.join(MODELS)}")
    seeds = list(seeds) if isinstance(seeds, Iterable) else []
    if not seeds or not all(isinstance(s, Integral) and not isinstance(s, bool) and 0 <= s < 2**32 for s in seeds):
        raise UserError("seeds: a list of whole numbers from 0 to 4294967295 is wanted")
    return draw(load_generator(weights_path(weights_dir, model, dataset), model)[0], latents(seeds)).numpy()


def weights_path(weights_dir, model, dataset="fashion"):
    return Path(weights_dir) / f"q4_{model}{suffix(dataset)}.pt"


# ---- pictures ------------------------------------------------------------------------------------

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


def as_png(pixels):
    """uint8 (height, width) -> the bytes of a greyscale PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def as_gif(frames, seconds=0.1):
    """uint8 (n, height, width) -> the bytes of a GIF that repeats, each frame shown for `seconds`."""
    pictures = [Image.fromarray(np.asarray(frame)) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 * seconds), loop=0)
    return buffer.getvalue()
