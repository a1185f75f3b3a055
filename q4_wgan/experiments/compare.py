"""DCGAN against WGAN-GP at equal compute: five trainings each at D = 32, on one thread, and two of the textbook loop.

A training of DCGAN has 30,000 iterations, about 35 minutes of a core; the others have as many as cost the same
(runs.COST), so that the counts are the same on any machine. The settings are the best draws of tune.py, an equal
search, on seeds of their own; the textbook loop has those of the authors' code, in float32; all others are in bfloat16.
Both relative Frechet distances to the validation images are taken at 18 moments, spaced evenly in compute but for two
early ones, and at the end those to the test images, precision and recall.

Every training is a line of results/q4/comparison.jsonl as it ends; killed, the same command goes on, at most a minute
back. Writes results/q4/comparison.json and comparison.png. Generators are not kept: train.py on one thread, with the
settings and the seed of a line, trains the same one. Takes seven hours of a core.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import files, plots, runs, textbook
from q4_wgan.classifier import suffix
from q4_wgan.command import Parser, UserError, as_json, number, run_main, write
from q4_wgan.summary import NAMES, difference, mean_std, table, time_to, value_at

DIM, COMPUTE, SEEDS, TEXTBOOK_SEEDS = 32, 30_000, 5, 2  # seeds from 1 on: the search had seed 0
POINTS = (1 / 64, 1 / 32, *(k / 16 for k in range(1, 17)))
MODELS = {"dcgan": "dcgan", "wgan": "wgan-gp", "textbook": "textbook"}
SCORES = {"relative_distance": 1, "relative_distance_pixels": 2, "precision": 3, "recall": 3}  # and digits shown
DISTANCES = ("relative_distance", "relative_distance_pixels")
REACHED = (100, 50, 25)


def options_of(model, seed, chosen, dim=DIM, compute=COMPUTE):
    options = {"objective": MODELS[model], "arch": "conv", "dim": dim, "batch": runs.BATCH, **chosen[model]}
    return {**options, "iterations": runs.iterations(options, compute), "seed": seed,
            "precision": "float32" if model == "textbook" else "bfloat16"}


def summarise(lines, chosen):
    """The content of comparison.json: every run, means over trainings, differences DCGAN - WGAN-GP, times to reach."""
    mine = {model: [line for line in lines if line["objective"] == MODELS[model]] for model in MODELS}
    ended = {model: [line for line in mine[model] if "test" in line] for model in MODELS}  # did not diverge
    tests = {model: {score: [line["test"][score] for line in ended[model]] for score in SCORES} for model in MODELS}
    result = {"settings": chosen, "runs": [
        {"model": model, "seed": line["seed"], "outcome": line["outcome"], "iterations": line["reached"],
         "seconds": line["core_seconds"], **{score: line.get("test", {}).get(score) for score in SCORES},
         "smallest_class_frequency": min(line["test"]["class_frequencies"]) if "test" in line else None,
         "validation_relative_distance": line["relative_distance"]} for model in MODELS for line in mine[model]]}

    def means(values):
        return {model: {score: mean_std(found) for score, found in values[model].items() if found}
                for model in values if any(values[model].values())}

    def differences(values):
        return {score: difference(values["dcgan"][score], values["wgan"][score]) for score in values["dcgan"]}
    result |= {"equal_compute": means(tests), "difference_at_equal_compute": differences(tests)}
    if ended["wgan"]:
        last = ended["wgan"][0]["iterations"]
        then = {model: {score: [value_at(line["curve"], last, score) for line in ended[model]] for score in DISTANCES}
                for model in ("dcgan", "wgan")}
        result |= {"equal_iterations": {"iterations": last, **means(then)},
                   "difference_at_equal_iterations": differences(then)}
    result["seconds_to_reach"] = {model: {} for model in MODELS}
    for model in MODELS:
        for distance in REACHED:
            times = [time_to(line["curve"], distance) for line in ended[model]]
            result["seconds_to_reach"][model][str(distance)] = {
                "runs": times, **(mean_std(times) if times and None not in times else {})}
    return result


def folder_name(options, suffix=""):
    return f"compare_{options['objective']}{suffix}_seed{options['seed']}"


def markdown(result):
    """The comparison as the table in README.md."""
    rows = []
    for model, scores in result["equal_compute"].items():
        cells = (f"{scores[score]['mean']:.{digits}f}" + (f" ± {scores[score]['std']:.{digits}f}"
                                                         if scores[score]["n"] > 1 else "")
                 for score, digits in SCORES.items())
        rows.append((NAMES[model], scores["recall"]["n"], *cells))
    found = result["difference_at_equal_compute"]
    if None not in found.values():
        cells = (f"{found[score]['mean']:+.{digits}f} ({found[score]['low']:+.{digits}f} to "
                 f"{found[score]['high']:+.{digits}f})".replace("-", "−") for score, digits in SCORES.items())
        rows.append(("DCGAN − WGAN-GP (95 % interval)", "", *cells))
    return table(("", "trainings", "relative distance", "in pixels", "precision", "recall"), rows)


def times_markdown(result):
    """Minutes of a core until the trainings first reached each distance, as the table in EXPERIMENTS.md."""
    rows = []
    for model, reached in result["seconds_to_reach"].items():
        cells = (f"{found['mean'] / 60:.1f}" + (f" ± {found['std'] / 60:.1f}" if found["n"] > 1 else "")
                 if "mean" in found else f"{sum(t is not None for t in found['runs'])} of {len(found['runs'])}"
                 for found in (reached[str(distance)] for distance in REACHED))
        rows.append((NAMES[model], *cells))
    return table(("", *REACHED), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/compare.py --jobs 2       after tune.py: twelve trainings, two at a time, three to four hours
  python q4_wgan/compare.py --dim 4 --compute 200 --seeds 2 --results-dir try    a smoke test, ten minutes""")
    parser.add_argument("--seeds", type=number(int, 1, 100), default=SEEDS,
                        help=f"trainings of DCGAN and of WGAN-GP; the textbook loop has at most two (default: {SEEDS})")
    runs.add_arguments(parser, DIM, COMPUTE)
    args = parser.parse_args()

    path, ending = args.results_dir / "q4" / f"comparison{suffix(args.dataset)}.json", suffix(args.dataset)
    chosen = {model: textbook.SETTINGS if model == "textbook" else
              runs.tuned(args.results_dir, args.dataset, MODELS[model], args.compute) for model in MODELS}
    record = path.with_suffix(".jsonl")
    if any(runs.settings(line) not in chosen.values() for line in files.read_lines(record)):
        raise UserError(f"{record}: of other settings than the best of tune.py; move it away to start anew")
    # Seeds first: a comparison that is stopped early has some trainings of each.
    work = [options_of(model, seed, chosen, args.dim, args.compute) for seed in range(1, args.seeds + 1)
            for model in MODELS if model != "textbook" or seed <= TEXTBOOK_SEEDS]
    lines = runs.run_missing(work, record, args.jobs, points=POINTS, where=runs.where(args), test=True,
                             folder=lambda options: args.results_dir.resolve() / "runs" / folder_name(options, ending))
    result = summarise(lines, chosen)
    write(path, as_json(result))
    plots.comparison(lines, path.with_suffix(".png"))
    print(markdown(result), times_markdown(result), sep="\n\n")
    print(f"saved {path} and .png")


if __name__ == "__main__":
    run_main(main)
