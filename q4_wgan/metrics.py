"""How good a set of images is: relative Frechet distance, precision and recall, class frequencies; what is a failure.

The unit is the distance of as many training images from the reference images: 1 is as good as real images. It is
sampling noise, so it depends on the reference and its size. Feature spaces: the 128 features of our own classifier, the
first 64 principal components of the pixels and, against the test images, the 64 features of a second classifier where
`train_classifier.py --arch residual` has trained one; by these nothing is chosen. None is the Inception FID.
"""

import numpy as np
import torch

from . import sampling
from .classifier import classify
from .command import UserError

# What counts as a failure; fixed before the first training, README.md says the same.
SMALLEST_FREQUENCY = 0.01  # a class with less than 1 % of the images (it should have 10 %) is lost: mode collapse
FAILED_ABOVE = 100.0  # real images are at 140 if blurred over 3x3 pixels, at 17 to 50 without one class: scores.json
COMPONENTS = 64  # of the pixels
DISTANCES = ("relative_distance", "relative_distance_pixels")
MEASURED = (*DISTANCES, "class_frequencies")


def verdict(finite, found):
    """(outcome, reason) of a training: 'diverged', 'collapsed', 'far' or 'converged'; all but the last have failed.

    finite: whether its losses are. found: the metrics of its last images.
    """
    if not finite:
        return "diverged", "a loss is NaN or infinite"
    smallest, distance = min(found["class_frequencies"]), found["relative_distance"]
    if smallest < SMALLEST_FREQUENCY:
        lost = found["class_frequencies"].index(smallest)
        return "collapsed", f"class {lost} has {smallest:.2%} of the images, under {SMALLEST_FREQUENCY:.0%}"
    if distance > FAILED_ABOVE:
        return "far", f"relative distance {distance:.0f}, above {FAILED_ABOVE:.0f}"
    return "converged", f"all classes present, relative distance {distance:.1f}"


class Metrics:
    """Relative Frechet distances and the class frequencies of images, against reference images.

    network: the classifier; second: the other one, or None. pixels: uint8 (n, 28, 28), the training images; reference:
    uint8 (m, 28, 28), m <= n. Raises UserError where the images are all alike.
    """

    def __init__(self, network, pixels, reference, second=None):
        self.network = network
        flat = pixels.cpu().flatten(1).double() / 255
        mean, basis = flat.mean(0), torch.linalg.eigh(torch.cov(flat.T))[1][:, -COMPONENTS:]  # eigenvalues rise

        def components(pixels):
            return (pixels.flatten(1).double() / 255 - mean) @ basis
        self.spaces = {"": lambda pixels: classify(network, pixels)[0], "_pixels": components}
        if second is not None:
            self.spaces["_second"] = lambda pixels: classify(second, pixels)[0]
        self.references = {name: features(reference) for name, features in self.spaces.items()}
        self.units = {name: frechet_distance(features(pixels[:len(reference)]), self.references[name])
                      for name, features in self.spaces.items()}
        if not all(unit > 1e-9 for unit in self.units.values()):
            raise UserError("the images are all alike: no distance between them can be the unit")

    def __call__(self, pixels):
        pixels = pixels.cpu()
        features, labels, _ = classify(self.network, pixels)
        distances = {f"relative_distance{name}": frechet_distance(space(pixels) if name else features,
                                                                  self.references[name]) / self.units[name]
                     for name, space in self.spaces.items()}
        frequencies = torch.bincount(labels, minlength=10).double() / len(labels)
        return {**distances, "class_frequencies": frequencies.tolist()}


def scores(world, generator, seed, n=None):
    """Metrics of `n` images of a generator against the test images (default: as many), with precision and recall."""
    pixels = sampling.sample(generator, n or len(world.data.test), seed, world.device).cpu()
    real, fake = (classify(world.network, part)[0] for part in (world.data.test, pixels))
    precision, recall = precision_recall(real, fake)
    return {**world.test(pixels), "precision": precision, "recall": recall}


def frechet_distance(a, b):
    """Frechet distance of the Gaussians fitted to two sets of features, (n, d) and (m, d):

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))   (Heusel et al. 2017, equation 6; Dowson and Landau 1982).
    """
    a, b = a.double(), b.double()
    A, B = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(A)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # A B and root B root have the same eigenvalues, and the second is symmetric: no complex square root.
    cross = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    return (mean + A.trace() + B.trace() - 2 * cross).clamp(min=0).item()


def precision_recall(real, fake, k=3, chunk=1000):
    """Improved precision and recall (Kynkaanniemi et al. 2019, equation 1), both in 0..1, for features (n, d), (m, d).

    Precision: the part of the fakes within the k-th-neighbour ball of some real image; recall: the reverse.
    """
    def radii(x):  # k + 1: every point is its own nearest neighbour
        return torch.cat([torch.cdist(part, x).kthvalue(min(k + 1, len(x)), dim=1).values for part in x.split(chunk)])

    def inside(points, centres, radius):
        found = torch.cat([(torch.cdist(part, centres) <= radius).any(1) for part in points.split(chunk)])
        return found.float().mean().item()

    return inside(fake, real, radii(real)), inside(real, fake, radii(fake))


def mean_std(values):
    """{"mean", "std" (of the sample; None for a single value), "n"}."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "n": len(values)}


def plus_minus(found, digits, unit=1):
    """The mean of `mean_std`, times `unit`, and of several values the standard deviation; halves are rounded up."""
    values = [found["mean"]] + [found["std"]] * (found["n"] > 1)
    return " ± ".join(f"{value * unit + 1e-9:.{digits}f}" for value in values)


def table(head, rows):
    """A table in Markdown: the cells of its head and of its rows."""
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (head, ["---"] * len(head), *rows))
