"""Differences between two methods with 95 % intervals, over label draws and trainings of the VAE.

Both methods see the same draws, and where both have a VAE the same training seeds, so the differences are paired:
d[t, j] for training t and draw j. Trainings and draws are crossed random factors, d[t, j] = m + a_t + b_j + e_tj.
"""

import numpy as np
from scipy.stats import t as student


def paired(a, b):
    """a - b, (trainings, draws), of two {seed of the training: errors (draws,)}; the seed None, of a method without
    trainings, goes with every seed of the other."""
    seeds = a.keys() if None in b else b.keys() if None in a else a.keys() & b.keys()
    return np.array([a.get(seed, a.get(None)) - b.get(seed, b.get(None)) for seed in sorted(seeds, key=str)])


def interval(d):
    """(mean, low, high) of the 95 % interval of d (T trainings, D > 1 draws).

    The variance of the mean is that of the two-way layout without replication, (MS_t + MS_j - MS_e) / (T D), at least
    that of either factor alone, with Satterthwaite's degrees of freedom. With T = 1 that is the paired t interval.
    """
    trainings, draws = d.shape
    mean = d.mean()
    squares = {"draws": trainings * (d.mean(0) - mean)**2, "trainings": draws * (d.mean(1) - mean)**2,
               "rest": (d - d.mean(0) - d.mean(1)[:, None] + mean)**2}
    freedoms = {"draws": draws - 1, "trainings": trainings - 1, "rest": (trainings - 1) * (draws - 1)}
    ms = {name: squares[name].sum() / max(1, freedom) for name, freedom in freedoms.items()}
    variance = max(ms["trainings"] + ms["draws"] - ms["rest"], ms["trainings"], ms["draws"])
    parts = sum(ms[name]**2 / max(1, freedom) for name, freedom in freedoms.items())
    freedom = np.clip(variance**2 / max(parts, 1e-300), 1, d.size - 1)
    half = student.ppf(0.975, freedom) * np.sqrt(variance / d.size)
    return float(mean), float(mean - half), float(mean + half)


def deviations(errors):
    """Standard deviations of errors (T, D): over the draws of one training, and over the trainings on one draw.

    Each pooled over the other factor; None where there is only one.
    """
    trainings, draws = errors.shape
    over_draws = float(np.sqrt(errors.var(1, ddof=1).mean())) if draws > 1 else None
    return over_draws, float(np.sqrt(errors.var(0, ddof=1).mean())) if trainings > 1 else None
