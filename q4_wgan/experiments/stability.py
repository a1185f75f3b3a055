"""How often does training fail? DCGAN, WGAN-GP and WGAN with clipping in eight settings, at three learning rates.

After table 2 and figure 2 of Gulrajani et al. 2017, on Fashion-MNIST at D = 16, two seeds each. Every run has the same
compute, about 4 minutes of a core. Two readings are counted: a run "trained" if it has all ten classes, with 1 % of the
images each ("converged" or "far"; else "collapsed", or "diverged" with NaN), which was fixed before the runs; and it is
"within 100" if it has converged by the rule of README.md, at a relative distance of at most 100. Beside that stands
whether it had come to rest (less than 10 % better over the last third).

A run is a line of results/q4/stability.jsonl or --out's as it ends; killed, the same command goes on, at most a minute
back. Writes stability.json and stability.png, prints the tables. 144 runs, ten hours of a core.
"""

import math
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan.command import Parser, as_json, number, run_main, shown, write
from q4_wgan.experiments import jobs, plots
from q4_wgan.experiments.stats import pairs, table
from q4_wgan.objectives import OBJECTIVES
from q4_wgan.plots import NAMES
from q4_wgan.training import BATCH, PAPER

DIM, COMPUTE, SEEDS = 16, 8_000, 2  # 8,000 iterations of DCGAN's baseline: 4 minutes of a core
POINTS = 2 / 3, 1.0
NO_NORM, TANH = {"norm": False}, {"activation": "tanh"}
# What differs from the baseline, and what an iteration costs then, in iterations of the baseline: medians of processor
# time in turns. The record has the seconds that each run took.
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
RATES = "paper", "between", "tuned"
SEARCHED = {"dcgan": "dcgan", "wgan-gp": "wgan-gp", "wgan-clip": "wgan-clip"}  # the list of tune.py that "tuned" is of
READINGS = {"trained": ("converged", "far"), "within_100": ("converged",)}  # by which a run counts: its outcomes
PAIRS = {"trained": "only_dcgan_or_wgan_gp", "within_100": "only_dcgan_or_wgan_gp_within_100"}  # of stability.json
# Gulrajani et al. 2017, table 2: (least Inception score, only GAN, only WGAN-GP, both, neither) of 200 architectures.
TABLE_2 = ((1.0, 0, 8, 192, 0), (3.0, 1, 88, 110, 1), (5.0, 0, 147, 42, 11), (7.0, 1, 104, 5, 90), (9.0, 0, 0, 0, 200))


def rates(objective):
    """{name: settings} of the three learning rates: the paper's settings, those of tune.py, and rates between.

    Between: both rates of the search by one factor, so that the critic's is the geometric mean of the other two.
    """
    paper, five_steps = PAPER[objective], jobs.tuned(objective)
    factor = math.sqrt(paper["learning_rate"] / five_steps["learning_rate"])
    between = {key: float(f"{value * factor:.2g}") if key.endswith("learning_rate") else value
               for key, value in five_steps.items()}
    return {"paper": {key: value for key, value in paper.items() if key in jobs.SETTINGS}, "between": between,
            "tuned": jobs.tuned(SEARCHED[objective])}


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


def cells(seeds, dim=DIM, compute=COMPUTE, wanted=RATES):
    """{(objective, setting, name of the rate): options of its runs, by seed}."""
    return {(objective, setting, rate): [{**cell(objective, setting, chosen, dim, compute), "seed": seed}
                                         for seed in range(seeds)]
            for objective in OBJECTIVES for setting in SETTINGS
            for rate, chosen in rates(objective).items() if rate in wanted}


def came_to_rest(line):
    """Whether the relative distance was less than 10 % better at the end than at two thirds; None where it diverged."""
    if line["outcome"] == "diverged":
        return None
    return line["curve"][-1]["relative_distance"] > 0.9 * line["curve"][0]["relative_distance"]


def summarise(wanted, lines):
    """The content of stability.json: every cell with its runs, how many of each objective trained, and the pairs.

    wanted: of `cells`. lines: {jobs.key of a run: its line}; what is missing is left out.
    """
    table, totals, study = [], {}, {}
    for (objective, setting, rate), work in wanted.items():
        mine = [lines[jobs.key(options)] for options in work if jobs.key(options) in lines]
        table.append({
            "objective": objective, "setting": setting, "rate": rate, "learning_rate": work[0]["learning_rate"],
            "iterations": work[0]["iterations"], "outcomes": [line["outcome"] for line in mine],
            "relative_distances": [line["relative_distance"] for line in mine],
            "came_to_rest": [came_to_rest(line) for line in mine],
            "core_seconds": [line["core_seconds"] for line in mine]})
    for objective in OBJECTIVES:
        mine = [entry for entry in table if entry["objective"] == objective]
        outcomes, distances = sum((entry["outcomes"] for entry in mine), []), of_trained(mine)
        # By setting, whether all seeds trained, at each of the rates.
        all_trained = [[trained(entry) == len(entry["outcomes"]) > 0 for entry in mine if entry["setting"] == setting]
                       for setting in SETTINGS]
        totals[objective] = {
            "runs": len(outcomes), "trained": sum(map(trained, mine)),
            **{outcome: outcomes.count(outcome) for outcome in ("collapsed", "diverged")},
            "within_100": sum(trained(entry, "within_100") for entry in mine),
            **{f"{reading}_by_rate": {rate: sum(trained(entry, reading) for entry in mine if entry["rate"] == rate)
                                      for rate in dict.fromkeys(entry["rate"] for entry in mine)}
               for reading in READINGS},
            "settings_trained_at_some_rate": sum(map(any, all_trained)),
            "settings_trained_at_every_rate": sum(map(all, all_trained)),
            "came_to_rest": sum(rest is True for entry in mine for rest in entry["came_to_rest"]),
            "relative_distance_of_trained": {"median": statistics.median(distances), "least": min(distances),
                                             "most": max(distances)} if distances else None}
    # Runs of the same setting, rate and seed, as the paper's table 2 counts architectures: which of the two trained.
    both = [[lines.get(jobs.key(options)) for options in two] for (objective, *of), work in wanted.items()
            if objective == "dcgan" for two in zip(work, wanted[("wgan-gp", *of)])]
    for reading, good in READINGS.items():
        counts, p = pairs([[line["outcome"] in good for line in two] for two in both if None not in two])
        study[PAIRS[reading]] = dict(zip(("only_dcgan", "only_wgan_gp", "both", "neither"), counts))
        study[f"p_{reading}"] = p
    return {"totals": totals, **study, "cells": table}


def trained(cell, reading="trained"):
    """How many of its runs count."""
    return sum(map(cell["outcomes"].count, READINGS[reading]))


def of_trained(cells):
    """The relative distances of those runs that trained."""
    return [distance for cell in cells for distance, outcome in zip(cell["relative_distances"], cell["outcomes"])
            if outcome in READINGS["trained"]]


def markdown(result):
    """By setting and objective: runs trained at the best of the rates, of all rates, the least distance of these."""
    rows = []
    for setting in SETTINGS:
        texts = []
        for objective in OBJECTIVES:
            mine = [e for e in result["cells"] if (e["objective"], e["setting"]) == (objective, setting)]
            counts, n = list(map(trained, mine)), [len(entry["outcomes"]) for entry in mine]
            least = f" ({min(of_trained(mine)):.0f})" if any(counts) else ""
            texts.append(f"{max(counts)} of {max(n)}; {sum(counts)} of {sum(n)}{least}")
        rows.append((setting, *texts))
    return table(("", *(NAMES[objective] for objective in OBJECTIVES)), rows)


def readings_markdown(result):
    """Both readings: runs of each objective, and pairs of DCGAN and WGAN-GP, as the table in README.md."""
    rows = []
    for reading, title in (("trained", "all ten classes"), ("within_100", "within 100, too")):
        both = result[PAIRS[reading]]
        rows.append((title, *(f"{result['totals'][objective][reading]} of {result['totals'][objective]['runs']}"
                              for objective in OBJECTIVES),
                     both["only_dcgan"], both["only_wgan_gp"], f"{result[f'p_{reading}']:.2g}"))
    return table(("", *(NAMES[objective] for objective in OBJECTIVES), "only DCGAN", "only WGAN-GP", "p"), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/stability.py --summary    the tables of what is there, in seconds
  python q4_wgan/experiments/stability.py              what is missing, one run per core
  python q4_wgan/experiments/stability.py --quick      minutes, far too short: to see that it works
  python q4_wgan/experiments/stability.py --scheduler tcp://host:8786   on a Dask cluster; scheduler and workers are
                                started in the root of a copy of this repository: PYTHONPATH=. dask scheduler""")
    parser.add_argument("--seeds", type=number(int, 1, 100), default=SEEDS, help=f"of every cell (default: {SEEDS})")
    parser.add_argument("--quick", action="store_true",
                        help="one seed and rate, D = 2, a few iterations; writes stability_quick.*")
    jobs.add_arguments(parser, DIM, COMPUTE)
    args = jobs.parse(parser)

    wanted = cells(*((1, 2, 20, ("tuned",)) if args.quick else (args.seeds, args.dim, args.compute)))
    # Seeds first: a study that is stopped early has some runs of every cell.
    work = sorted((options for cell in wanted.values() for options in cell), key=lambda options: options["seed"])
    name = "stability" + "_quick" * args.quick
    found = jobs.run_missing(work, name, args, points=POINTS)
    result = summarise(wanted, {jobs.key(line): line for line in found if line})
    write(args.out / f"{name}.json", as_json(result))
    write(args.out / f"{name}.png", plots.stability(result, TABLE_2), sync=False)
    print(markdown(result), readings_markdown(result), sep="\n\n")
    if None in found:
        print(f"{found.count(None)} of {len(found)} runs are missing")
    print(f"saved {shown(args.out / name)}.json and .png")


if __name__ == "__main__":
    run_main(main)
