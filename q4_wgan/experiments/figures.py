"""Draws what the READMEs show of the shipped pair, or --run: a training of your own as it went, into its folder.

Of a run: its losses, its samples, and, once it has ended, a strip and a GIF of the same ten seeds as training went. Of
the pair: these, both distances, grids.png (64 real images beside the seeds 0 to 63 of both, uncurated) and images.png,
whose four seeds were chosen by hand. Also losses.json, how the losses read at some moments, and attempts.json, how all
trainings that were tried for the pair have ended; the table of these is printed. A minute.
"""

import csv
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, files, images, sampling
from q4_wgan.command import ROOT, Parser, UserError, add_folders, as_json, path, run_main, shown, write
from q4_wgan.experiments import jobs, plots
from q4_wgan.experiments.stats import losses_at, lowest, table
from q4_wgan.plots import NAMES
from q4_wgan.plots import losses as losses_of_run
from q4_wgan.training import MODELS

CHOSEN = {7: {"dcgan": 2, "wgan": 29}, 3: {"dcgan": 255, "wgan": 1}}  # class: seeds, sneakers and sleeveless dresses
MOMENTS = 1_000, 2_000, 4_000, 8_000, 10_000, 12_000, 16_000  # of losses.json, with the first and last measurement
OUTCOMES = "converged", "failed", "given up", "interrupted"


def metrics_of(folder):
    """The rows of metrics.csv in a run folder. Raises UserError."""
    try:
        rows = list(csv.DictReader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))
        for row in rows:
            float(row["iteration"]), float(row["generator_loss"]), float(row["critic_loss"])
    except (KeyError, ValueError, TypeError):
        raise UserError(f"{folder / 'metrics.csv'}: not the log that train.py writes") from None
    return rows


def draw_training(file, title, stem):
    """STEMtraining.png and .gif of a run's grids.npz: the same ten seeds as the training went."""
    try:
        with np.load(file) as record:
            iterations, grids = record["iterations"], torch.from_numpy(record["images"])
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{file}: not the images that train.py writes") from None
    write(f"{stem}training.png", plots.training(grids, iterations, title), sync=False)
    write(f"{stem}training.gif", plots.film(grids, iterations, title), sync=False)


def two_of_each(generators, network, data):
    """{class: [(title, image)]} of DCGAN's CHOSEN image, the test image of the class that is nearest to both of the
    chosen ones in the classifier's features, and WGAN-GP's."""
    rows = {}
    for label, seeds in CHOSEN.items():
        pictures = {model: sampling.draw_seeds(generators[model], [seed])[0] for model, seed in seeds.items()}
        mine = (data.test_labels == label).nonzero()[:, 0]
        features, theirs = (classifier.classify(network, pixels)[0]
                            for pixels in (torch.stack(list(pictures.values())), data.test[mine]))
        nearest = mine[torch.cdist(features, theirs).sum(0).argmin()].item()
        dcgan, wgan = ((f"{NAMES[model]}, seed {seed}", pictures[model]) for model, seed in seeds.items())
        rows[images.class_names("fashion")[label]] = [dcgan, (f"real, test image {nearest}", data.test[nearest]), wgan]
    return rows


def attempts():
    """Every attempt to train the pair, in the order of their start, as its last line in the frozen ledger leaves it."""
    found = {}
    for line in files.read_lines(jobs.PUBLISHED / "attempts.jsonl"):
        found.setdefault(line["attempt"], {}).update(line)
    return list(found.values())


def count(attempts):
    """{model: how its attempts ended, from scratch and continued apart}."""
    counts = {}
    for model in sampling.SHIPPED:
        mine = [attempt for attempt in attempts if attempt["model"] == model]
        outcomes = [attempt["outcome"] for attempt in mine]
        parts = {"from_scratch": [a["outcome"] for a in mine if "continues" not in a],
                 "continued": [a["outcome"] for a in mine if "continues" in a]}
        counts[model] = {
            "attempts": len(mine),
            **{name: {outcome.replace(" ", "_"): part.count(outcome) for outcome in OUTCOMES}
               for name, part in parts.items()},
            "failed_before_first_success": outcomes[:outcomes.index("converged")].count("failed")}
    return counts


def markdown(attempts):
    """Every attempt as the table in README.md, with the relative distances at its start, its best and its end."""
    rows = []
    for attempt in attempts:
        rate = attempt["learning_rate"]
        distances = (attempt.get("relative_distance_first"), attempt.get("relative_distance_best"),
                     attempt.get("relative_distance_last", attempt.get("relative_distance")))
        rows.append((NAMES[attempt["objective"]], f"{rate:g}", f"{attempt.get('generator_learning_rate', rate):g}",
                     f"{attempt.get('start', 0):,} to {attempt.get('reached', 0):,} of {attempt['iterations']:,}",
                     attempt["outcome"], *("" if distance is None else f"{distance:.1f}" for distance in distances)))
    return table(("", "critic's rate", "generator's rate", "iterations", "outcome", "start", "best", "end"), rows)


def draw_run(folder):
    """The pictures of one run, into its folder."""
    generator, content = sampling.load_generator(sampling.weights_path(run=folder))
    objective = content.get("objective", "wgan-gp")
    write(folder / "losses.png", losses_of_run(metrics_of(folder), objective), sync=False)
    pixels = sampling.draw_seeds(generator, range(64))
    write(folder / "samples.png", plots.samples(pixels, NAMES[objective]), sync=False)
    if (folder / "grids.npz").exists():
        draw_training(folder / "grids.npz", NAMES[objective], f"{folder}/")
    else:
        print("no strip and no GIF yet: the images of a training are there once it has ended")


def draw_pair(out, data_dir):
    """All that is published of the shipped pair, into the folder `out`."""
    data, network = images.load("fashion", data_dir), classifier.load()
    folders = {model: ROOT / f"weights/q4_{model}" for model in sampling.SHIPPED}
    generators = {model: sampling.load_generator(sampling.weights_path(model))[0] for model in folders}
    logs = {model: metrics_of(folder) for model, folder in folders.items()}
    rows = {MODELS[model]: log for model, log in logs.items()}
    write(out / "losses.png", plots.losses(rows), sync=False)
    write(out / "distances.png", plots.distances(rows), sync=False)
    samples = {model: sampling.draw_seeds(generator, range(64)) for model, generator in generators.items()}
    for model, folder in folders.items():
        write(out / f"{model}_samples.png", plots.samples(samples[model], NAMES[model]), sync=False)
        record = folder / "grids.npz"
        if not record.exists():  # that of WGAN-GP is of another run
            record = jobs.PUBLISHED / f"{model}_grids.npz"
        draw_training(record, NAMES[model], out / f"{model}_")
    grids = {"real": data.test[:64], **{NAMES[model]: pixels for model, pixels in samples.items()}}
    write(out / "grids.png", plots.headed([(title, sampling.grid(pixels, columns=8, scale=2))
                                           for title, pixels in grids.items()]), sync=False)
    write(out / "images.png", plots.two_of_each(two_of_each(generators, network, data)), sync=False)
    write(out / "losses.json", as_json({model: {"moments": losses_at(log, MOMENTS),
                                                "lowest_generator_loss": lowest(log, "generator_loss")}
                                        for model, log in logs.items()}))
    write(out / "attempts.json", as_json(count(attempts())))
    print(markdown(attempts()))


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/figures.py --run results/runs/q4_wgan_fashion_seed0
  python q4_wgan/experiments/figures.py                  the pair that ships, into results/runs/q4""")
    parser.add_argument("--run", type=path, metavar="FOLDER", help="a run folder of train.py, for its pictures")
    parser.add_argument("--out", type=path, metavar="FOLDER", help="for those of the pair (default: results/runs/q4)")
    add_folders(parser)
    args = parser.parse_args()
    if args.run and args.out:
        raise UserError("--out: the pictures of --run go into its folder")

    out = args.run or args.out or args.results_dir / "runs/q4"
    draw_run(out) if args.run else draw_pair(out, args.data_dir)
    print(f"saved the figures in {shown(out)}")


if __name__ == "__main__":
    run_main(main)
