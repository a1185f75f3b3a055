"""Draws the pictures of this room from what train.py shipped: losses, distances, samples, comparison, film strip and
nearest neighbours, as results/q4_*.png. Nothing in them is picked by hand: seeds count up from 0.
"""

import csv
import json
import math

import matplotlib
import numpy as np
import torch
from PIL import Image

import classifier
import files
import images
import pictures
from evaluate import nearest
from files import UserError
from generate import draw, draw_label, load_generator

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of a backend without a screen)

NAMES = {"dcgan": "DCGAN", "wgan": "WGAN-GP"}
COLOURS = {"dcgan": "tab:blue", "wgan": "tab:orange"}
SHOWN = (7, 3)  # classes of the comparison: sneaker and dress
SMOOTH = 500  # iterations of the running mean


def read_losses(path):
    """{column: float array (rows,), nan where empty} of a losses.csv."""
    if not path.exists():
        raise UserError(f"{path}: missing; train.py writes it when a run has converged")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {name: np.array([float(row[name] or math.nan) for row in rows]) for name in rows[0]}
    except (IndexError, ValueError, TypeError):
        raise UserError(f"{path}: not the losses that train.py writes") from None


def save(figure, path):
    files.write_atomic(path, lambda file: figure.savefig(file, dpi=150, format="png"))
    plt.close(figure)
    print(f"saved {path}")


def plot_smoothed(axes, x, y, colour, label):
    """The raw curve, pale, and its running mean over SMOOTH iterations."""
    axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.6)
    width = min(len(y), max(1, int(np.sum(x <= SMOOTH))))
    mean = np.convolve(y, np.ones(width) / width, "valid")
    axes.plot(x[width - 1:], mean, color=colour, linewidth=1.6, label=f"{label} (mean of {SMOOTH} iterations)")


def plot_held_out(axes, losses, values, who):
    seen = ~np.isnan(values)
    axes.plot(losses["iteration"][seen], values[seen], "k.--", markersize=4, linewidth=0.8, label=f"{who}, held-out images")


def continued_at(attempts, name):
    """The iterations at which the trainings that led to attempt `name` went on, first to last."""
    attempts, starts = {attempt["attempt"]: attempt for attempt in attempts}, []
    while name in attempts:
        starts.append(attempts[name].get("start"))
        name = attempts[name].get("continues")
    return sorted(filter(None, starts))


def draw_losses(losses, starts, path):
    """starts: {model: iterations at which its training was continued}."""
    figure, ((top_left, top_right), (left, right)) = plt.subplots(2, 2, figsize=(12, 8), sharex="row", layout="constrained")
    dcgan, wgan = losses["dcgan"], losses["wgan"]
    plot_smoothed(top_left, dcgan["iteration"], dcgan["generator_loss"], COLOURS["dcgan"], "generator")
    top_left.set(title="DCGAN: generator loss  −E[log D(G(z))]", ylabel="loss (nats)")
    plot_smoothed(top_right, dcgan["iteration"], dcgan["critic_loss"], COLOURS["dcgan"], "discriminator, training images")
    plot_held_out(top_right, dcgan, dcgan["held_out_critic_loss"], "discriminator")
    top_right.axhline(2 * math.log(2), color="grey", linewidth=0.8, linestyle=":",
                      label="2 ln 2: cannot tell real from generated")
    top_right.set(title="DCGAN: discriminator loss", ylabel="loss (nats)")
    plot_smoothed(left, wgan["iteration"], wgan["generator_loss"], COLOURS["wgan"], "generator")
    left.set(title="WGAN-GP: generator loss  −E[D(G(z))]", ylabel="loss (critic's units)")
    plot_smoothed(right, wgan["iteration"], -wgan["critic_loss"], COLOURS["wgan"], "critic, training images")
    plot_held_out(right, wgan, -wgan["held_out_critic_loss"], "critic")
    right.set(title="WGAN-GP: negative critic loss (Wasserstein estimate)", ylabel="−loss (pixel distance, up to a factor)")
    for axes, model in ((top_left, "dcgan"), (top_right, "dcgan"), (left, "wgan"), (right, "wgan")):
        for number, start in enumerate(starts[model]):
            axes.axvline(start, color="tab:red", linewidth=0.8, linestyle="--",
                         label=None if number else "continued: learning rates anew")
        axes.set_xlabel("generator iteration")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    right.set_ylim(0, 1.05 * np.nanquantile(-wgan["critic_loss"], 0.98))  # the peaks of the first iterations left out
    top_left.set_ylim(0, 1.2 * np.nanquantile(dcgan["generator_loss"], 0.995))
    top_right.set_ylim(0, max(1.5, 1.2 * np.nanquantile(dcgan["critic_loss"], 0.995)))
    figure.suptitle("How to read: DCGAN's losses are a duel and say little about quality. WGAN-GP's negative critic loss falls as "
                    "images improve;\na generator loss of a WGAN may drift anywhere. A gap between training and held-out is the "
                    "critic's overfitting.",
                    fontsize=10)
    save(figure, path)


def draw_distances(losses, floors, path):
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for model, columns in losses.items():
        seen = ~np.isnan(columns["distance"])
        axes.plot(columns["iteration"][seen], columns["distance"][seen] / floors[model], ".-", color=COLOURS[model],
                  label=NAMES[model])
    axes.set(xlabel="generator iteration", yscale="log",
             ylabel="Fréchet distance to the held-out images\n(times the real-vs-real floor)",
             title="Quality against training length (features of our own classifier, not Inception FID)")
    axes.title.set_size(10)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    axes.grid(alpha=0.3, which="both")
    save(figure, path)


def draw_samples(generator, model, path):
    pixels = draw(generator, pictures.latents(range(64)))
    figure, axes = plt.subplots(figsize=(6, 6.4), layout="constrained")
    axes.imshow(pictures.grid(pixels, columns=8, scale=2).numpy(), cmap="gray", vmin=0, vmax=255)
    axes.set_title(f"{NAMES[model]}: seeds 0 to 63, uncurated")
    axes.axis("off")
    save(figure, path)


def draw_comparison(generators, test, weights_dir, path):
    """For two classes: two real images, two of the DCGAN, two of the WGAN, the first ones of that class from seed 0 up."""
    figure, panels = plt.subplots(len(SHOWN), 6, figsize=(11, 4.6), layout="constrained")
    pixels, labels = test
    for row, label in zip(panels, SHOWN):
        columns = [(picture, f"real\ntest image {index}") for index, picture in
                   ((i.item(), pixels[i]) for i in (labels == label).nonzero()[:2, 0])]
        for model, generator in generators.items():
            seeds, found, _ = draw_label(generator, label, [0, 1], 0.9, weights_dir)
            columns += [(picture, f"{NAMES[model]}\nseed {seed}") for seed, picture in zip(seeds, found)]
        for axes, (picture, title) in zip(row, columns):
            axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=255)
            axes.set_title(title, fontsize=10)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(images.CLASSES[label], fontsize=12)
    save(figure, path)


def draw_film(model, folder, path, frames=8, columns=10):
    """Seeds 0 to 9 as training went: one row per moment, from the grids in the run folder."""
    grids = sorted((folder / "grids").glob("*.png"))
    # Moments spaced evenly in the logarithm of the iteration: most happens early.
    wanted = np.geomspace(1, len(grids), min(frames, len(grids))).round().astype(int)
    chosen = [grids[i - 1] for i in sorted(set(wanted))]
    strip = []
    for file in chosen:
        sheet = np.asarray(Image.open(file))
        cells = [sheet[30 * (k // 8):30 * (k // 8) + 28, 30 * (k % 8):30 * (k % 8) + 28] for k in range(columns)]
        strip.extend(torch.from_numpy(cell.copy()) for cell in cells)
    sheet = pictures.grid(torch.stack(strip), columns=columns, scale=2).numpy()
    figure, axes = plt.subplots(figsize=(5.5, 0.7 + 0.46 * len(chosen)), layout="constrained")
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    axes.set(title=f"{NAMES[model]}: seeds 0 to {columns - 1}", xticks=[], ylabel="generator iteration")
    axes.set_yticks([28 + 60 * k for k in range(len(chosen))], [f"{int(file.stem):,}" for file in chosen])
    save(figure, path)


def draw_neighbours(generators, training, path, shown=8):
    """Generated images above the training images nearest to them."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    for axes, (model, generator) in zip(panels, generators.items()):
        pixels = draw(generator, pictures.latents(range(shown)))
        distances, rows = nearest(pixels, training)
        sheet = pictures.grid(torch.cat((pixels, training[rows])), columns=shown, scale=2)
        axes.imshow(sheet.numpy(), cmap="gray", vmin=0, vmax=255)
        axes.set_yticks([28, 88], ["generated", "nearest\ntraining image"])
        axes.set_xticks([28 + 60 * k for k in range(shown)], [f"{distance:.1f}" for distance in distances])
        axes.set(title=f"{NAMES[model]}: seeds 0 to {shown - 1}", xlabel="Euclidean distance, pixels in 0..1")
    save(figure, path)


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/figures.py                 all pictures, after both trainings""")
    files.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    generators, floors, attempts, starts = {}, {}, {}, {}
    ledger = files.read_ledger(args.results_dir)
    for model in files.MODELS:
        generators[model], content = load_generator(args.weights_dir / f"q4_{model}.pt", model)
        floors[model], attempts[model] = content["floor"], content["attempt"]
        starts[model] = continued_at(ledger, content["attempt"])
    losses = {model: read_losses(args.results_dir / f"q4_{model}_losses.csv") for model in files.MODELS}
    (training, _), test = images.load(args.data_dir)
    classifier.load(args.weights_dir)  # say so now if it is missing

    draw_losses(losses, starts, args.results_dir / "q4_losses.png")
    draw_distances(losses, floors, args.results_dir / "q4_distances.png")
    for model, generator in generators.items():
        draw_samples(generator, model, args.results_dir / f"q4_{model}_samples.png")
    draw_comparison(generators, test, args.weights_dir, args.results_dir / "q4_comparison.png")
    draw_neighbours(generators, training, args.results_dir / "q4_neighbours.png")
    folders = {json.loads(path.read_text()).get("attempt"): path.parent for path in args.results_dir.glob("runs/*/options.json")}
    for model in files.MODELS:
        path = args.results_dir / f"q4_{model}_film.png"
        if attempts[model] in folders:
            draw_film(model, folders[attempts[model]], path)
        else:
            print(f"{path} is left as it is: it needs the run folder of that training in {args.results_dir / 'runs'}")
    return 0


if __name__ == "__main__":
    files.run_main(main)
