"""Scores of the shipped generators: 10,000 generated against the 10,000 test images, five sampling seeds each.

Writes results/q4/scores.json: relative Frechet distance in the classifier's features and in the pixels (1: as good as
10,000 training images), precision and recall, class frequencies, how far generated images are from their nearest
training image; what the distance means (training images made worse in known ways); what the losses and the ledger of
attempts say about the two trainings. This is not the Inception FID, which --inception computes. Takes some minutes.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import entropy
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, command, files, images, ledger, metrics, sampling
from q4_wgan.command import UserError, number
from q4_wgan.summary import NAMES, mean_std, read_losses, shipped, table

MODELS = sampling.MODELS
TRAINING = ("attempt", "objective", "arch", "dim", "iterations", "batch", "learning_rate", "generator_learning_rate",
            "beta1", "penalty_images", "seed", "precision", "device", "seconds")  # what is said of a training
WINDOW = 100  # iterations that a loss is the mean of, where one is quoted
MOMENTS = 1_000, 2_000, 4_000, 8_000, 10_000, 12_000, 16_000  # of a training, besides its first evaluation and its end


# ---- images --------------------------------------------------------------------------------------

def nearest(pixels, training, chunk=250):
    """Euclidean distance of images (n, 28, 28) to the nearest training image: (n,), pixels scaled to 0..1."""
    flat, parts = training.flatten(1).float() / 255, (pixels.flatten(1).float() / 255).split(chunk)
    return torch.cat([torch.cdist(part, flat).min(1).values for part in parts])


def calibrate(training, labels, n, relative):
    """What the relative distance means: `relative` of training images made worse, n // 2 of them or n."""
    random, few = torch.Generator().manual_seed(0), training[:n // 2].float()
    noise = torch.randn(few.shape, generator=random)
    blurred = F.avg_pool2d(F.pad(few.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, 1).squeeze(1)
    return {"without_one_class": [relative(training[labels != k][:n]) for k in range(10)],
            "one_class_only": [relative(training[labels == k][:n // 2]) for k in range(10)],
            "noise_20_grey_levels": relative((few + 20 * noise).clamp(0, 255).to(torch.uint8)),
            "blurred_3x3": relative(blurred.to(torch.uint8)),
            "uniform_noise": relative(torch.randint(0, 256, few.shape, generator=random, dtype=torch.uint8))}


def real_scores(network, data, training, real, labels):
    """Of real images: the unit of the distances, what it is made of, and what a perfect generator would have.

    training: the training images with the validation images. real, labels: features and labels of the test images.
    """
    def features(pixels):
        return classifier.classify(network, pixels)[0]

    n, distance = len(real), metrics.frechet_distance
    train, validation = features(data.train[:2 * n]), features(data.validation)
    unit, apart = distance(train[:n], real), {}
    if len(train) == 2 * n:
        apart["distance_train_train"] = distance(train[:n], train[n:])
    precision, recall = metrics.precision_recall(real, train[:n])
    return {"images": n, "real_distance": unit,
            "real_distance_validation": distance(features(data.train[:len(validation)]), validation), **apart,
            "distance_validation_test": distance(validation, real), "precision": precision, "recall": recall,
            "class_frequencies_of_test": metrics.class_frequencies(labels),
            "median_distance_to_nearest_training": nearest(data.test[:1000], training).median().item(),
            "calibration": calibrate(training, torch.cat((data.train_labels, data.validation_labels)), n,
                                     lambda pixels: distance(features(pixels), real) / unit)}


def generated_scores(generator, seeds, measure, real, training, model):
    """{score: mean, standard deviation, n} over the sampling seeds, and the mean class frequencies."""
    found = []
    for one in tqdm(seeds, desc=model, unit="seed"):
        pixels = sampling.sample(generator, len(real), one, next(generator.parameters()).device).cpu()
        precision, recall = metrics.precision_recall(real, classifier.classify(measure.network, pixels)[0])
        values = measure(pixels)
        frequencies = values["class_frequencies"]
        found.append({**values, "precision": precision, "recall": recall,
                      "kl_to_uniform": float(entropy(frequencies, [0.1] * 10)),
                      "smallest_class_frequency": min(frequencies), "largest_class_frequency": max(frequencies),
                      "median_distance_to_nearest_training": nearest(pixels[:1000], training).median().item()})
    frequencies = np.mean([values.pop("class_frequencies") for values in found], axis=0).tolist()
    return {"sampling_seeds": list(seeds), **{key: mean_std([values[key] for values in found]) for key in found[0]},
            "class_frequencies": frequencies}


def inception():
    """torchmetrics' Inception FID (Heusel et al. 2017), which fetches its weights. Raises UserError without it."""
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        return FrechetInceptionDistance()
    except Exception as error:  # not installed, no network, a refused file
        raise UserError("--inception: needs pip install 'torchmetrics[image]' and its weights from the network "
                        f"({type(error).__name__}: {error})") from None


def inception_fid(metric, generated, real):
    """The Inception FID of uint8 images (n, 28, 28). metric: of `inception`."""
    metric.reset()
    for pixels, is_real in ((real, True), (generated, False)):
        for part in pixels.split(250):
            metric.update(part.unsqueeze(1).expand(-1, 3, -1, -1), real=is_real)
    return metric.compute().item()


# ---- losses --------------------------------------------------------------------------------------

def moments_of(losses, unit):
    """The losses where the distance was taken: means of the WINDOW iterations before, and the validation loss there."""
    iteration, table = losses["iteration"], []
    evaluated = iteration[~np.isnan(losses["distance"])]
    for at in sorted({evaluated[0], evaluated[-1], *(m for m in MOMENTS if m in evaluated)}):
        window, row = (iteration > at - WINDOW) & (iteration <= at), iteration == at
        table.append({"iteration": int(at), "critic_loss": float(losses["critic_loss"][window].mean()),
                      "generator_loss": float(losses["generator_loss"][window].mean()),
                      "validation_critic_loss": float(losses["validation_critic_loss"][row][0]),
                      "relative_distance": float(losses["distance"][row][0] / unit)})
    return table


def lowest(losses, name):
    """The lowest mean of 500 iterations that a loss has: value, and the iteration at their end."""
    steps = max(1, int(np.sum(losses["iteration"] <= 500)))
    means = np.convolve(losses[name], np.ones(steps) / steps, "valid")
    return {"value": float(means.min()), "iteration": int(losses["iteration"][steps - 1 + means.argmin()])}


# ---- the command ---------------------------------------------------------------------------------

def markdown(scores):
    """The scores as the table in README.md."""
    real = scores["real"]
    rows = (("relative Fréchet distance", "relative_distance", ".1f", 1, "1"),
            ("the same in 64 principal components of the pixels", "relative_distance_pixels", ".2f", 1, "1"),
            ("precision", "precision", ".3f", 1, f"{real['precision']:.3f}"),
            ("recall", "recall", ".3f", 1, f"{real['recall']:.3f}"),
            ("smallest class frequency, %", "smallest_class_frequency", ".1f", 100, ""),
            ("largest class frequency, %", "largest_class_frequency", ".1f", 100, ""),
            ("KL of the class frequencies to uniform, nats", "kl_to_uniform", ".4f", 1, ""),
            ("median distance to the nearest training image", "median_distance_to_nearest_training", ".2f", 1,
             f"{real['median_distance_to_nearest_training']:.2f} (test images)"))
    def cell(found, form, unit):  # a half is rounded up, as in the report
        return " ± ".join(f"{found[key] * unit + 1e-9:{form}}" for key in ("mean", "std"))
    return table(("", *(NAMES[model] for model in MODELS), "real training images"), (
        (title, *(cell(scores[model][key], form, unit) for model in MODELS), of_real)
        for title, key, form, unit, of_real in rows))


def main():
    parser = command.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/evaluate.py                        both shipped generators
  python q4_wgan/evaluate.py --model wgan           this one; the scores of the other are kept
  python q4_wgan/evaluate.py --inception            the Inception FID as well (torchmetrics; fetches its weights)""")
    parser.add_argument("--model", choices=MODELS, help="only this one (default: both)")
    parser.add_argument("--dataset", type=images.dataset_name, default="fashion", help="(default: fashion)")
    parser.add_argument("--seed", type=command.seed, default=0, help="first sampling seed (default: 0)")
    parser.add_argument("--repeats", type=number(int, 2, 1000), default=5, help="sampling seeds (default: 5)")
    parser.add_argument("--inception", action="store_true", help="also the Inception FID, of the first sampling seed")
    files.add_device(parser)
    command.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    suffix = classifier.suffix(args.dataset)
    path = args.results_dir / "q4" / f"scores{suffix}.json"
    command.check_writable(path.parent)
    fid = inception() if args.inception else None
    scores = command.read_json(path) if args.model and path.exists() else {}
    device = files.pick_device(args.device)
    generators = {model: sampling.load_generator(sampling.weights_path(args.weights_dir, model, args.dataset), model)
                  for model in ([args.model] if args.model else MODELS)}
    losses = {model: read_losses(shipped(args.results_dir, f"{model}{suffix}_losses.csv")) for model in generators}
    network = classifier.load(args.weights_dir, args.dataset, device)
    data = images.load(args.dataset, args.data_dir)
    measure = metrics.Metrics(network, data.train, data.test, device)
    training = torch.cat((data.train, data.validation))
    real, labels, _ = classifier.classify(network, data.test)
    print("measuring real images, a minute", flush=True)
    scores["real"] = real_scores(network, data, training, real, labels)
    ledger.check_units({model: content for model, (_, content) in generators.items()},
                       scores["real"]["real_distance_validation"])
    scores["failure"] = {"relative_distance_above": metrics.FAILED_ABOVE,
                         "class_frequency_below": metrics.SMALLEST_FREQUENCY}
    attempts = ledger.attempts(shipped(args.results_dir, "attempts.jsonl"))
    for model, (generator, content) in generators.items():
        generator.to(device)
        seeds = range(args.seed, args.seed + args.repeats)
        moments = moments_of(losses[model], scores["real"]["real_distance_validation"])
        scores[model] = {"training": {**{key: content[key] for key in TRAINING if content.get(key) is not None},
                                      "validation_relative_distance": moments[-1]["relative_distance"]},
                         **generated_scores(generator, seeds, measure, real, training, model),
                         "attempts": ledger.counts(attempts, content), "moments": moments,
                         "lowest_generator_loss": lowest(losses[model], "generator_loss")}
        if fid:
            generated = sampling.sample(generator, len(data.test), args.seed, device).cpu()
            scores[model]["inception_fid"] = inception_fid(fid, generated, data.test)
    command.write(path, command.as_json(scores))
    print(markdown(scores) if scores.keys() >= set(MODELS) else "")
    print(f"saved {path}")


if __name__ == "__main__":
    command.run_main(main)
