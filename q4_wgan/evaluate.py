"""Scores of a generator: 10,000 generated against the 10,000 test images, five sampling seeds; some minutes.

Relative Frechet distance in the classifier's features, in those of a second one where there is one, and in the pixels
(1: as good as 10,000 training images), precision and recall, class frequencies, how far generated images are from their
nearest training image. With --run they are written into the run folder and printed beside those of the pair that ships;
without it, that pair is scored. This is not the Inception FID.
"""

import sys
from pathlib import Path

import torch
from scipy.stats import entropy
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, files, images, metrics, sampling
from q4_wgan.command import ROOT, Parser, add_folders, as_json, number, path, read_json, run_main, seed, shown, write
from q4_wgan.plots import NAMES
from q4_wgan.run import World

ROWS = (("relative Fréchet distance", "relative_distance", 1, 1),
        ("the same in 64 principal components of the pixels", "relative_distance_pixels", 2, 1),
        ("the same in the second classifier's features", "relative_distance_second", 1, 1),
        ("precision", "precision", 3, 1), ("recall", "recall", 3, 1),
        ("smallest class frequency, %", "smallest_class_frequency", 1, 100),
        ("largest class frequency, %", "largest_class_frequency", 1, 100),
        ("KL of the class frequencies to uniform, nats", "kl_to_uniform", 4, 1),
        ("median distance to the nearest training image", "median_distance_to_nearest_training", 2, 1))


def nearest(pixels, training, chunk=250):
    """Median Euclidean distance of images (n, 28, 28) to their nearest training image, pixels scaled to 0..1."""
    flat, parts = training.flatten(1).float() / 255, (pixels.flatten(1).float() / 255).split(chunk)
    return torch.cat([torch.cdist(part, flat).min(1).values for part in parts]).median().item()


def generated_scores(generator, seeds, world, training, name):
    """{score: mean, standard deviation, n} over the sampling seeds."""
    found, generator = [], generator.to(world.device)
    for one in tqdm(seeds, desc=name, unit="seed"):
        values = metrics.scores(world, generator, one)
        frequencies = values.pop("class_frequencies")
        some = sampling.sample(generator, 1000, one, world.device).cpu()
        found.append({**values, "kl_to_uniform": entropy(frequencies, [0.1] * 10),
                      "smallest_class_frequency": min(frequencies), "largest_class_frequency": max(frequencies),
                      "median_distance_to_nearest_training": nearest(some, training)})
    means = {key: metrics.mean_std([values[key] for values in found]) for key in found[0]}
    return {"sampling_seeds": list(seeds), **means}


def real_scores(world, training, labels):
    """Of real images: the unit of the distances, what a perfect generator would have, and the relative distances of
    training images made worse in known ways. labels: of `training`, all training images."""
    def features(pixels):
        return classifier.classify(world.network, pixels)[0]

    def relative(pixels):
        return distance(features(pixels), real) / unit

    data, unit = world.data, world.test.units[""]
    distance, real = metrics.frechet_distance, features(data.test)
    n, validation = len(real), features(data.validation)
    precision, recall = metrics.precision_recall(real, features(data.train[:n]))
    blurred = F.avg_pool2d(F.pad(training[:n // 2].float().unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, 1)
    classes = [k for k in range(10) if 1 < (labels == k).sum() < len(labels)]
    return {"images": n, "real_distance": unit,
            "real_distance_validation": distance(features(data.train[:len(validation)]), validation),
            "precision": precision, "recall": recall,
            "median_distance_to_nearest_training": nearest(data.test[:1000], training),
            "calibration": {
                "without_one_class": [relative(training[labels != k][:n]) for k in classes],
                "blurred_3x3": relative(blurred.squeeze(1).to(torch.uint8))}}


def table(scores):
    """The scores as the table in README.md; scores: {name: of generated_scores, "real": of real_scores}."""
    names, rows = [name for name in scores if name not in ("real", "failure")], []
    for title, key, digits, unit in ROWS:
        if not all(key in scores[name] for name in names):  # the second classifier's, where there is none
            continue
        real = "1" if key.startswith("relative_distance") else ""
        if key in scores["real"]:
            real = f"{scores['real'][key]:.{digits}f}" + " (test images)" * key.startswith("median")
        rows.append((title, *(metrics.plus_minus(scores[name][key], digits, unit) for name in names), real))
    return metrics.table(("", *(NAMES.get(name, name) for name in names), "real training images"), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/evaluate.py --run results/runs/q4_wgan_fashion_seed0    a training of your own
  python q4_wgan/evaluate.py                                             the pair that ships""")
    add = parser.add_argument
    add("--run", type=path, metavar="FOLDER", help="a run folder of train.py (default: the pair that ships)")
    add("--out", type=path, metavar="FOLDER", help="for scores.json (default: the run folder, else results/runs/q4)")
    add("--seed", type=seed, default=0, help="first sampling seed (default: 0)")
    add("--repeats", type=number(int, 2, 1000), default=5, help="sampling seeds (default: 5)")
    files.add_device(parser, precision=False)
    add_folders(parser)
    args = parser.parse_args()

    folders = {"/".join(args.run.resolve().parts[-2:]): args.run} if args.run else sampling.SHIPPED
    loaded = {name: sampling.load_generator(folder) for name, folder in folders.items()}
    dataset = next(iter(loaded.values()))[1].get("dataset", "fashion")
    world = World.load(dataset, args.data_dir, args.results_dir, files.pick_device(args.device))
    data, training = world.data, torch.cat((world.data.train, world.data.validation))
    print(f"measuring the real images of {images.title(dataset)}, a minute or two", flush=True)
    scores = {"real": real_scores(world, training, torch.cat((data.train_labels, data.validation_labels))),
              "failure": {"relative_distance_above": metrics.FAILED_ABOVE,
                          "class_frequency_below": metrics.SMALLEST_FREQUENCY}}
    seeds = range(args.seed, args.seed + args.repeats)
    for name, (generator, content) in loaded.items():
        scores[name] = {"training": {key: value for key, value in content.items() if key != "state"},
                        **generated_scores(generator, seeds, world, training, name)}
    out = (args.out or args.run or args.results_dir / "runs/q4") / "scores.json"
    write(out, as_json(scores))
    shipped = read_json(ROOT / "results/q4/scores.json") if args.run and dataset == "fashion" else {}
    print(table({**{name: shipped[name] for name in sampling.SHIPPED if name in shipped}, **scores}))
    print(f"saved {shown(out)}")


if __name__ == "__main__":
    run_main(main)
