"""DCGAN against WGAN-GP at equal compute: five trainings each at D = 32, on one thread, and two of the textbook loop.

A training of DCGAN has 30,000 iterations, about 45 minutes of a core; the others have as many as cost the same
(runs.COST), so that the counts are the same on any machine. The settings are the best draws of tune.py, an equal
search; the textbook loop has those of the authors' code, in float32; all others are in bfloat16.
Both relative Frechet distances to the validation images are taken at 18 moments, spaced evenly in compute but for two
early ones, and at the end those to the test images, precision and recall.

Every training is a line of results/q4/comparison.jsonl as it ends; killed, the same command goes on, at most a minute
back. Writes results/q4/comparison.json and comparison.png. The last generators stay in the run folders; the one to ship
is the best by validation images. Takes nine hours of a core.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import files, plots, runs, textbook
from q4_wgan.command import Parser, UserError, add_folders, as_json, name, number, positive, run_main, write
from q4_wgan.summary import NAMES, difference, mean_std, time_to, value_at

DIM, COMPUTE, SEEDS, TEXTBOOK_SEEDS = 32, 30_000, 5, 2
POINTS = (1 / 64, 1 / 32, *(k / 16 for k in range(1, 17)))
MODELS = {"dcgan": "dcgan", "wgan": "wgan-gp", "textbook": "textbook"}
SCORES = ("relative_distance", "relative_distance_pixels", "precision", "recall")
REACHED = (100, 50, 25)


def settings(record):
    """{model: the settings to compare}: the best draws of tune.py, and the authors' for the textbook loop."""
    return {"dcgan": runs.settings(runs.best(record, "dcgan")), "wgan": runs.settings(runs.best(record, "wgan-gp")),
            "textbook": textbook.SETTINGS}


def options_of(model, seed, chosen, dim=DIM, compute=COMPUTE):
    options = {"objective": MODELS[model], "arch": "conv", "dim": dim, "batch": runs.BATCH, **chosen[model]}
    return {**options, "iterations": runs.iterations(options, compute), "seed": seed,
            "precision": "float32" if model == "textbook" else "bfloat16"}


def summarise(lines, chosen):
    """The content of comparison.json: every run, means over trainings, differences DCGAN - WGAN-GP, times to reach."""
    mine = {model: [line for line in lines if line["objective"] == MODELS[model]] for model in MODELS}
    ended = {model: [line for line in mine[model] if "test" in line] for model in MODELS}  # did not diverge
    result = {"settings": chosen, "runs": [
        {"model": model, "seed": line["seed"], "outcome": line["outcome"], "iterations": line["reached"],
         "seconds": line["core_seconds"], **{score: line.get("test", {}).get(score) for score in SCORES},
         "smallest_class_frequency": min(line["test"]["class_frequencies"]) if "test" in line else None,
         "validation_relative_distance": line["relative_distance"]} for model in MODELS for line in mine[model]]}
    result["equal_compute"] = {
        model: {score: mean_std([line["test"][score] for line in ended[model]]) for score in SCORES}
        for model in MODELS if ended[model]}
    result["difference_at_equal_compute"] = {
        score: difference(*([line["test"][score] for line in ended[model]] for model in ("dcgan", "wgan")))
        for score in SCORES}
    if ended["wgan"]:
        last = ended["wgan"][0]["iterations"]
        at = {model: {score: [value_at(line["curve"], last, score) for line in ended[model]] for score in SCORES[:2]}
              for model in ("dcgan", "wgan")}
        result["equal_iterations"] = {"iterations": last, **{
            model: {score: mean_std(values) for score, values in found.items() if values}
            for model, found in at.items()}}
        result["difference_at_equal_iterations"] = {
            score: difference(at["dcgan"][score], at["wgan"][score]) for score in SCORES[:2]}
    result["seconds_to_reach"] = {}
    for model in MODELS:
        for distance in REACHED:
            times = [time_to(line["curve"], distance) for line in ended[model]]
            result["seconds_to_reach"].setdefault(model, {})[str(distance)] = {
                "runs": times, **(mean_std(times) if times and None not in times else {})}
    result["best_on_validation"] = {
        model: {"seed": line["seed"], "relative_distance": line["relative_distance"],
                "generator": f"runs/{runs.folder_name(line)}/generator.pt"}
        for model in ("dcgan", "wgan") if ended[model]
        for line in [min(ended[model], key=lambda line: line["relative_distance"])]}
    return result


def markdown(result):
    """The comparison as the table in README.md."""
    rows = ["| | trainings | relative distance | in pixels | precision | recall |", "|---" * 6 + "|"]
    for model, scores in result["equal_compute"].items():
        cells = (f"{s['mean']:.{d}f}" + (f" ± {s['std']:.{d}f}" if s["std"] is not None else "")
                 for s, d in zip(scores.values(), (1, 2, 3, 3)))
        rows.append(f"| {NAMES[MODELS[model]]} | {scores['recall']['n']} | {' | '.join(cells)} |")
    found = result["difference_at_equal_compute"]
    if None not in found.values():
        cells = (f"{f['mean']:+.{d}f} ({f['low']:+.{d}f} to {f['high']:+.{d}f})"
                 for f, d in zip(found.values(), (1, 2, 3, 3)))
        rows.append(f"| DCGAN − WGAN-GP (95 % interval) | | {' | '.join(cells)} |".replace("-", "−").replace(
            "WGAN−GP", "WGAN-GP"))
    return "\n".join(rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/compare.py --jobs 2       after tune.py: twelve trainings, two at a time, four to five hours
  python q4_wgan/compare.py --dim 4 --compute 200 --seeds 2 --results-dir try    a smoke test, a minute or two
                                           (copy results/q4/tuning.jsonl to try/q4/ first)""")
    parser.add_argument("--seeds", type=number(int, 1, 100), default=SEEDS,
                        help=f"trainings of DCGAN and of WGAN-GP; the textbook loop has at most two (default: {SEEDS})")
    parser.add_argument("--dim", type=number(int, 1, 1024), default=DIM, help=f"width D (default: {DIM})")
    parser.add_argument("--compute", type=positive, default=COMPUTE, metavar="N",
                        help=f"of every training, in iterations of DCGAN (default: {COMPUTE})")
    parser.add_argument("--dataset", type=name, default="fashion", help="(default: fashion)")
    parser.add_argument("--jobs", type=number(int, 1, 1024), help="trainings at once (default: one per core)")
    add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    where, folder = (args.dataset, args.data_dir.resolve(), args.weights_dir.resolve()), args.results_dir / "q4"
    runs.ground(*where)  # missing images or weights: say so now
    chosen = settings(folder / "tuning.jsonl")
    path = folder / "comparison.jsonl"
    if any(runs.settings(line) not in chosen.values() for line in files.read_lines(path)):
        raise UserError(f"{path}: of other settings than the best of tuning.jsonl; move it away to start anew")
    # Seeds first: a comparison that is stopped early has some trainings of each.
    work = [options_of(model, seed, chosen, args.dim, args.compute) for seed in range(args.seeds) for model in MODELS
            if model != "textbook" or seed < TEXTBOOK_SEEDS]
    for lines in runs.run_missing(work, path, args.jobs, points=POINTS, folder=(args.results_dir / "runs").resolve(),
                                  where=where):
        pass
    result = summarise(lines, chosen)
    write(folder / "comparison.json", as_json(result))
    plots.comparison(lines, folder / "comparison.png")
    print(markdown(result))
    print(f"saved {folder / 'comparison.json'} and .png")


if __name__ == "__main__":
    run_main(main)
