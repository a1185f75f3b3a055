"""The search for settings, equal for DCGAN, WGAN-GP and WGAN with clipping: successive halving of random draws.

24 draws of each objective, from the same distributions, train for a tenth of the compute of compare.py; the best 8 of
each for three tenths; of DCGAN and WGAN-GP, which compare.py compares, the best 3 for all of it. Every training starts
anew, since the learning rates fall to 0 at its end. A short search alone misleads: DCGAN's best draws in it, of a high
generator's rate, lose in the long run. All are compared by the relative distance to the validation images. D = 32, one
thread.

A run is a line of results/q4/tuning.jsonl as it ends; killed, the same command goes on, at most a minute back. Writes
results/q4/tuning.json (the best draw of each objective on its last rung, and whether it lies at an edge) and
tuning.png, and prints the table. Takes twelve hours of a core.
"""

import itertools
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import plots, runs
from q4_wgan.classifier import suffix
from q4_wgan.command import Parser, as_json, positive, run_main, write
from q4_wgan.summary import NAMES, table

OBJECTIVES = ("dcgan", "wgan-gp", "wgan-clip")
RANGES = ((2e-4, 2e-2), (1 / 4, 8)), ((5e-4, 1e-2), (4, 32))  # of the critic's rate and of the generator's ratio to it
DRAWS, NARROW = 24, 16  # of every objective; the first NARROW from the first pair of ranges, the others from the second
DIM, COMPUTE = 32, 3_000  # iterations of DCGAN that the compute of a run of the first rung is
RUNGS = (1, OBJECTIVES, 8), (3, OBJECTIVES, 3), (10, OBJECTIVES[:2], 1)  # times the compute, of which, how many go on
EDGE = 0.1  # of a range in log: a best draw that close to its end asks for a wider one


def draw(objective, i, dim=DIM, compute=COMPUTE):
    """The options of draw number i of an objective."""
    random = np.random.default_rng([OBJECTIVES.index(objective), i])
    rates, ratios = RANGES[i >= NARROW]
    rate, ratio = 10 ** random.uniform(*map(math.log10, rates)), 2 ** random.uniform(*map(math.log2, ratios))
    beta1, penalised = float(random.choice([0.0, 0.5])), int(random.choice([16, 32, 64]))
    rate, ratio = float(f"{rate:.2g}"), float(f"{ratio:.2g}")
    options = {"objective": objective, "arch": "conv", "dim": dim, "batch": runs.BATCH, "learning_rate": rate,
               "generator_learning_rate": float(f"{rate * ratio:.2g}")}
    if objective != "wgan-clip":  # which has RMSProp
        options["beta1"] = beta1
    if objective == "wgan-gp":
        options["penalty_images"] = penalised
    return {**options, "iterations": runs.iterations(options, compute), "seed": 0, "precision": "bfloat16", "draw": i}


def edges(line):
    """Which of the searched ranges a draw lies at the end of: {"learning_rate": "high", ...}."""
    values = {"learning_rate": line["learning_rate"],
              "generator's ratio": line["generator_learning_rate"] / line["learning_rate"]}
    found = {}
    for (key, value), pairs in zip(values.items(), zip(*RANGES)):
        low, high = math.log(min(pair[0] for pair in pairs)), math.log(max(pair[1] for pair in pairs))
        place = (math.log(value) - low) / (high - low)
        if not EDGE <= place <= 1 - EDGE:
            found[key] = "low" if place < EDGE else "high"
    return found


def ranked(lines, objective, rung):
    """The lines of an objective on a rung: what trained, by relative distance, then the others."""
    found = [line for line in lines if (line["objective"], line["rung"]) == (objective, rung)]
    return sorted(found, key=lambda line: (line["outcome"] != "trained", line["relative_distance"] or math.inf))


def search(args, path):
    """The lines of all rungs, each with its "rung", 0, 1 or 2. path: of the record."""
    def folder(options):
        return args.results_dir.resolve() / "runs/tune_{objective}_{draw}_{iterations}".format(**options)

    draws, lines = {objective: range(args.draws) for objective in OBJECTIVES}, []
    for rung, (times, objectives, kept) in enumerate(RUNGS):
        # The objectives in turns: a search that is stopped early has some draws of each.
        work = [draw(objective, i, args.dim, times * args.compute)
                for numbers in itertools.zip_longest(*(draws[objective] for objective in objectives))
                for objective, i in zip(objectives, numbers) if i is not None]
        if not work:  # nothing trained on the rung below
            break
        found = runs.run_missing(work, path, args.jobs, folder=folder, where=runs.where(args))
        lines += [line | {"rung": rung} for line in found]
        draws = {objective: [line["draw"] for line in ranked(lines, objective, rung)[:kept]
                             if line["outcome"] == "trained"] for objective in objectives}
    return lines


def summarise(lines):
    """{objective: number of draws, outcomes, the best line of the last rung, and the ends of the ranges it lies at}."""
    summary = {}
    for objective in OBJECTIVES:
        outcomes = [line["outcome"] for line in ranked(lines, objective, 0)]
        rungs = [ranked(lines, objective, rung) for rung in range(len(RUNGS))]
        best = next((found[0] for found in reversed(rungs) if found and found[0]["outcome"] == "trained"), None)
        summary[objective] = {
            "draws": len(outcomes),
            "outcomes": {outcome: outcomes.count(outcome) for outcome in ("trained", "collapsed", "diverged")},
            "best": best, "edges": edges(best) if best else {}}
    return summary


def markdown(lines):
    """Every draw that went on, as the table in EXPERIMENTS.md: settings, and its relative distance on each rung."""
    rows = []
    for objective in OBJECTIVES:
        rungs = [ranked(lines, objective, rung) for rung in range(len(RUNGS))]
        # Those that came furthest first, the best first among them.
        for number in dict.fromkeys(line["draw"] for found in rungs[:0:-1] for line in found):
            mine = [line for found in rungs for line in found if line["draw"] == number]
            distances = [f"{line['relative_distance']:.1f}" for line in mine] + [""] * (len(RUNGS) - len(mine))
            settings = (f"{mine[0][key]:g}" if key in mine[0] else "" for key in runs.SETTINGS)
            rows.append((NAMES[objective], *settings, *distances, f"{mine[-1]['relative_distance_pixels']:.1f}"))
    return table(("", "critic's rate", "generator's rate", "beta1", "penalty on", "a tenth", "three tenths", "all",
                  "in pixels"), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/tune.py                  one run per core: six hours on 2 cores
  python q4_wgan/tune.py --dim 4 --compute 20 --draws 2 --results-dir try    a smoke test, some minutes""")
    parser.add_argument("--draws", type=positive, default=DRAWS,
                        help=f"of every objective, on the first rung (default: {DRAWS})")
    runs.add_arguments(parser, DIM, COMPUTE)
    args = parser.parse_args()

    path = args.results_dir / "q4" / f"tuning{suffix(args.dataset)}.json"
    lines = search(args, path.with_suffix(".jsonl"))
    summary = summarise(lines)
    write(path, as_json(summary))
    plots.tuning(lines, path.with_suffix(".png"))
    print(markdown(lines))
    for objective, found in summary.items():
        for key, end in found["edges"].items():
            print(f"{NAMES[objective]}: the best draw lies at the {end} end of the range of the {key}: widen it")
    print(f"saved {path} and .png")


if __name__ == "__main__":
    run_main(main)
