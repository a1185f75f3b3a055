"""From seeds to images: latents, generators, walks between latents, grids and picture files."""

import io
import math
from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity, pad

from . import files
from .command import ROOT, UserError
from .networks import Z, make_generator, to_pixels

SHIPPED = {model: ROOT / "weights" / f"q4_{model}" for model in ("dcgan", "wgan")}  # their run folders
ROWS = 64  # of a batch that images are drawn in


def load_generator(folder):
    """(generator of a run folder in evaluation mode on the CPU, its generator.pt). Raises UserError."""
    file = Path(folder) / "generator.pt"
    if not file.exists():
        raise UserError(f"{folder}: holds no generator.pt; a run folder of train.py has one from its first minute on")
    content = files.load_torch(file, "arch", "dim", "state")
    generator = make_generator(content["arch"], content["dim"])
    files.load_state(generator, content["state"], file)
    return generator.eval(), content


def generate(model=None, seeds=range(16), run=None):
    """Images of a generator: uint8 numpy (n, 28, 28), one for each of the `seeds`.

    model: 'dcgan' or 'wgan', which ship; or run: the folder of a training. The same pixels as `python
    q4_wgan/generate.py` gives, whatever the caller has set in torch. Raises UserError.
    """
    seeds = list(seeds) if isinstance(seeds, Iterable) else []
    if not seeds or not all(isinstance(s, Integral) and not isinstance(s, bool) and 0 <= s < 2**32 for s in seeds):
        raise UserError("seeds: a list of whole numbers from 0 to 4294967295 is wanted")
    if (model in SHIPPED) == bool(run):
        raise UserError(f"model {model!r}, run {run!r}: one of them is wanted; the models are {' and '.join(SHIPPED)}")
    with files.own_session():
        return draw_seeds(load_generator(run or SHIPPED[model])[0], seeds).numpy()


def latents(seeds):
    """z (n, 128): one random generator per seed, so that a seed gives the same z, and image, in any company."""
    return torch.stack([torch.randn(Z, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])


@torch.no_grad()
def draw(generator, z):
    """uint8 (n, 28, 28), on the CPU, of z (n, 128), in batches of 64 rows, the last one filled up."""
    device = next(generator.parameters()).device
    full = torch.cat((z, torch.zeros(-len(z) % ROWS, Z)))
    return torch.cat([to_pixels(generator(part.to(device))).cpu() for part in full.split(ROWS)])[:len(z)]


def draw_seeds(generator, seeds):
    """uint8 (n, 28, 28) of `seeds`, each always in the same row of a batch, which decides how its sums round: so a seed
    has the same bits alone or among a thousand."""
    met, places = Counter(), []
    for seed in seeds:
        row = seed % ROWS
        places.append(met[row] * ROWS + row)
        met[row] += 1
    z = torch.zeros(max(places) + 1, Z)
    z[places] = latents(seeds)
    return draw(generator, z)[places]


@torch.no_grad()
def sample(generator, n, seed, device, batch=500):
    """n images of `generator` as uint8 (n, 28, 28) on `device`, from z drawn on the CPU with `seed`; for statistics."""
    noise = torch.randn(n, Z, generator=torch.Generator().manual_seed(seed))
    generator.eval()
    return torch.cat([to_pixels(generator(z.to(device))) for z in noise.split(batch)])


def slerp(a, b, steps):
    """z (steps, 128) from z a to z b (128,) along a great circle, where normal z are; the ends are a and b."""
    angle = torch.arccos(cosine_similarity(a, b, dim=0).clamp(-1, 1))
    t = torch.linspace(0, 1, steps).unsqueeze(1)
    if angle < 1e-3:  # from a seed to itself
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def grid(pixels, columns=None, scale=1):
    """uint8 (n, 28, 28) -> uint8 (height, width): rows of `columns` images on white, two pixels apart; every pixel is
    repeated `scale` times in both directions. Default: as square as can be, or up to twice as wide to leave no hole."""
    side = math.ceil(math.sqrt(len(pixels)))
    columns = columns or next((n for n in range(side, 2 * side) if len(pixels) % n == 0), side)
    missing = -len(pixels) % columns
    cells = pad(pixels, (0, 2, 0, 2, 0, missing), value=255)  # to the right, below, and at the end
    sheet = torch.cat([torch.cat(list(row), 1) for row in cells.split(columns)])[:-2, :-2]
    return sheet.repeat_interleave(scale, 0).repeat_interleave(scale, 1)


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
