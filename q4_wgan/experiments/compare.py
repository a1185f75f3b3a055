"""DCGAN against WGAN-GP at equal compute: several trainings each at D = 32, one thread; two of the textbook loop.

WGAN-GP stands here twice: with Algorithm 1's five critic steps, and with the one that tune.py's search chose. A
training of DCGAN has 30,000 iterations, 20 to 36 minutes of a core that is quick in bfloat16, 100 of another; the
others have as many as cost the same (jobs.COST), so that the counts are the same on any machine. The settings are the
best draws of an equal search; the textbook loop has those of the authors' code. The relative Frechet distances to the
validation images, in the classifier's features and in the pixels, are taken at 18 moments; at the end these and that in
the second classifier's features to the test images, precision and recall.

A training is a line of comparison.jsonl as it ends; killed, the same command goes on. Writes comparison.json and
comparison.png, and prints the tables. The folders of the trainings stay in results/runs, as those of train.py: their
generators can be looked at. Takes forty hours of a core without bfloat16.
"""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan.command import Parser, number, run_main
from q4_wgan.experiments import jobs, plots, textbook
from q4_wgan.metrics import DISTANCES, mean_std, plus_minus, table
from q4_wgan.training import BATCH

DIM, COMPUTE = 32, 30_000
# Trainings, with seeds from 1 on: the search had seed 0. The first five of dcgan and of wgan are older than the second
# classifier, so their lines have no distance in its features; three more of each have.
SEEDS = {"dcgan": 8, "wgan": 8, "wgan-gp-steps": 5, "textbook": 2}
POINTS = (1 / 64, 1 / 32, *(k / 16 for k in range(1, 17)))
SEARCHED = {"dcgan": "dcgan", "wgan": "wgan-gp", "wgan-gp-steps": "wgan-gp-steps"}  # the list of tune.py of each model
REACHED = (100, 50, 25, 15)


def settings():
    """{model: its settings}."""
    return {**{model: jobs.tuned(name) for model, name in SEARCHED.items()}, "textbook": textbook.SETTINGS}


def options_of(model, seed, chosen, dim=DIM, compute=COMPUTE):
    objective = {"wgan": "wgan-gp", "wgan-gp-steps": "wgan-gp"}.get(model, model)
    options = {"objective": objective, "arch": "conv", "dim": dim, "batch": BATCH, **chosen[model]}
    return {**options, "iterations": jobs.iterations(options, compute), "seed": seed}


def difference(a, b):
    """mean(a) - mean(b) of two independent samples with Welch's 95 % interval; None where one has a single value."""
    if min(len(a), len(b)) < 2:
        return None
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return {"mean": float(np.mean(a) - np.mean(b)), "low": float(interval.low), "high": float(interval.high)}


def values_at(curves, iteration, of):
    """`of` at an iteration, log-linear between the points, of those `curves` that it lies in."""
    found = []
    for curve in curves:
        xs = [point["iteration"] for point in curve]
        if xs[0] <= iteration <= xs[-1]:
            found.append(float(np.exp(np.interp(iteration, xs, np.log([point[of] for point in curve])))))
    return found


def first_at(curve, distance):
    """The iteration at which the relative distance first falls to `distance`, log-linear between points; None if never.

    Where it is there at the first point already, that point's: an upper bound.
    """
    for before, point in zip([None, *curve], curve):
        if point["relative_distance"] <= distance:
            ends = point, before or point
            return float(np.interp(math.log(distance), [math.log(one["relative_distance"]) for one in ends],
                                   [one["iteration"] for one in ends]))
    return None


def summarise(lines, chosen):
    """The content of comparison.json: means over trainings, differences of pairs, compute to reach distances.

    lines: {model: lines of its trainings}.
    """
    ended = {model: [line for line in mine if "test" in line] for model, mine in lines.items()}  # did not diverge
    gans = [model for model in SEARCHED if model in lines]
    iterations = {model: mine[0]["iterations"] for model, mine in lines.items() if mine}
    tests = {model: {score: [line["test"][score] for line in mine if score in line["test"]] for score in jobs.SCORES}
             for model, mine in ended.items()}
    then = {model: {of: values_at([line["curve"] for line in ended[model]], iterations.get("wgan", 0), of)
                    for of in DISTANCES} for model in gans}

    def means(values):
        return {model: {score: mean_std(found) for score, found in scores.items() if found}
                for model, scores in values.items() if any(scores.values())}

    def differences(values):
        return {f"{a} - {b}": {score: difference(values[a][score], values[b][score]) for score in values[a]}
                for a, b in itertools.combinations(gans, 2)}

    reached = {model: {} for model in lines}
    for model, distance in itertools.product(lines, REACHED):
        found = [(line, first_at(line["curve"], distance)) for line in ended[model]]
        compute = [at and at * jobs.cost(line) for line, at in found]  # in iterations of DCGAN
        reached[model][distance] = {"runs": compute, **(mean_std(compute) if compute and None not in compute else {})}
    return {"settings": chosen, "iterations": iterations,
            "equal_compute": means(tests), "differences_at_equal_compute": differences(tests),
            "equal_iterations": means(then), "differences_at_equal_iterations": differences(then),
            "compute_to_reach": reached}


def markdown(result):
    """The comparison as the table in q4_wgan/README.md; in brackets the trainings that have a score, if not all."""
    def mean(scores, score, digits):
        if score not in scores:
            return "–"
        fewer = f" ({scores[score]['n']})" if scores[score]["n"] < scores["recall"]["n"] else ""
        return plus_minus(scores[score], digits) + fewer

    def interval(found, digits):
        low, mean, high = (f"{found[key]:+.{digits}f}".replace("-", "−") for key in ("low", "mean", "high"))
        return f"{mean} ({low} to {high})"

    digits = [(score, n) for score, (_, n) in jobs.SCORES.items()]
    rows = [(plots.COMPARED[model], scores["recall"]["n"], *(mean(scores, *one) for one in digits))
            for model, scores in result["equal_compute"].items()]
    rows += [(" − ".join(plots.COMPARED[model] for model in pair.split(" - ")), "",
              *(interval(found[score], n) if found[score] else "–" for score, n in digits))
             for pair, found in result["differences_at_equal_compute"].items() if any(found.values())]
    return table(("", "trainings", *(title for title, _ in jobs.SCORES.values())), rows)


def reached_markdown(result):
    """Compute, in thousand iterations of DCGAN, until each distance was first reached, as the table in README.md."""
    return table(("", *REACHED), (
        (plots.COMPARED[model], *(plus_minus(found, 1, 1 / 1000) if "mean" in found else
                                  f"{len(found['runs']) - found['runs'].count(None)} of {len(found['runs'])}"
                                  for found in reached.values()))
        for model, reached in result["compute_to_reach"].items() if model in result["equal_compute"]))


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/compare.py --summary    the tables of what is there, in seconds
  python q4_wgan/experiments/compare.py              what is missing, one training per core
  python q4_wgan/experiments/compare.py --dim 4 --compute 200 --seeds 2    a smoke test, ten minutes""")
    parser.add_argument("--seeds", type=number(int, 1, 100), metavar="N",
                        help="at most so many trainings of each, seeds 1 to N (default: 8; with one critic step 5)")
    args = jobs.parse(parser, DIM, COMPUTE)

    chosen = settings()
    # Seeds first: a comparison that is stopped early has some trainings of each.
    work = [(model, seed) for seed in range(1, max(SEEDS.values()) + 1) for model in chosen
            if seed <= min(SEEDS[model], args.seeds or seed)]
    found = jobs.run_missing([options_of(*one, chosen, args.dim, args.compute) for one in work], "comparison", args,
                             points=POINTS, test=True, keep=True)
    lines = {model: [line for (of, _), line in zip(work, found) if of == model and line] for model in chosen}
    result = summarise(lines, chosen)
    jobs.publish("comparison", args, result, plots.comparison(lines), markdown(result), reached_markdown(result))


if __name__ == "__main__":
    run_main(main)
