"""Draws what the READMEs show of the shipped pair; with --run a film of a training of your own, into its folder.

Of a run that has ended: a strip and a GIF of the same ten seeds as training went. Of the pair: these, the losses,
samples, grids.png (64 real images beside the seeds 0 to 63 of both, uncurated) and images.png, whose four seeds were
chosen by hand. Also losses.json, how the losses read at some moments. A minute.
"""

import csv
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan import images, sampling
from q4_wgan.command import Parser, UserError, add_folders, as_json, path, read_json, run_main, shown, write
from q4_wgan.experiments import jobs, plots
from q4_wgan.plots import NAMES, column
from q4_wgan.sampling import SHIPPED
from q4_wgan.training import MODELS

# Seeds, sneakers and sleeveless dresses, with the test image that is nearest to both in the classifier's features.
CHOSEN = {"Sneaker": {"dcgan": 2, "real": 5337, "wgan": 29}, "Dress": {"dcgan": 255, "real": 1996, "wgan": 1}}
MOMENTS = 1_000, 2_000, 4_000, 8_000, 10_000, 12_000, 16_000  # of losses.json, with the first and last measurement


def draw_training(file, title, stem):
    """STEMtraining.png and .gif of a run's grids.npz: the same ten seeds as the training went."""
    try:
        with np.load(file) as record:
            iterations, grids = record["iterations"], torch.from_numpy(record["images"])
    except FileNotFoundError:
        raise UserError(f"{file}: not there; the images of a training are there once it has ended") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{file}: not the images that train.py writes") from None
    write(f"{stem}training.png", plots.training(grids, iterations, title), sync=False)
    write(f"{stem}training.gif", plots.film(grids, iterations, title), sync=False)


def losses_at(rows, moments, window=100):
    """The losses at the first and last measurement and at those of `moments` that are measured, of a run's metrics.csv:
    means over the `window` iterations before, and the single values on validation images."""
    found, table = {name: column(rows, name) for name in ("critic_loss", "generator_loss")}, []
    measured = [row for row in rows if row["relative_distance"]]
    for row in measured:
        at = int(row["iteration"])
        if row in (measured[0], measured[-1]) or at in moments:
            means = {name: y[(x > at - window) & (x <= at)].mean().item() for name, (x, y) in found.items()}
            table.append({"iteration": at, **means, "validation_critic_loss": float(row["validation_critic_loss"]),
                          "relative_distance": float(row["relative_distance"])})
    return table


def lowest(rows, name, window=500):
    """The lowest mean of `window` iterations that a loss has: value, and the iteration at their end."""
    x, y = column(rows, name)
    steps = max(1, int(np.sum(x <= window)))
    means = np.convolve(y, np.ones(steps) / steps, "valid")
    return {"value": float(means.min()), "iteration": int(x[steps - 1 + means.argmin()])}


def draw_pair(out, data_dir):
    """All that is published of the shipped pair, into the folder `out`."""
    data = images.load("fashion", data_dir)
    generators = {model: sampling.load_generator(folder)[0] for model, folder in SHIPPED.items()}
    logs = {model: list(csv.DictReader((folder / "metrics.csv").open())) for model, folder in SHIPPED.items()}
    write(out / "losses.png", plots.losses({MODELS[model]: rows for model, rows in logs.items()}), sync=False)
    write(out / "losses.json", as_json({model: {"moments": losses_at(rows, MOMENTS),
                                                "lowest_generator_loss": lowest(rows, "generator_loss")}
                                        for model, rows in logs.items()}))
    samples = {model: sampling.draw_seeds(generator, range(64)) for model, generator in generators.items()}
    for model, folder in SHIPPED.items():
        sheet = f"{NAMES[model]}, seeds 0 to 63", sampling.grid(samples[model], columns=8, scale=3)
        write(out / f"{model}_samples.png", plots.headed([sheet]), sync=False)
        record = folder / "grids.npz"
        if not record.exists():  # that of WGAN-GP is of another run
            record = jobs.PUBLISHED / f"{model}_grids.npz"
        draw_training(record, NAMES[model], out / f"{model}_")
    grids = {"real": data.test[:64], **{NAMES[model]: pixels for model, pixels in samples.items()}}
    write(out / "grids.png", plots.headed([(title, sampling.grid(pixels, columns=8, scale=2))
                                           for title, pixels in grids.items()]), sync=False)
    six = {label: [(f"real, test image {i}", data.test[i]) if model == "real" else
                   (f"{NAMES[model]}, seed {i}", sampling.draw_seeds(generators[model], [i])[0])
                   for model, i in chosen.items()] for label, chosen in CHOSEN.items()}
    write(out / "images.png", plots.two_of_each(six), sync=False)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/figures.py --run results/runs/q4_wgan_fashion_seed0
  python q4_wgan/experiments/figures.py                  the pair that ships, into results/runs/q4""")
    parser.add_argument("--run", type=path, metavar="FOLDER", help="a run folder of train.py, for a film of it")
    parser.add_argument("--out", type=path, metavar="FOLDER", help="for those of the pair (default: results/runs/q4)")
    add_folders(parser)
    args = parser.parse_args()
    if args.run and args.out:
        raise UserError("--out: the pictures of --run go into its folder")

    out = args.run or args.out or args.results_dir / "runs/q4"
    if args.run:
        objective = read_json(out / "options.json").get("objective")
        draw_training(out / "grids.npz", NAMES.get(objective, "GAN"), f"{out}/")
    else:
        draw_pair(out, args.data_dir)
    print(f"saved the figures in {shown(out)}")


if __name__ == "__main__":
    run_main(main)
