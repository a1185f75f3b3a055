"""How often does training fail? DCGAN, WGAN-GP and WGAN with clipping in eight settings, at three learning rates.

After table 2 and figure 2 of Gulrajani et al. 2017, on Fashion-MNIST at D = 16, two seeds each. Every run has the same
compute, about 4 minutes of a core. Two readings are counted: a run "trained" if it has all ten classes, with 1 % of the
images each ("converged" or "far"; else "collapsed", or "diverged" with NaN), which was fixed before the runs; and it is
"within 100" if it has converged by the rule of README.md, at a relative distance of at most 100.

A run is a line of stability.jsonl as it ends; killed, the same command goes on. Writes stability.json and
stability.png, and prints the tables. 144 runs, ten hours of a core.
"""

import itertools
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan.command import Parser, number, run_main
from q4_wgan.experiments import jobs, plots
from q4_wgan.metrics import table
from q4_wgan.objectives import OBJECTIVES
from q4_wgan.plots import NAMES
from q4_wgan.training import BATCH, PAPER

DIM, COMPUTE, SEEDS = 16, 8_000, 2  # 8,000 iterations of DCGAN's baseline: 4 minutes of a core
NO_NORM, TANH = {"norm": False}, {"activation": "tanh"}
# What differs from the baseline, and what an iteration costs then, in iterations of the baseline.
SETTINGS = {
    "baseline": ({}, 1),
    "no batch norm in G": ({"generator_variant": NO_NORM}, 1.15),
    "tanh in G and D": ({"generator_variant": TANH, "critic_variant": TANH}, 1.15),
    "MLP generator": ({"generator_arch": "mlp"}, 0.9),
    "no norm in G and D; WGAN-GP: layer norm in D": ({"generator_variant": NO_NORM, "critic_norm": None}, 1.15),
    "half width": ({"dim": 0.5}, 0.67),
    "double width": ({"dim": 2}, 2.3),
    "residual networks": ({"arch": "resnet"}, 3.2),
}
DOUBLE_BACKWARD = 1.1  # the same of WGAN-GP where the critic is not piecewise linear in one image
READINGS = {"trained": ("converged", "far"), "within_100": ("converged",)}  # by which a run counts: its outcomes
SIGNS = {"trained": "settings_by_trained", "within_100": "settings_by_within_100"}
PAIRS = {"trained": "only_dcgan_or_wgan_gp", "within_100": "only_dcgan_or_wgan_gp_within_100"}  # of stability.json


def rates(objective):
    """{name: settings} of the three learning rates: the paper's settings, those of tune.py, and rates between.

    Between: both rates of the search by one factor, so that the critic's is the geometric mean with the paper's. Of
    WGAN-GP the search with the paper's five critic steps; its tuned settings have one.
    """
    paper, searched = PAPER[objective], jobs.tuned(objective)
    factor = math.sqrt(paper["learning_rate"] / searched["learning_rate"])
    between = {key: float(f"{value * factor:.2g}") if key.endswith("learning_rate") else value
               for key, value in searched.items()}
    return {"paper": {key: value for key, value in paper.items() if key in jobs.SETTINGS}, "between": between,
            "tuned": jobs.tuned("wgan-gp-steps") if objective == "wgan-gp" else searched}


def cell(objective, setting, chosen, dim, compute):
    """The options of a run without its seed."""
    change, work = SETTINGS[setting]
    change = dict(change)
    if "critic_norm" in change and objective == "wgan-gp":
        change = {"critic_norm": "layer"}  # it has no norm anyway; section 5.2 has layer norm
    options = {"objective": objective, "arch": "conv", "batch": BATCH, **chosen, **change,
               "dim": max(1, int(dim * change.get("dim", 1)))}
    plain = options["arch"] == "conv" and not options.get("critic_norm") and "critic_variant" not in options
    if objective == "wgan-gp" and not plain:
        work *= DOUBLE_BACKWARD
    return {**options, "iterations": jobs.iterations(options, compute / work)}


def cells(seeds, dim=DIM, compute=COMPUTE):
    """{(objective, setting, name of the rate): options of its runs, by seed}."""
    return {(objective, setting, rate): [{**cell(objective, setting, chosen, dim, compute), "seed": seed}
                                         for seed in range(seeds)]
            for objective in OBJECTIVES for setting in SETTINGS for rate, chosen in rates(objective).items()}


def pairs(both):
    """Of pairs of (whether the first came true, whether the second did): how often only the first, only the second,
    both or neither."""
    return [sum(pair == case for pair in both) for case in ((1, 0), (0, 1), (1, 1), (0, 0))]


def sign_test(both):
    """Of such pairs by setting, {setting: pairs}: the settings where the first came true more often, where the second
    did, where both did equally, and the exact two-sided p of the first two counts under equal chances. The runs of a
    setting are not independent, so it counts once."""
    more = [np.sign(sum(first - second for first, second in mine)) for mine in both.values()]
    counts = [more.count(sign) for sign in (1, -1, 0)]
    return *counts, binomtest(counts[0], sum(counts[:2])).pvalue if any(counts[:2]) else 1.0


def summarise(wanted, lines):
    """The content of stability.json: every cell with its runs, how many of each objective trained, and the pairs.

    wanted: of `cells`. lines: {jobs.key of a run: its line}; what is missing is left out.
    """
    found, totals, result = [], {}, {}
    for (objective, setting, rate), work in wanted.items():
        mine = [lines[jobs.key(options)] for options in work if jobs.key(options) in lines]
        found.append({
            "objective": objective, "setting": setting, "rate": rate, "learning_rate": work[0]["learning_rate"],
            "iterations": work[0]["iterations"], "outcomes": [line["outcome"] for line in mine],
            "relative_distances": [line["relative_distance"] for line in mine]})
    for objective in OBJECTIVES:
        mine = [entry for entry in found if entry["objective"] == objective]
        outcomes = Counter(outcome for entry in mine for outcome in entry["outcomes"])
        readings = {reading: sum(outcomes[outcome] for outcome in good) for reading, good in READINGS.items()}
        by_rate, settings = Counter(), set()  # runs that trained; settings in which all seeds did, at some rate
        for entry in mine:
            by_rate[entry["rate"]] += trained(entry)
            if trained(entry) == len(entry["outcomes"]) > 0:
                settings.add(entry["setting"])
        totals[objective] = {
            "runs": outcomes.total(), **readings, "collapsed": outcomes["collapsed"], "diverged": outcomes["diverged"],
            "trained_by_rate": by_rate, "settings_trained_at_some_rate": len(settings)}
    # Runs of the same setting, rate and seed, as the paper's table 2 counts architectures: which of the two trained.
    for reading, good in READINGS.items():
        both = {setting: [] for setting in SETTINGS}
        for (objective, setting, rate), work in wanted.items():
            if objective == "dcgan":
                two = [[lines.get(jobs.key(options)) for options in pair]
                       for pair in zip(work, wanted["wgan-gp", setting, rate])]
                both[setting] += [tuple(line["outcome"] in good for line in pair) for pair in two if None not in pair]
        flat = list(itertools.chain(*both.values()))
        result[PAIRS[reading]] = dict(zip(("only_dcgan", "only_wgan_gp", "both", "neither"), pairs(flat)))
        result[SIGNS[reading]] = dict(zip(("more_dcgan", "more_wgan_gp", "equal", "p"), sign_test(both)))
    return {"totals": totals, **result, "cells": found}


def trained(cell):
    """How many of its runs."""
    return sum(map(cell["outcomes"].count, READINGS["trained"]))


def markdown(result):
    """By setting and objective: runs trained at the best of the rates, of all rates, the least distance of these."""
    rows = []
    for setting in SETTINGS:
        texts = []
        for objective in OBJECTIVES:
            mine = [e for e in result["cells"] if (e["objective"], e["setting"]) == (objective, setting)]
            counts, n = list(map(trained, mine)), [len(entry["outcomes"]) for entry in mine]
            distances = [distance for entry in mine for distance, outcome in
                         zip(entry["relative_distances"], entry["outcomes"]) if outcome in READINGS["trained"]]
            least = f" ({min(distances):.0f})" if distances else ""
            texts.append(f"{max(counts)} of {max(n)}; {sum(counts)} of {sum(n)}{least}")
        rows.append((setting, *texts))
    return table(("", *(NAMES[objective] for objective in OBJECTIVES)), rows)


def readings_markdown(result):
    """Both readings: runs of each objective; pairs and settings of DCGAN and WGAN-GP; as the table in README.md."""
    totals, rows = result["totals"].values(), []
    for reading, title in (("trained", "all ten classes"), ("within_100", "within 100, too")):
        both, sign = result[PAIRS[reading]], result[SIGNS[reading]]
        rows.append((title, *(f"{total[reading]} of {total['runs']}" for total in totals),
                     f"{both['only_dcgan']}, {both['only_wgan_gp']}", f"{sign['more_dcgan']}, {sign['more_wgan_gp']}",
                     f"{sign['p'] + 1e-9:.2f}"))
    head = "pairs: only DCGAN, only WGAN-GP", "settings: more DCGAN, more WGAN-GP", "p"
    return table(("", *(NAMES[objective] for objective in OBJECTIVES), *head), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/stability.py --summary    the tables of what is there, in seconds
  python q4_wgan/experiments/stability.py              what is missing, one run per core
  python q4_wgan/experiments/stability.py --dim 2 --compute 20 --seeds 1               a smoke test, some minutes
  python q4_wgan/experiments/stability.py --scheduler tcp://host:8786   on a Dask cluster; scheduler and workers are
                                started in the root of a copy of this repository: PYTHONPATH=. dask scheduler""")
    parser.add_argument("--seeds", type=number(int, 1, 100), default=SEEDS, help=f"of every cell (default: {SEEDS})")
    args = jobs.parse(parser, DIM, COMPUTE)

    wanted = cells(args.seeds, args.dim, args.compute)
    # Seeds first: a study that is stopped early has some runs of every cell.
    work = sorted((options for cell in wanted.values() for options in cell), key=lambda options: options["seed"])
    found = jobs.run_missing(work, "stability", args)
    result = summarise(wanted, {jobs.key(line): line for line in found if line})
    jobs.publish("stability", args, result, plots.stability(result), markdown(result), readings_markdown(result))


if __name__ == "__main__":
    run_main(main)
