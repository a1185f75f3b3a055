"""Scores of a generator: 10,000 generated against the 10,000 test images, five sampling seeds; four minutes each.

Relative Frechet distance in the classifier's features and in the pixels (1: as good as 10,000 training images),
precision and recall, class frequencies, how far generated images are from their nearest training image. With --run
they are written into the run folder and printed beside those of the pair that ships; without it, that pair is scored.
This is not the Inception FID.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import entropy
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, files, images, metrics, sampling
from q4_wgan.command import ROOT, Parser, add_folders, as_json, number, path, read_json, run_main, seed, shown, write
from q4_wgan.plots import NAMES
from q4_wgan.run import World

TRAINING = ("objective", "arch", "dim", "iterations", "batch", "learning_rate", "generator_learning_rate", "beta1",
            "critic_steps", "penalty_images", "seed", "precision", "device", "outcome", "reached", "seconds", "commit")
ROWS = (("relative Fréchet distance", "relative_distance", ".1f", 1),
        ("the same in 64 principal components of the pixels", "relative_distance_pixels", ".2f", 1),
        ("precision", "precision", ".3f", 1), ("recall", "recall", ".3f", 1),
        ("smallest class frequency, %", "smallest_class_frequency", ".1f", 100),
        ("largest class frequency, %", "largest_class_frequency", ".1f", 100),
        ("KL of the class frequencies to uniform, nats", "kl_to_uniform", ".4f", 1),
        ("median distance to the nearest training image", "median_distance_to_nearest_training", ".2f", 1))


def nearest(pixels, training, chunk=250):
    """Median Euclidean distance of images (n, 28, 28) to their nearest training image, pixels scaled to 0..1."""
    flat, parts = training.flatten(1).float() / 255, (pixels.flatten(1).float() / 255).split(chunk)
    return torch.cat([torch.cdist(part, flat).min(1).values for part in parts]).median().item()


def generated_scores(generator, seeds, world, training, name):
    """{score: mean, standard deviation, n} over the sampling seeds, and the mean class frequencies."""
    found, generator = [], generator.to(world.device)
    for one in tqdm(seeds, desc=name, unit="seed"):
        values = metrics.scores(world, generator, one)
        frequencies = values["class_frequencies"]
        some = sampling.sample(generator, 1000, one, world.device).cpu()
        found.append({**values, "kl_to_uniform": float(entropy(frequencies, [0.1] * 10)),
                      "smallest_class_frequency": min(frequencies), "largest_class_frequency": max(frequencies),
                      "median_distance_to_nearest_training": nearest(some, training)})
    mean_frequencies = np.mean([values.pop("class_frequencies") for values in found], axis=0).tolist()
    columns = {key: np.array([values[key] for values in found]) for key in found[0]}
    return {"sampling_seeds": list(seeds), "class_frequencies": mean_frequencies,
            **{key: {"mean": column.mean().item(), "std": column.std(ddof=1).item(), "n": len(column)}
               for key, column in columns.items()}}


def real_scores(world, training, labels):
    """Of real images: the unit of the distances, what it is made of, what a perfect generator would have, and the
    relative distances of training images made worse in known ways. labels: of `training`, all training images."""
    def features(pixels):
        return classifier.classify(world.network, pixels)[0]

    def relative(pixels):
        return distance(features(pixels), real) / world.test.real_distance

    data, distance, real = world.data, metrics.frechet_distance, features(world.data.test)
    n, validation, train = len(real), features(data.validation), features(data.train[:2 * len(real)])
    precision, recall = metrics.precision_recall(real, train[:n])
    random, few = torch.Generator().manual_seed(0), training[:n // 2].float()
    noise = torch.randn(few.shape, generator=random)
    blurred = F.avg_pool2d(F.pad(few.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, 1).squeeze(1)
    classes = [k for k in range(10) if 1 < (labels == k).sum() < len(labels)]
    return {"images": n, "real_distance": world.test.real_distance,
            "real_distance_validation": distance(features(data.train[:len(validation)]), validation),
            "distance_train_train": distance(train[:n], train[n:]) if len(train) > n + 1 else None,
            "distance_validation_test": distance(validation, real), "precision": precision, "recall": recall,
            "class_frequencies_of_test": metrics.class_frequencies(data.test_labels),
            "median_distance_to_nearest_training": nearest(data.test[:1000], training),
            "calibration": {
                "without_one_class": [relative(training[labels != k][:n]) for k in classes],
                "one_class_only": [relative(training[labels == k][:n // 2]) for k in classes],
                "noise_20_grey_levels": relative((few + 20 * noise).clamp(0, 255).to(torch.uint8)),
                "blurred_3x3": relative(blurred.to(torch.uint8)),
                "uniform_noise": relative(torch.randint(0, 256, few.shape, generator=random, dtype=torch.uint8))}}


def table(scores):
    """The scores as the table in README.md; scores: {name: of generated_scores, "real": of real_scores}."""
    names = [name for name in scores if name not in ("real", "failure")]
    lines = [("", *(NAMES.get(name, name) for name in names), "real training images"), ("---",) * (len(names) + 2)]
    for title, key, form, unit in ROWS:
        real = {"relative_distance": "1", "relative_distance_pixels": "1"}.get(key) or (
            f"{scores['real'][key]:{form}}" if key in scores["real"] else "")
        cells = (" ± ".join(f"{scores[name][key][part] * unit + 1e-9:{form}}" for part in ("mean", "std"))  # half: up
                 for name in names)
        lines.append((title, *cells, real + " (test images)" * title.startswith("median")))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/evaluate.py --run results/runs/q4_wgan_fashion_seed0    a training of your own
  python q4_wgan/evaluate.py                                             the pair that ships""")
    add = parser.add_argument
    add("--run", type=path, metavar="FOLDER", help="a run folder of train.py (default: the pair that ships)")
    add("--out", type=path, metavar="FOLDER", help="for scores.json (default: the run folder, else results/runs/q4)")
    add("--seed", type=seed, default=0, help="first sampling seed (default: 0)")
    add("--repeats", type=number(int, 2, 1000), default=5, help="sampling seeds (default: 5)")
    files.add_device(parser)
    add_folders(parser)
    args = parser.parse_args()

    wanted = {args.run.resolve().name: args.run} if args.run else dict.fromkeys(sampling.SHIPPED)
    loaded = {name: sampling.load_generator(sampling.weights_path(name, run)) for name, run in wanted.items()}
    dataset = next(iter(loaded.values()))[1].get("dataset", "fashion")
    world = World.load(dataset, args.data_dir, args.results_dir, files.pick_device(args.device))
    training = torch.cat((world.data.train, world.data.validation))
    print(f"measuring the real images of {images.title(dataset)}, a minute", flush=True)
    scores = {"real": real_scores(world, training, torch.cat((world.data.train_labels, world.data.validation_labels))),
              "failure": {"relative_distance_above": metrics.FAILED_ABOVE,
                          "class_frequency_below": metrics.SMALLEST_FREQUENCY}}
    seeds = range(args.seed, args.seed + args.repeats)
    for name, (generator, content) in loaded.items():
        scores[name] = {"training": {key: content[key] for key in TRAINING if content.get(key) is not None},
                        "validation_relative_distance": content.get("relative_distance"),
                        **generated_scores(generator, seeds, world, training, name)}
    out = (args.out or args.run or args.results_dir / "runs/q4") / "scores.json"
    write(out, as_json(scores))
    shipped = read_json(ROOT / "results/q4/scores.json") if args.run and dataset == "fashion" else {}
    print(table({**{name: shipped[name] for name in sampling.SHIPPED if name in shipped}, **scores}))
    print(f"saved {shown(out)}")


if __name__ == "__main__":
    run_main(main)
