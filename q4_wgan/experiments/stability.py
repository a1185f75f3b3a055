"""How often does training collapse? DCGAN, WGAN-GP and WGAN with clipping in eight settings, at three learning rates.

After table 2 and figure 2 of Gulrajani et al. 2017, on Fashion-MNIST at D = 16, two seeds each. Every run has the same
compute, about 4 minutes of a core. Its outcome, fixed before the runs: "diverged" (NaN), "collapsed" (fewer than ten
classes with 1 % of the images each) or "trained". The distance is no part of it; it is reported beside, with whether it
had come to rest (less than 10 % better over the last third of the run).

A run is a line of results/q4/stability.jsonl as it ends: stopped or killed, the same command goes on. Writes
results/q4/stability.json and stability.png, prints the table. 144 runs, ten hours of a core; they go through joblib on
this machine or, with --scheduler, to a Dask cluster.
"""

import math
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import plots, runs
from q4_wgan.classifier import suffix
from q4_wgan.command import Parser, UserError, as_json, number, run_main, write
from q4_wgan.objectives import OBJECTIVES
from q4_wgan.summary import NAMES, table

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
# Gulrajani et al. 2017, table 2: (least Inception score, only GAN, only WGAN-GP, both, neither) of 200 architectures.
PAPER = ((1.0, 0, 8, 192, 0), (3.0, 1, 88, 110, 1), (5.0, 0, 147, 42, 11), (7.0, 1, 104, 5, 90), (9.0, 0, 0, 0, 200))


def rates(objective, tuned):
    """{name: settings} of the three learning rates: the paper's settings, those of tune.py, and these at rates between.

    Between: both learning rates of `tuned` by one factor, so that the critic's is the geometric mean of the other two.
    """
    paper = OBJECTIVES[objective].learning_rate
    factor = math.sqrt(paper / tuned["learning_rate"])
    between = {key: float(f"{value * factor:.2g}") if key.endswith("learning_rate") else value
               for key, value in tuned.items()}
    return dict(zip(RATES, ({"learning_rate": paper}, between, tuned)))


def cell(objective, setting, chosen, dim, compute):
    """The options of a run without its seed."""
    change, work = SETTINGS[setting]
    change = dict(change)
    if "critic_norm" in change and objective == "wgan-gp":
        change = {"critic_norm": "layer"}  # it has no norm anyway; section 5.2 has layer norm
    options = {"objective": objective, "arch": "conv", "batch": runs.BATCH, **chosen, **change,
               "dim": max(1, int(dim * change.get("dim", 1))), "precision": "bfloat16"}
    plain = options["arch"] == "conv" and not options.get("critic_norm") and "critic_variant" not in options
    if objective == "wgan-gp" and not plain:
        work *= DOUBLE_BACKWARD
    return {**options, "iterations": runs.iterations(options, compute / work)}


def cells(tuned, seeds, dim=DIM, compute=COMPUTE, wanted=RATES):
    """{(objective, setting, name of the rate): options of its runs, by seed}."""
    return {(objective, setting, rate): [{**cell(objective, setting, chosen, dim, compute), "seed": s}
                                         for s in range(seeds)]
            for objective in OBJECTIVES for setting in SETTINGS
            for rate, chosen in rates(objective, tuned[objective]).items() if rate in wanted}


def came_to_rest(line):
    """Whether the relative distance was less than 10 % better at the end than at two thirds; None where it diverged."""
    if line["outcome"] == "diverged":
        return None
    return line["curve"][-1]["relative_distance"] > 0.9 * line["curve"][0]["relative_distance"]


def summarise(wanted, lines):
    """The content of stability.json: every cell with its runs, and how many objectives train by setting."""
    done, table, totals = {runs.key(line): line for line in lines}, [], {}
    for (objective, setting, rate), work in wanted.items():
        mine = [done[runs.key(options)] for options in work]
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
        trained = [[set(entry["outcomes"]) == {"trained"} for entry in mine if entry["setting"] == setting]
                   for setting in SETTINGS]
        totals[objective] = {
            "runs": len(outcomes), **{o: outcomes.count(o) for o in ("trained", "collapsed", "diverged")},
            "trained_by_rate": {rate: sum(entry["outcomes"].count("trained") for entry in mine if entry["rate"] == rate)
                                for rate in dict.fromkeys(entry["rate"] for entry in mine)},
            "settings_trained_at_some_rate": sum(map(any, trained)),
            "settings_trained_at_every_rate": sum(map(all, trained)),
            "came_to_rest": sum(rest is True for entry in mine for rest in entry["came_to_rest"]),
            "relative_distance_of_trained": {"median": statistics.median(distances), "least": min(distances),
                                             "most": max(distances)} if distances else None}
    # Runs of the same setting, rate and seed, as the paper's table 2 counts architectures: which of the two trained.
    both = list(zip(*([outcome == "trained" for entry in table if entry["objective"] == objective
                       for outcome in entry["outcomes"]] for objective in ("dcgan", "wgan-gp"))))
    return {"totals": totals, "only_dcgan_or_wgan_gp": {
        "only_dcgan": both.count((True, False)), "only_wgan_gp": both.count((False, True)),
        "both": both.count((True, True)), "neither": both.count((False, False))}, "cells": table}


def of_trained(cells):
    """The relative distances of those runs that trained."""
    return [d for cell in cells for d, o in zip(cell["relative_distances"], cell["outcomes"]) if o == "trained"]


def markdown(result):
    """By setting and objective: runs trained at the best of the rates, of all rates, the least distance of these."""
    rows = []
    for setting in SETTINGS:
        texts = []
        for objective in OBJECTIVES:
            mine = [e for e in result["cells"] if (e["objective"], e["setting"]) == (objective, setting)]
            counts, seeds = [entry["outcomes"].count("trained") for entry in mine], len(mine[0]["outcomes"])
            least = f" ({min(of_trained(mine)):.0f})" if any(counts) else ""
            texts.append(f"{max(counts)} of {seeds}; {sum(counts)} of {seeds * len(mine)}{least}")
        rows.append((setting, *texts))
    return table(("", *(NAMES[objective] for objective in OBJECTIVES)), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/stability.py                       after tune.py: the study, five hours on 2 cores
  python q4_wgan/stability.py --quick               minutes, far too short: to see that it works
  python q4_wgan/stability.py --scheduler tcp://host:8786   on a Dask cluster; scheduler and workers are started in the
                                                    root of a copy of this repository: PYTHONPATH=. dask scheduler""")
    parser.add_argument("--seeds", type=number(int, 1, 100), default=SEEDS, help=f"of every cell (default: {SEEDS})")
    parser.add_argument("--quick", action="store_true",
                        help="one seed and rate, D = 2, a few iterations; writes results/q4/stability_quick.*")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster to run on: tcp://host:8786")
    runs.add_arguments(parser, DIM, COMPUTE)
    args = parser.parse_args()
    if args.scheduler is not None and args.jobs:
        raise UserError("--jobs is for this machine; a cluster has as many workers as were started")

    size = (1, 2, 20, ("tuned",)) if args.quick else (args.seeds, args.dim, args.compute)
    tuned = {objective: runs.tuned(args.results_dir, args.dataset, objective) for objective in OBJECTIVES}
    wanted = cells(tuned, *size)
    # Seeds first: a study that is stopped early has some runs of every cell.
    work = sorted((options for cell in wanted.values() for options in cell), key=lambda options: options["seed"])
    path = args.results_dir / "q4" / f"stability{'_quick' if args.quick else ''}{suffix(args.dataset)}.json"
    client = runs.connect(args.scheduler) if args.scheduler is not None else None
    lines = runs.run_missing(work, path.with_suffix(".jsonl"), args.jobs, client, points=POINTS, where=runs.where(args))
    if client:
        client.close()
    result = summarise(wanted, lines)
    write(path, as_json(result))
    plots.stability(result, PAPER, path.with_suffix(".png"))
    print(markdown(result))
    print(f"saved {path} and .png")


if __name__ == "__main__":
    run_main(main)
