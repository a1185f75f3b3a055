"""Drawings for GAN Lab's canvas, how well generated points cover them, and when a run counts as converged.

Coordinates are those of the page's plot: the unit square, y upwards.
"""
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, jensenshannon

# The page blurs every drawn point with a Gaussian of this standard deviation (in sides of the plot). Even a
# generator without any width of its own, on the pen's way exactly, lies within two of them of 95 % of the samples.
PEN_SIGMA = 0.02
REACH = 2 * PEN_SIGMA
GRID_CELLS = 30  # the page's own grid for its KL and JS graphs

# The criterion, fixed before the runs that it is for. It is read every MEASURE_EVERY epochs.
MEASURE_EVERY = 500
CRITERION = {
    # The samples match: each of the last `in_a_row` measurements keeps all three limits.
    "reach": REACH, "min_precision": 0.90, "min_coverage": 0.90, "max_w1": 0.05, "in_a_row": 3,
    "every_epochs": MEASURE_EVERY,
    # The gradients have vanished: their median length is at most this part of that at the first measurement.
    "max_gradient_ratio": 0.2,
    # The page's KL and JS (bits) are flat over the last epochs: the means of the two halves differ by less, and so
    # do the ends of the straight line through all their points.
    "flat_epochs": 2000, "max_kl_change": 0.05, "max_js_change": 0.02}


def _arc(centre, radius, start, stop):
    """Arc of a circle, angles in degrees, 200 points."""
    angle = np.radians(np.linspace(start, stop, 200))
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def _heart():
    t = np.linspace(0, 2 * np.pi, 400)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([0.5 + x / 55, 0.52 + y / 55], axis=1)


DRAWINGS = {  # name -> pieces, each drawn in one stroke
    "smile": [_arc((0.5, 0.62), 0.32, 190, 350)],
    "heart": [_heart()],
    "moons": [_arc((0.38, 0.48), 0.24, 0, 180), _arc((0.62, 0.55), 0.24, 180, 360)],  # two arcs, interleaved
}
PRESETS = ("line", "gaussians", "ring", "disjoint")
TITLES = {"smile": "arc", "moons": "two half moons"}  # the others are called as they are


def strokes(name, points=400):
    """Strokes of a drawing: a list of (n_i, 2) arrays, equally spaced along the pen's way.

    The page gives every mouse event the same weight, so equal spacing means a uniform density.
    """
    pieces = DRAWINGS[name]
    ways = [np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(piece, axis=0), axis=1))]) for piece in pieces]
    whole, out = sum(way[-1] for way in ways), []
    for piece, way in zip(pieces, ways):
        at = np.linspace(0, way[-1], round(points * way[-1] / whole))
        out.append(np.stack([np.interp(at, way, piece[:, k]) for k in range(2)], axis=1))
    return out


def grid_js(real, generated):
    """Jensen-Shannon divergence in bits (0 to 1) of two point sets (n, 2) on a grid over the unit square.

    Points outside are counted in the border cells. It is what the page's JS graph means to show, over all samples.
    """
    p, q = (np.histogram2d(*np.clip(points, 0, 1).T, GRID_CELLS, [[0, 1], [0, 1]])[0].ravel()
            for points in (real, generated))
    return float(jensenshannon(p, q, base=2) ** 2)


def wasserstein(a, b):
    """Wasserstein-1 distance of two equally large point sets (n, 2): the optimal assignment's mean length."""
    cost = cdist(a, b)
    return cost[linear_sum_assignment(cost)].mean()


def measure(real, generated, n=500):
    """How well generated points (at least n, 2) match real ones (at least 2n, 2), from the first n of each.

    precision: part of the generated points within REACH of a real one; coverage: part of the real points within
    REACH of a generated one; w1: Wasserstein-1; w1_real: the same between two disjoint sets of real points; js: see
    grid_js, over all points given.
    """
    a, b, more = real[:n], generated[:n], real[n:2 * n]
    values = {
        "precision": (cKDTree(a).query(b)[0] <= REACH).mean(),
        "coverage": (cKDTree(b).query(a)[0] <= REACH).mean(),
        "w1": wasserstein(a, b),
        "w1_real": wasserstein(a, more),
        "js": grid_js(real, generated),
    }
    return {key: round(float(value), 4) for key, value in values.items()}


def change(points, epochs=CRITERION["flat_epochs"]):
    """How far a curve [[epoch, value or None], ...] rose or fell over its last `epochs`; None if it is shorter.

    The larger of two: the difference of the means of the two halves, and that of the ends of the line fitted to all.
    """
    at, values = np.array([point for point in points if point[1] is not None], float).reshape(-1, 2).T
    if not len(at) or at[-1] < epochs:
        return None
    late = at > at[-1] - epochs
    at, values = at[late], values[late]
    second = at > at[-1] - epochs / 2
    halves = values[second].mean() - values[~second].mean()
    return round(float(max(abs(halves), abs(np.polyfit(at, values, 1)[0]) * epochs)), 4)


def verdict(measures, histories):
    """What the criterion looks at, and the outcome: "converged", "samples match" (but not the rest) or "not converged".

    measures: one a MEASURE_EVERY epochs, with "gradient", the median length at the fake samples; histories: the
    page's curves. Of precision, coverage and w1 the worst of the last measurements counts.
    """
    last = measures[-CRITERION["in_a_row"]:]
    seen = {"precision": min(m["precision"] for m in last), "coverage": min(m["coverage"] for m in last),
            "w1": max(m["w1"] for m in last),
            "gradient_ratio": round(measures[-1]["gradient"] / measures[0]["gradient"], 4),
            "kl_change": change(histories["kl"]), "js_change": change(histories["js"])}
    match = (len(last) == CRITERION["in_a_row"] and seen["precision"] >= CRITERION["min_precision"]
             and seen["coverage"] >= CRITERION["min_coverage"] and seen["w1"] <= CRITERION["max_w1"])
    calm = (seen["gradient_ratio"] <= CRITERION["max_gradient_ratio"]
            and all(seen[f"{name}_change"] is not None and seen[f"{name}_change"] < CRITERION[f"max_{name}_change"]
                    for name in ("kl", "js")))
    return seen, "converged" if match and calm else "samples match" if match else "not converged"
