"""The search for settings, equal for DCGAN, WGAN-GP and WGAN with clipping: successive halving of random draws.

24 draws of each objective train for a tenth of the compute of compare.py; the best 8 of each for three tenths; all but
clipping, which compare.py leaves out, the best 3 for all of it. WGAN-GP is searched twice: with Algorithm 1's five
critic steps, and with 1, 2, 3 or 5 of them. Every training starts anew, since the learning rates fall to 0 at its end.
All are compared by the relative distance to the validation images. D = 32, one thread.

A run is a line of tuning.jsonl as it ends; killed, the same command goes on. Writes tuning.json (the best draw of each
list on its last rung) and tuning.png, and prints the table. Takes 27 hours of a core.
"""

import itertools
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan.command import Parser, positive, run_main
from q4_wgan.experiments import jobs, plots
from q4_wgan.metrics import table
from q4_wgan.plots import NAMES
from q4_wgan.training import BATCH

LISTS = {"dcgan": "dcgan", "wgan-gp": "wgan-gp", "wgan-clip": "wgan-clip", "wgan-gp-steps": "wgan-gp"}  # objectives
DRAWS, SEARCHED_WIDELY = 24, 16  # of every list; the first ones from WIDE, the others from NARROW
# Ranges of the critic's rate and of the generator's ratio to it.
WIDE, HIGH = ((2e-4, 2e-2), (1 / 4, 8)), ((5e-4, 1e-2), (4, 32))
NARROW = {"dcgan": HIGH, "wgan-gp": HIGH, "wgan-clip": HIGH,  # the best of the first 16 lay at a high ratio
          "wgan-gp-steps": ((1e-3, 5e-3), (1, 8))}  # where its first 16 were best
BETA1, PENALISED, STEPS = [0.0, 0.5], [16, 32, 64], [1, 2, 3, 5]
NARROW_STEPS = [0.0], PENALISED, [1, 2, 3]  # of wgan-gp-steps: five steps with 24 draws are a list of their own
DIM, COMPUTE = 32, 3_000  # iterations of DCGAN that the compute of a run of the first rung is
RUNGS = ((1, tuple(LISTS), 8), (3, tuple(LISTS), 3),  # times the compute, of which, how many go on
         (10, ("dcgan", "wgan-gp", "wgan-gp-steps"), 1))
PARTS = "a tenth", "three tenths", "all"  # of the comparison's compute that the rungs have
TRAINED = "converged", "far"  # outcomes with all ten classes


def draw(name, i, dim=DIM, compute=COMPUTE):
    """The options of draw number i of a list."""
    objective, random = LISTS[name], np.random.default_rng([list(LISTS).index(name), i])
    narrow = i >= SEARCHED_WIDELY
    rates, ratios = NARROW[name] if narrow else WIDE
    few = NARROW_STEPS if narrow and name == "wgan-gp-steps" else (BETA1, PENALISED, STEPS)
    rate, ratio = 10 ** random.uniform(*map(math.log10, rates)), 2 ** random.uniform(*map(math.log2, ratios))
    beta1, penalised, steps = (random.choice(values).item() for values in few)
    rate, ratio = float(f"{rate:.2g}"), float(f"{ratio:.2g}")
    options = {"objective": objective, "arch": "conv", "dim": dim, "batch": BATCH, "learning_rate": rate,
               "generator_learning_rate": float(f"{rate * ratio:.2g}")}
    if objective != "wgan-clip":  # which has RMSProp
        options["beta1"] = beta1
    if objective == "wgan-gp":
        options["penalty_images"] = penalised
    if name == "wgan-gp-steps":
        options["critic_steps"] = steps
    return {**options, "iterations": jobs.iterations(options, compute), "seed": 0, "draw": i}


def ranked(lines):
    """What trained, by relative distance, then the others."""
    return sorted(lines, key=lambda line: (line["outcome"] not in TRAINED, line["relative_distance"] or math.inf))


def search(args):
    """({list: [lines of its first rung, of its second ...]}, the lists whose last rung there lacks runs)."""
    draws, rungs, missing = {name: range(args.draws) for name in LISTS}, {name: [] for name in LISTS}, set()
    for times, names, kept in RUNGS:
        # The lists in turns: a search that is stopped early has some draws of each.
        work = [(name, i) for numbers in itertools.zip_longest(*(draws[name] for name in names))
                for name, i in zip(names, numbers) if i is not None]
        found = jobs.run_missing([draw(*one, args.dim, times * args.compute) for one in work], "tuning", args)
        for name in names:
            mine = [line and line | {"draw": i} for (of, i), line in zip(work, found) if of == name]
            lines = [line for line in mine if line]
            if not mine:  # nothing trained on the rung below, or that one is not complete
                continue
            rungs[name].append(lines)
            if len(lines) < len(mine):
                missing.add(name)
            draws[name] = [line["draw"] for line in ranked(lines)[:kept]
                           if line["outcome"] in TRAINED and name not in missing]
    return rungs, missing


def summarise(rungs, missing):
    """{list: draws, their outcomes on the first rung, the best line of the last one; none where runs are missing}."""
    summary = {}
    for name, mine in rungs.items():
        outcomes = Counter(line["outcome"] for line in mine[0])
        firsts = [ranked(lines)[0] for lines in reversed(mine) if lines and name not in missing]
        summary[name] = {
            "draws": len(mine[0]), "outcomes": {"trained": sum(outcomes[one] for one in TRAINED),
                                                "collapsed": outcomes["collapsed"], "diverged": outcomes["diverged"]},
            "best": next((line for line in firsts if line["outcome"] in TRAINED), None)}
    return summary


def markdown(rungs):
    """Every draw that went on, as the table in README.md: settings, and its relative distance on each rung."""
    def text(distance):
        return "NaN" if distance is None else f"{distance:.1f}"

    rows = []
    for name, mine in rungs.items():
        # Those that came furthest first, the best first among them.
        for number in dict.fromkeys(line["draw"] for lines in mine[:0:-1] for line in ranked(lines)):
            lines = [line for found in mine for line in found if line["draw"] == number]
            distances = [text(line["relative_distance"]) for line in lines] + [""] * (len(RUNGS) - len(lines))
            settings = {"critic_steps": 1 if name == "dcgan" else 5, **lines[0]}
            rows.append((NAMES[name], *(f"{settings[key]:g}" if key in settings else "" for key in jobs.SETTINGS),
                         *distances, text(lines[-1]["relative_distance_pixels"])))
    head = "", "critic's rate", "generator's rate", "beta1", "penalty on", "critic steps", *PARTS, "in pixels"
    return table(head, rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/tune.py --summary    the table of what is there, in seconds
  python q4_wgan/experiments/tune.py              what is missing, one run per core
  python q4_wgan/experiments/tune.py --dim 4 --compute 20 --draws 2    a smoke test, some minutes""")
    parser.add_argument("--draws", type=positive, default=DRAWS,
                        help=f"of every list, on the first rung (default: {DRAWS})")
    args = jobs.parse(parser, DIM, COMPUTE)
    rungs, missing = search(args)
    jobs.publish("tuning", args, summarise(rungs, missing), plots.tuning(rungs, PARTS), markdown(rungs))


if __name__ == "__main__":
    run_main(main)
