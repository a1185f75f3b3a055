"""Drawings for GAN Lab's canvas, and how well generated points cover them.

Coordinates are those of the page's plot: the unit square, y upwards.
"""
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

# The page blurs every drawn point with a Gaussian of this standard deviation (in sides of the plot). Even a
# generator without any width of its own, on the pen's way exactly, lies within two of them of 95 % of the samples.
PEN_SIGMA = 0.02
REACH = 2 * PEN_SIGMA
GRID_CELLS = 30  # the page's own grid for its KL and JS graphs

# "Converged", fixed before the counted runs: each of the last CHECKS_IN_A_ROW measurements (one every
# MEASURE_EVERY epochs) keeps all three limits.
MIN_PRECISION = 0.90
MIN_COVERAGE = 0.90
MAX_W1 = 0.05
CHECKS_IN_A_ROW = 3
MEASURE_EVERY = 500


def _arc(centre, radius, start, stop):
    """Arc of a circle, angles in degrees, 200 points."""
    angle = np.radians(np.linspace(start, stop, 200))
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def _heart():
    t = np.linspace(0, 2 * np.pi, 400)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([0.5 + x / 55, 0.52 + y / 55], axis=1)]


def _eight():
    t = np.linspace(0, 2 * np.pi, 400)
    return [np.stack([0.5 + 0.32 * np.sin(t), 0.5 + 0.24 * np.sin(2 * t)], axis=1)]


def _spiral():
    t = np.linspace(0.15, 1, 400)
    angle = 3.5 * np.pi * t
    return [np.stack([0.5 + 0.34 * t * np.cos(angle), 0.5 + 0.34 * t * np.sin(angle)], axis=1)]


DRAWINGS = {
    "smile": lambda: [_arc((0.5, 0.62), 0.32, 190, 350)],
    "heart": _heart,
    "eight": _eight,
    "spiral": _spiral,
    # Two interleaved arcs that do not touch.
    "moons": lambda: [_arc((0.38, 0.48), 0.24, 0, 180), _arc((0.62, 0.55), 0.24, 180, 360)],
    # A smile with two eyes: three pieces.
    "face": lambda: [_arc((0.5, 0.56), 0.30, 200, 340),
                     np.array([[0.38, 0.62], [0.38, 0.76]]), np.array([[0.62, 0.62], [0.62, 0.76]])],
}
PRESETS = ("line", "gaussians", "ring", "disjoint")


def strokes(name, points=400):
    """Strokes of a drawing: a list of (n_i, 2) arrays, equally spaced along the pen's way.

    The page gives every mouse event the same weight, so equal spacing means a uniform density.
    """
    pieces = DRAWINGS[name]()
    lengths = [np.linalg.norm(np.diff(piece, axis=0), axis=1).sum() for piece in pieces]
    out = []
    for piece, length in zip(pieces, lengths):
        along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(piece, axis=0), axis=1))])
        at = np.linspace(0, length, max(2, round(points * length / sum(lengths))))
        out.append(np.stack([np.interp(at, along, piece[:, k]) for k in range(2)], axis=1))
    return out


def grid_js(real, generated, cells=GRID_CELLS):
    """Jensen-Shannon divergence in bits (0 to 1) of two point sets (n, 2) on a grid over the unit square.

    Points outside are counted in the border cells. It is the quantity the page's JS graph
    means to show, over all samples given.
    """
    def histogram(points):
        index = np.clip((np.asarray(points) * cells).astype(int), 0, cells - 1)
        return np.bincount(index[:, 0] * cells + index[:, 1], minlength=cells * cells) / len(index)

    p, q = histogram(real), histogram(generated)
    m = (p + q) / 2

    def kl(a):
        return float((a[a > 0] * np.log2(a[a > 0] / m[a > 0])).sum())

    return (kl(p) + kl(q)) / 2


def wasserstein(a, b):
    """Wasserstein-1 distance of two equally large point sets (n, 2): the optimal assignment's mean length."""
    cost = cdist(a, b)
    return float(cost[linear_sum_assignment(cost)].mean())


def measure(real, generated, n=500):
    """How well generated points (at least n, 2) match real ones (at least 2n, 2), from the first n of each.

    precision: share of generated points within REACH of a real one; coverage: share of real points within REACH
    of a generated one; w1: Wasserstein-1; w1_floor: the same between two disjoint sets of real points; js: see
    grid_js, over all points given.
    """
    real, generated = np.asarray(real, float), np.asarray(generated, float)
    a, b, more = real[:n], generated[:n], real[n:2 * n]
    values = {
        "precision": (cKDTree(a).query(b)[0] <= REACH).mean(),
        "coverage": (cKDTree(b).query(a)[0] <= REACH).mean(),
        "w1": wasserstein(a, b),
        "w1_floor": wasserstein(a, more),
        "js": grid_js(real, generated),
    }
    return {key: round(float(value), 4) for key, value in values.items()}


def worst(measures):
    """What the criterion judges: the worst of the last CHECKS_IN_A_ROW measurements, given in the order they were taken."""
    last = measures[-CHECKS_IN_A_ROW:]
    return {"precision": min(m["precision"] for m in last), "coverage": min(m["coverage"] for m in last), "w1": max(m["w1"] for m in last)}


def converged(measures):
    """The criterion above, on the measurements of a run so far."""
    if len(measures) < CHECKS_IN_A_ROW:
        return False
    bad = worst(measures)
    return bad["precision"] >= MIN_PRECISION and bad["coverage"] >= MIN_COVERAGE and bad["w1"] <= MAX_W1
