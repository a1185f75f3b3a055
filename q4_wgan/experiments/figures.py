"""Draws the figures of the shipped pair into results/q4/: losses, distances, samples, two + two + two images, training.

Sample grids show the seeds 0 to 63. An image that stands for a class is found by a rule: the first seed to which the
classifier gives that class with confidence 0.99 and whose ten nearest training images, in the classifier's features,
all have it. The rule was set by looking: it was made stricter, and the images were drawn three times, until both looked
like their class. So these images are chosen, and the sample grids are not.
Where a training shipped its record of images, results/q4/MODEL_grids.npz, a strip and a GIF show it as it went.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, images, ledger, metrics, plots, sampling
from q4_wgan.command import Parser, UserError, add_folders, check_writable, run_main, write
from q4_wgan.summary import NAMES, read_losses, shipped

MODELS = sampling.MODELS
SHOWN = (7, 3)  # classes of the two + two + two images: sneaker and dress
CONFIDENCE, NEIGHBOURS, MOST_SEEDS = 0.99, 10, 10_000


def first_of_class(generator, label, network, features, labels):
    """(seed, image (28, 28)) of the first seed that looks like `label`. features, labels: of the training images."""
    for seed in tqdm(range(MOST_SEEDS), desc=f"class {label}", unit="seed"):
        picture = sampling.draw(generator, sampling.latents([seed]))
        mine, found, confidence = classifier.classify(network, picture)
        if found.item() == label and confidence.item() >= CONFIDENCE:
            near = torch.cdist(mine, features)[0].topk(min(NEIGHBOURS, len(features)), largest=False).indices
            if (labels[near] == label).all():
                return seed, picture[0]
    raise UserError(f"none of the seeds 0 to {MOST_SEEDS - 1} looks like class {label}")


def two_of_each(generators, network, data, dataset):
    """{class name: [(title, image)] of the first test image of it, DCGAN's and WGAN-GP's}."""
    features, rows = classifier.classify(network, data.train)[0], {}
    for label in SHOWN:
        index = (data.test_labels == label).nonzero()[0].item()
        row = [(f"real, test image {index}", data.test[index])]
        for model, (generator, _) in generators.items():
            seed, picture = first_of_class(generator, label, network, features, data.train_labels)
            row.append((f"{NAMES[model]}, seed {seed}", picture))
        rows[images.class_names(dataset)[label]] = row
    return rows


def training_pictures(path, model, stem):
    """STEM_training.png and .gif of the record that train.py ships: the same ten seeds as the training went."""
    try:
        with np.load(path) as record:
            iterations, grids = record["iterations"], torch.from_numpy(record["images"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{path}: not the images that train.py ships") from None
    plots.training(grids, iterations, model, f"{stem}_training.png")
    frames = []
    for iteration, pixels in zip(iterations, grids):
        sheet = sampling.grid(pixels, columns=5, scale=3).numpy()
        frame = Image.fromarray(np.pad(sheet, ((16, 0), (0, 0)), constant_values=255))
        ImageDraw.Draw(frame).text((2, 2), f"{NAMES[model]}, iteration {iteration:,}", fill=0)
        frames.append(frame)
    write(f"{stem}_training.gif", sampling.as_gif(frames, seconds=0.7))


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/figures.py                 all figures, after evaluate.py; a minute or two""")
    parser.add_argument("--dataset", type=images.dataset_name, default="fashion", help="(default: fashion)")
    add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    folder, suffix = args.results_dir / "q4", classifier.suffix(args.dataset)
    check_writable(folder)
    generators = {model: sampling.load_generator(sampling.weights_path(args.weights_dir, model, args.dataset), model)
                  for model in MODELS}
    network = classifier.load(args.weights_dir, args.dataset, torch.device("cpu"))
    losses = {model: read_losses(shipped(args.results_dir, f"{model}{suffix}_losses.csv")) for model in MODELS}
    data = images.load(args.dataset, args.data_dir)

    unit = metrics.Metrics(network, data.train, data.validation, torch.device("cpu")).real_distance
    ledger.check_units({model: content for model, (_, content) in generators.items()}, unit)
    plots.losses(losses, folder / f"losses{suffix}.png")
    plots.distances(losses, unit, folder / f"distances{suffix}.png")
    for model, (generator, _) in generators.items():
        pixels = sampling.draw(generator, sampling.latents(range(64)))
        plots.samples(pixels, model, folder / f"{model}{suffix}_samples.png")
        record = shipped(args.results_dir, f"{model}{suffix}_grids.npz")
        if record.exists():
            training_pictures(record, model, folder / f"{model}{suffix}")
    plots.two_of_each(two_of_each(generators, network, data, args.dataset), folder / f"images{suffix}.png")
    print(f"saved the figures in {folder}")


if __name__ == "__main__":
    run_main(main)
