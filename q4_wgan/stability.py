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
from q4_wgan.command import Parser, UserError, add_folders, as_json, name, number, run_main, write
from q4_wgan.objectives import OBJECTIVES
from q4_wgan.summary import NAMES as TITLES

NAMES = {objective: TITLES[objective] for objective in ("dcgan", "wgan-gp", "wgan-clip")}
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


def cell(objective, setting, chosen, dim=DIM, compute=COMPUTE):
    """The options of a run without its seed."""
    change, work = SETTINGS[setting]
    change = dict(change)
    if "critic_norm" in change and objective == "wgan-gp":
        change = {"critic_norm": "layer"}  # it has no norm anyway; section 5.2 has layer norm
    options = {"objective": objective, "arch": "conv", "batch": runs.BATCH, **chosen, **change,
               "dim": int(dim * change.get("dim", 1)), "precision": "bfloat16"}
    plain = options["arch"] == "conv" and not options.get("critic_norm") and "critic_variant" not in options
    if objective == "wgan-gp" and not plain:
        work *= DOUBLE_BACKWARD
    return {**options, "iterations": runs.iterations(options, compute / work)}


def cells(tuned, seeds, wanted=RATES, **size):
    """{(objective, setting, name of the rate): options of its runs, by seed}."""
    return {(objective, setting, rate): [{**cell(objective, setting, chosen, **size), "seed": s} for s in range(seeds)]
            for objective in NAMES for setting in SETTINGS
            for rate, chosen in rates(objective, tuned[objective]).items() if rate in wanted}


def came_to_rest(line):
    """Whether the relative distance was less than 10 % better at the end than at two thirds; None where it diverged."""
    if line["outcome"] == "diverged":
        return None
    return line["curve"][-1]["relative_distance"] > 0.9 * line["curve"][0]["relative_distance"]


def summarise(wanted, lines):
    """The content of stability.json: every cell with its runs, and how many objectives train by setting."""
    done = {runs.key(line): line for line in lines}
    table = []
    for (objective, setting, rate), work in wanted.items():
        mine = [done[runs.key(options)] for options in work if runs.key(options) in done]
        table.append({
            "objective": objective, "setting": setting, "rate": rate, "learning_rate": work[0]["learning_rate"],
            "iterations": work[0]["iterations"], "outcomes": [line["outcome"] for line in mine],
            "relative_distances": [line["relative_distance"] for line in mine],
            "came_to_rest": [came_to_rest(line) for line in mine],
            "core_seconds": [line["core_seconds"] for line in mine]})
    total = {}
    for objective in NAMES:
        mine = [entry for entry in table if entry["objective"] == objective]
        outcomes = [outcome for entry in mine for outcome in entry["outcomes"]]
        distances = [d for entry in mine for d in of_trained(entry)]
        total[objective] = {
            "runs": len(outcomes), **{o: outcomes.count(o) for o in ("trained", "collapsed", "diverged")},
            "settings_trained_at_some_rate": sum(trains(mine, setting) for setting in SETTINGS),
            "settings_trained_at_every_rate": sum(trains(mine, setting, all) for setting in SETTINGS),
            "came_to_rest": sum(rest is True for entry in mine for rest in entry["came_to_rest"]),
            "relative_distance_of_trained": {"median": statistics.median(distances), "least": min(distances),
                                             "most": max(distances)} if distances else None}
    return {"totals": total, "only_dcgan_or_wgan_gp": pairs(table), "cells": table}


def of_trained(entry):
    """The relative distances of those runs of a cell that trained."""
    return [d for d, outcome in zip(entry["relative_distances"], entry["outcomes"]) if outcome == "trained"]


def trains(table, setting, of=any):
    """Whether all runs of a setting trained, at any of the rates or `of=all` of them."""
    return of(bool(entry["outcomes"]) and set(entry["outcomes"]) == {"trained"}
              for entry in table if entry["setting"] == setting)


def pairs(table):
    """Runs of the same setting, rate and seed, counted as in the paper's table 2: which of the two trained."""
    found = {key[1:]: value for key, value in by_cell(table).items() if key[0] == "dcgan"}
    others = {key[1:]: value for key, value in by_cell(table).items() if key[0] == "wgan-gp"}
    both = [(a == "trained", b == "trained") for key in found for a, b in zip(found[key], others[key])]
    return {"only_dcgan": both.count((True, False)), "only_wgan_gp": both.count((False, True)),
            "both": both.count((True, True)), "neither": both.count((False, False))}


def by_cell(table):
    return {(entry["objective"], entry["setting"], entry["rate"]): entry["outcomes"] for entry in table}


def markdown(result):
    """By setting and objective: runs trained at the best of the rates, of all rates, the least distance of these."""
    rows = ["| | " + " | ".join(NAMES.values()) + " |", "|---" * (len(NAMES) + 1) + "|"]
    for setting in SETTINGS:
        texts = []
        for objective in NAMES:
            mine = [e for e in result["cells"] if (e["objective"], e["setting"]) == (objective, setting)]
            counts = [entry["outcomes"].count("trained") for entry in mine]
            distances = [d for entry in mine for d in of_trained(entry)]
            texts.append(f"{max(counts)} of {max(len(e['outcomes']) for e in mine)}; {sum(counts)} of "
                         f"{sum(len(e['outcomes']) for e in mine)}" + (f" ({min(distances):.0f})" if distances else ""))
        rows.append(f"| {setting} | {' | '.join(texts)} |")
    return "\n".join(rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/stability.py                       after tune.py: the study, five hours on 2 cores
  python q4_wgan/stability.py --quick               a minute, far too short: to see that it works
  python q4_wgan/stability.py --scheduler tcp://host:8786   on a Dask cluster; scheduler and workers are started in the
                                                    root of a copy of this repository: PYTHONPATH=. dask scheduler""")
    parser.add_argument("--seeds", type=number(int, 1, 100), help=f"runs of every cell (default: {SEEDS}; --quick: 1)")
    parser.add_argument("--quick", action="store_true",
                        help="a few iterations at D = 2, one rate; writes results/q4/stability_quick.*")
    parser.add_argument("--jobs", type=number(int, 1, 1024),
                        help="runs at once on this machine (default: one per core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster to run on: tcp://host:8786")
    parser.add_argument("--dataset", type=name, default="fashion", help="(default: fashion)")
    add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()
    if args.scheduler is not None and args.jobs:
        raise UserError("--jobs is for this machine; a cluster has as many workers as were started")

    folder, stem = args.results_dir / "q4", "stability_quick" if args.quick else "stability"
    tuned = {objective: runs.settings(runs.best(folder / "tuning.jsonl", objective)) for objective in NAMES}
    size = {"dim": 2, "compute": 20, "wanted": ("tuned",)} if args.quick else {}
    wanted = cells(tuned, args.seeds or (1 if args.quick else SEEDS), **size)
    # Seeds first: a study that is stopped early has some runs of every cell.
    work = sorted((options for cell in wanted.values() for options in cell), key=lambda options: options["seed"])
    # A worker on another machine takes the images and weights of its own copy, unless told where.
    where = args.dataset, *(None if getattr(args, key) == parser.get_default(key) else getattr(args, key).resolve()
                            for key in ("data_dir", "weights_dir"))
    client = runs.connect(args.scheduler) if args.scheduler is not None else None
    if not client:
        runs.ground(*where)  # missing images or weights: say so now
    for lines in runs.run_missing(work, folder / f"{stem}.jsonl", args.jobs, client, points=POINTS, where=where):
        pass
    if client:
        client.close()
    result = summarise(wanted, lines)
    write(folder / f"{stem}.json", as_json(result))
    plots.stability(result, PAPER, folder / f"{stem}.png")
    print(markdown(result))
    print(f"saved {folder / stem}.json and .png")


if __name__ == "__main__":
    run_main(main)
