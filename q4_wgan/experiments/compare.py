"""DCGAN against WGAN-GP at equal compute: five trainings each at D = 32, on one thread, and two of the textbook loop.

WGAN-GP stands here twice: with Algorithm 1's five critic steps, and with as many as tune.py's search chose. A training
of DCGAN has 30,000 iterations, about 35 minutes of a core; the others have as many as cost the same (jobs.COST), so
that the counts are the same on any machine. The settings are the best draws of an equal search, on seeds of their own;
the textbook loop has those of the authors' code, in float32. Both relative Frechet distances to the validation images
are taken at 18 moments, spaced evenly in compute but for two early ones, and at the end those to the test images,
precision and recall.

Every training is a line of results/q4/comparison.jsonl or --out's as it ends; killed, the same command goes on, at most
a minute back. Writes comparison.json and comparison.png. Generators are not kept: train.py on one thread, with the
settings and the seed of a line, trains the same one. Takes ten hours of a core.
"""

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan.command import Parser, UserError, as_json, number, run_main, shown, write
from q4_wgan.experiments import jobs, plots, textbook
from q4_wgan.experiments.stats import difference, mean_std, table, time_to, value_at
from q4_wgan.metrics import DISTANCES
from q4_wgan.plots import NAMES
from q4_wgan.training import BATCH

DIM, COMPUTE, SEEDS, TEXTBOOK_SEEDS = 32, 30_000, 5, 2  # seeds from 1 on: the search had seed 0
POINTS = (1 / 64, 1 / 32, *(k / 16 for k in range(1, 17)))
SEARCHED = {"dcgan": "dcgan", "wgan": "wgan-gp", "wgan-gp-steps": "wgan-gp-steps"}  # the list of tune.py of each model
SCORES = {"relative_distance": 1, "relative_distance_pixels": 2, "precision": 3, "recall": 3}  # and digits shown
REACHED = (100, 50, 25, 15)


def settings():
    """{model: its settings}, without a model whose search has not ended, which is said."""
    chosen = {}
    for model, name in SEARCHED.items():
        try:
            chosen[model] = jobs.tuned(name)
        except UserError as error:
            print(f"left out: {error}")
    return {**chosen, "textbook": textbook.SETTINGS}


def options_of(model, seed, chosen, dim=DIM, compute=COMPUTE):
    objective = {"wgan": "wgan-gp", "wgan-gp-steps": "wgan-gp"}.get(model, model)
    options = {"objective": objective, "arch": "conv", "dim": dim, "batch": BATCH, **chosen[model]}
    return {**options, "iterations": jobs.iterations(options, compute), "seed": seed}


def summarise(lines, chosen):
    """The content of comparison.json: every run, means over trainings, differences, times to reach distances.

    lines: {model: lines of its trainings}. What is named "difference" is DCGAN - WGAN-GP with five critic steps;
    "differences" are those of all pairs.
    """
    ended = {model: [line for line in mine if "test" in line] for model, mine in lines.items()}  # did not diverge
    tests = {model: {score: [line["test"][score] for line in mine] for score in SCORES}
             for model, mine in ended.items()}
    result = {"settings": chosen, "runs": [
        {"model": model, "seed": line["seed"], "outcome": line["outcome"], "iterations": line["reached"],
         "seconds": line["core_seconds"], **{score: line.get("test", {}).get(score) for score in SCORES},
         "smallest_class_frequency": min(line["test"]["class_frequencies"]) if "test" in line else None,
         "validation_relative_distance": line["relative_distance"]} for model, mine in lines.items() for line in mine]}

    def means(values):
        return {model: {score: mean_std(found) for score, found in scores.items() if found}
                for model, scores in values.items() if any(scores.values())}

    def differences(values, a="dcgan", b="wgan"):
        return {score: difference(values[a][score], values[b][score]) for score in values[a]}

    gans = [model for model in SEARCHED if model in lines]
    result |= {"equal_compute": means(tests), "difference_at_equal_compute": differences(tests),
               "differences_at_equal_compute": {f"{a} - {b}": differences(tests, a, b)
                                                for a, b in itertools.combinations(gans, 2)}}
    if ended["wgan"]:
        last = ended["wgan"][0]["iterations"]
        values = {(model, score): [value_at(line["curve"], last, score) for line in ended[model]]
                  for model in gans for score in DISTANCES}
        then = {model: {score: [value for value in values[model, score] if value is not None] for score in DISTANCES}
                for model in gans}
        result |= {"equal_iterations": {"iterations": last, **means(then)},
                   "difference_at_equal_iterations": differences(then)}
    result["seconds_to_reach"] = {model: {} for model in lines}
    for model, distance in itertools.product(lines, REACHED):
        times = [time_to(line["curve"], distance) for line in ended[model]]
        result["seconds_to_reach"][model][str(distance)] = {
            "runs": times, **(mean_std(times) if times and None not in times else {})}
    return result


def markdown(result):
    """The comparison as the table in q4_wgan/README.md."""
    rows = []
    for model, scores in result["equal_compute"].items():
        cells = (f"{scores[score]['mean']:.{digits}f}" + (f" ± {scores[score]['std']:.{digits}f}"
                                                         if scores[score]["n"] > 1 else "")
                 for score, digits in SCORES.items())
        rows.append((NAMES[model], scores["recall"]["n"], *cells))
    for pair, found in result["differences_at_equal_compute"].items():
        if None not in found.values():
            cells = (f"{found[score]['mean']:+.{digits}f} ({found[score]['low']:+.{digits}f} to "
                     f"{found[score]['high']:+.{digits}f})".replace("-", "−") for score, digits in SCORES.items())
            names = " − ".join(NAMES[model] for model in pair.split(" - "))
            rows.append((f"{names} (95 % interval)", "", *cells))
    return table(("", "trainings", "relative distance", "in pixels", "precision", "recall"), rows)


def times_markdown(result):
    """Minutes of a core until the trainings first reached each distance, as the table in README.md."""
    rows = []
    for model, reached in result["seconds_to_reach"].items():
        cells = (f"{found['mean'] / 60:.1f}" + (f" ± {found['std'] / 60:.1f}" if found["n"] > 1 else "")
                 if "mean" in found else f"{sum(t is not None for t in found['runs'])} of {len(found['runs'])}"
                 for found in (reached[str(distance)] for distance in REACHED))
        rows.append((NAMES[model], *cells))
    return table(("", *REACHED), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/compare.py --summary    the tables of what is there, in seconds
  python q4_wgan/experiments/compare.py              what is missing, one training per core
  python q4_wgan/experiments/compare.py --dim 4 --compute 200 --seeds 2    a smoke test, ten minutes""")
    parser.add_argument("--seeds", type=number(int, 1, 100), default=SEEDS,
                        help=f"trainings of each; the textbook loop has at most two (default: {SEEDS})")
    jobs.add_arguments(parser, DIM, COMPUTE)
    args = jobs.parse(parser)

    chosen = settings()
    # Seeds first: a comparison that is stopped early has some trainings of each.
    work = [(model, seed) for seed in range(1, args.seeds + 1) for model in chosen
            if model != "textbook" or seed <= TEXTBOOK_SEEDS]
    found = jobs.run_missing([options_of(*one, chosen, args.dim, args.compute) for one in work], "comparison", args,
                             points=POINTS, test=True)
    lines = {model: [line for (of, _), line in zip(work, found) if of == model and line] for model in chosen}
    result = summarise(lines, chosen)
    write(args.out / "comparison.json", as_json(result))
    write(args.out / "comparison.png", plots.comparison(lines), sync=False)
    print(markdown(result), times_markdown(result), sep="\n\n")
    if None in found:
        print(f"{found.count(None)} of {len(found)} trainings are missing")
    print(f"saved {shown(args.out / 'comparison.json')} and .png")


if __name__ == "__main__":
    run_main(main)
