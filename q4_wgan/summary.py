"""Means with their standard deviation, differences with their interval, and how curves and losses are read."""

import csv
import math

import numpy as np
from scipy import stats

from .command import ROOT, UserError, read

NAMES = {"dcgan": "DCGAN", "wgan": "WGAN-GP", "wgan-gp": "WGAN-GP", "wgan-clip": "WGAN, clipping",
         "textbook": "WGAN-GP, textbook loop"}  # of models and objectives


def mean_std(values):
    """{"mean", "std" (of the sample; None for a single value), "n"}."""
    values = np.asarray(values, dtype=float)
    return {"mean": values.mean().item(), "std": values.std(ddof=1).item() if len(values) > 1 else None,
            "n": len(values)}


def difference(a, b, confidence=0.95):
    """mean(a) - mean(b) of two independent samples with its interval after Welch; None where one has a single value."""
    if min(len(a), len(b)) < 2:
        return None
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    return {"mean": float(np.mean(a) - np.mean(b)), "low": float(interval.low), "high": float(interval.high),
            "confidence": confidence}


def value_at(curve, x, of, by="iteration"):
    """`of` where `by` is `x`, log-linear between the points of `curve`; None outside of them."""
    xs = [point[by] for point in curve]
    if not xs or not xs[0] <= x <= xs[-1]:
        return None
    return float(np.exp(np.interp(x, xs, np.log([point[of] for point in curve]))))


def time_to(curve, distance, of="relative_distance", by="core_seconds"):
    """`by` where `of` first falls to `distance`, linear in log(of) between two points; None where it never does.

    Where it is there at the first point already, that point's: an upper bound.
    """
    before = None
    for point in curve:
        if point[of] <= distance:
            if before is None:
                return point[by]
            part = (math.log(before[of]) - math.log(distance)) / (math.log(before[of]) - math.log(point[of]))
            return before[by] + part * (point[by] - before[by])
        before = point
    return None


def read_losses(path):
    """{column: float array (rows,), NaN where empty} of the losses csv that train.py ships."""
    try:
        rows = list(csv.DictReader(read(path).decode().splitlines()))
        columns = {name: np.array([float(row[name] or math.nan) for row in rows]) for name in rows[0]}
        if np.isnan(columns["distance"]).all():
            raise ValueError
        return columns
    except (IndexError, KeyError, ValueError, TypeError):
        raise UserError(f"{path}: not the losses that train.py writes") from None


def shipped(results_dir, file):
    """The path of a record: in --results-dir or, where it has none, in the results of this repository."""
    path = results_dir / "q4" / file
    return path if path.exists() else ROOT / "results" / "q4" / file
