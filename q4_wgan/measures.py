"""How good a set of images is: Frechet distance, precision and recall, class histogram, and when a training failed.

Everything is computed in the features of the shipped classifier (the 128 units before its output), on Fashion-MNIST at
28x28. These distances are therefore not Inception FIDs and cannot be compared with published FIDs.
"""

import math

import torch

from images import to_pixels
from networks import Z

# ---- when is a training a failure? Fixed before the first run; README.md says the same. ------------------------------
SAMPLES = 10_000  # images the verdict is taken on
SMALLEST_SHARE = 0.01  # a class below 1 % of the samples (it should have 10 %) counts as lost: mode collapse
# A Frechet distance above this many times the real-vs-real floor. Real images reach about 80 times with noise of 20 grey
# levels, 130 times blurred over 3x3 pixels, 15 to 45 times with one class left out, over 500 times with one class alone
# (evaluate.py measures these): above 100 the garments are worse than blurred or most classes are gone.
FLOOR_MULTIPLE = 100.0


def verdict(losses_finite, shares, distance, floor, multiple=None):
    """('converged' or 'failed', reason in words). shares: the ten class shares; distance and floor: Frechet.

    `multiple`: of the floor, FLOOR_MULTIPLE; stability.py asks how the count depends on it.
    """
    multiple = multiple or FLOOR_MULTIPLE
    if not losses_finite:
        return "failed", "a loss is NaN or infinite"
    if min(shares) < SMALLEST_SHARE:
        return "failed", f"class {shares.index(min(shares))} has {min(shares):.2%} of the samples, under {SMALLEST_SHARE:.0%}"
    if distance > multiple * floor:
        return "failed", f"Frechet distance {distance / floor:.0f} times the floor, above {multiple:.0f}"
    return "converged", f"all classes present, Frechet distance {distance / floor:.1f} times the floor"


# ---- distances ----------------------------------------------------------------------------------------------------------

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

    Precision: the share of fakes within the k-th-neighbour ball of some real image; recall: the reverse.
    """
    def radii(x):  # k + 1: every point is its own nearest neighbour
        return torch.cat([torch.cdist(part, x).kthvalue(k + 1, dim=1).values for part in x.split(chunk)])

    def inside(points, centres, radius):
        return torch.cat([(torch.cdist(part, centres) <= radius).any(1) for part in points.split(chunk)]).float().mean().item()

    return inside(fake, real, radii(real)), inside(real, fake, radii(fake))


def class_shares(labels):
    """The shares of the classes 0 to 9 among labels (n,): a list of ten numbers that sum to 1."""
    return (torch.bincount(labels, minlength=10).double() / len(labels)).tolist()


def kl_to_uniform(shares):
    """KL(shares || uniform) in nats: 0 for ten equal classes, ln 10 = 2.30 for a single one."""
    return sum(p * math.log(p * len(shares)) for p in shares if p > 0)


# ---- images of a generator ----------------------------------------------------------------------------------------------

@torch.no_grad()
def sample(generator, n, seed, device, batch=500):
    """n images of `generator` as uint8 (n, 28, 28) on `device`, from z drawn on the CPU with `seed`."""
    noise = torch.randn(n, Z, generator=torch.Generator().manual_seed(seed))
    generator.eval()
    return torch.cat([to_pixels(generator(z.to(device))) for z in noise.split(batch)])
