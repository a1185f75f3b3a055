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


def interval(d, level=0.95):
    """(mean, low, high) of d (T trainings, D draws).

    T = 1: the paired t interval, over draws alone. Else the variance of the mean is that of the two-way layout without
    replication, (MS_t + MS_j - MS_e) / (T D), at least that of either factor alone, with Satterthwaite's degrees of
    freedom. D = 1 gives no interval over draws: NaN.
    """
    trainings, draws = d.shape
    mean, nan = float(d.mean()), float("nan")
    if draws < 2:
        return mean, nan, nan
    by_draw = trainings * d.mean(0).var(ddof=1)
    if trainings == 1:
        variance, freedom = by_draw, draws - 1
    else:
        by_training = draws * d.mean(1).var(ddof=1)
        rest = d - d.mean(0) - d.mean(1)[:, None] + mean
        residual = (rest**2).sum() / ((trainings - 1) * (draws - 1))
        parts = ((by_training, trainings - 1), (by_draw, draws - 1), (residual, (trainings - 1) * (draws - 1)))
        variance = max(by_training + by_draw - residual, by_training, by_draw)
        freedom = variance**2 / max(sum(ms**2 / df for ms, df in parts), 1e-300)
        freedom = min(max(freedom, 1.0), trainings * draws - 1)
    half = student.ppf((1 + level) / 2, freedom) * np.sqrt(variance / d.size)
    return mean, float(mean - half), float(mean + half)


def deviations(errors):
    """Standard deviations of errors (T, D): over the draws of one training, and over the trainings on one draw.

    Each pooled over the other factor; None where there is only one.
    """
    trainings, draws = errors.shape
    over_draws = float(np.sqrt(errors.var(1, ddof=1).mean())) if draws > 1 else None
    return over_draws, float(np.sqrt(errors.var(0, ddof=1).mean())) if trainings > 1 else None
