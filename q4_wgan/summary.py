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


def difference(a, b):
    """mean(a) - mean(b) of two independent samples with Welch's 95 % interval; None where one has a single value."""
    if min(len(a), len(b)) < 2:
        return None
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return {"mean": float(np.mean(a) - np.mean(b)), "low": float(interval.low), "high": float(interval.high)}


def value_at(curve, iteration, of):
    """`of` at an iteration, log-linear between the points of `curve`; None outside of them."""
    xs = [point["iteration"] for point in curve]
    if not xs or not xs[0] <= iteration <= xs[-1]:
        return None
    return float(np.exp(np.interp(iteration, xs, np.log([point[of] for point in curve]))))


def time_to(curve, distance):
    """Core seconds until the relative distance first falls to `distance`, log-linear between points; None if never.

    Where it is there at the first point already, that point's: an upper bound.
    """
    for before, point in zip([None, *curve], curve):
        if point["relative_distance"] <= distance:
            ends = [math.log(one["relative_distance"]) for one in (point, before or point)]
            return float(np.interp(math.log(distance), ends, [one["core_seconds"] for one in (point, before or point)]))
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
