"""Equal search: 24 random draws of the settings for DCGAN, WGAN-GP and clipping, compared on validation images.

The draws of all three have the same distributions: the critic's learning rate log-uniform from 2e-4 to 2e-2, the
generator's 1/4 to 8 times that, Adam's beta1 0 or 0.5, the gradient penalty on the first 16, 32 or 64 images of a
batch. The best of the first 16 lay at the edge of the generator's ratio, so eight more of each have it from 4 to 32.
Every run has a tenth of the compute of compare.py, about 3.5 minutes of a core at D = 32: 72 runs, over four hours of a
core. A run is a line of results/q4/tuning.jsonl as it ends, and the same command goes on. Writes results/q4/tuning.json
(the best draw of each objective, by relative distance, and whether it lies at an edge) and tuning.png, and prints the
table.
"""

import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import plots, runs
from q4_wgan.classifier import suffix
from q4_wgan.command import Parser, as_json, positive, run_main, write
from q4_wgan.summary import NAMES

OBJECTIVES = ("dcgan", "wgan-gp", "wgan-clip")
RANGES = ((2e-4, 2e-2), (1 / 4, 8)), ((5e-4, 1e-2), (4, 32))  # of the critic's rate and of the generator's ratio to it
DRAWS, NARROW = 24, 16  # of every objective; the first NARROW from the first pair of ranges, the others from the second
DIM, COMPUTE = 32, 3_000  # iterations of DCGAN that the compute of a run is
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


def summarise(lines):
    """{objective: number of draws, outcomes, the best line, and the ends of the ranges that it lies at}."""
    summary = {}
    for objective in OBJECTIVES:
        mine = [line for line in lines if line["objective"] == objective]
        best = min((line for line in mine if line["outcome"] == "trained"), key=lambda line: line["relative_distance"],
                   default=None)
        summary[objective] = {"draws": len(mine), "outcomes": {
            outcome: sum(line["outcome"] == outcome for line in mine)
            for outcome in ("trained", "collapsed", "diverged")},
            "best": best, "edges": edges(best) if best else {}}
    return summary


def markdown(lines, shown=3):
    """The best draws of every objective as the table in EXPERIMENTS.md."""
    rows = ["| | critic's rate | generator's rate | beta1 | penalty on | iterations | relative distance | in pixels |",
            "|---" * 8 + "|"]
    for objective in OBJECTIVES:
        trained = [line for line in lines if line["objective"] == objective and line["outcome"] == "trained"]
        for line in sorted(trained, key=lambda line: line["relative_distance"])[:shown]:
            cells = (NAMES[objective], f"{line['learning_rate']:g}", f"{line['generator_learning_rate']:g}",
                     f"{line['beta1']:g}" if "beta1" in line else "", line.get("penalty_images", ""),
                     f"{line['iterations']:,}", f"{line['relative_distance']:.1f}",
                     f"{line['relative_distance_pixels']:.1f}")
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/tune.py                  four hours of a core
  python q4_wgan/tune.py --draws 32       eight more of each objective
  python q4_wgan/tune.py --dim 4 --compute 20 --draws 2 --results-dir try    a smoke test, a minute""")
    parser.add_argument("--draws", type=positive, default=DRAWS, help=f"of every objective (default: {DRAWS})")
    runs.add_arguments(parser, DIM, COMPUTE)
    args = parser.parse_args()

    path = args.results_dir / "q4" / f"tuning{suffix(args.dataset)}.json"
    work = [draw(objective, i, args.dim, args.compute) for i in range(args.draws) for objective in OBJECTIVES]
    lines = runs.run_missing(work, path.with_suffix(".jsonl"), args.jobs, where=runs.where(args))
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
