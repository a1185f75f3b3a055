"""Measures the shipped generators: 10,000 generated images against the 10,000 test images, five sampling seeds each.

Writes results/q4_scores.json: Frechet distance in the features of the shipped classifier, as such and in units of the
floor (10,000 training against the 10,000 test images), precision and recall, class shares and their KL to uniform, and
how far generated images are from their nearest training image. Not Inception FID: not comparable with published FIDs.
"""

import csv
import json

import torch
from torch.nn import functional as F
from tqdm import tqdm

import classifier
import files
import images
import measures
from files import UserError
from generate import load_generator
from measures import frechet_distance


def mean_and_spread(values):
    values = torch.tensor(values, dtype=torch.float64)
    return {"mean": values.mean().item(), "std": values.std().item() if len(values) > 1 else None, "n": len(values)}


def nearest(pixels, training, chunk=250):
    """(distance to the nearest training image (n,), its row (n,)), Euclidean over the 784 pixels scaled to 0..1."""
    flat = training.flatten(1).float() / 255
    norms = flat.square().sum(1)
    distances, rows = [], []
    for part in (pixels.flatten(1).float() / 255).split(chunk):
        squared = part.square().sum(1, keepdim=True) + norms - 2 * part @ flat.T
        value, row = squared.min(1)
        distances.append(value.clamp(min=0).sqrt())
        rows.append(row)
    return torch.cat(distances), torch.cat(rows)


def calibrate(network, training, labels, reference, floor):
    """What the distance means, in units of the floor: the training images made worse in known ways."""
    def ratio(pixels):
        return frechet_distance(classifier.judge(network, pixels)[0], reference) / floor

    n, random = len(reference), torch.Generator().manual_seed(0)
    few = training[:n // 2].float()
    noise = torch.randn(few.shape, generator=random)
    blurred = F.avg_pool2d(F.pad(few.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, 1).squeeze(1)
    return {
        "without_one_class": [ratio(training[labels != k][:n]) for k in range(10)],
        "one_class_only": [ratio(training[labels == k][:n // 2]) for k in range(10)],
        "noise_20_grey_levels": ratio((few + 20 * noise).clamp(0, 255).to(torch.uint8)),
        "blurred_3x3": ratio(blurred.to(torch.uint8)),
        "uniform_noise": ratio(torch.randint(0, 256, few.shape, generator=random, dtype=torch.uint8)),
    }


def markdown(scores):
    """The scores as the table in README.md."""
    real = scores["real"]
    rows = (("Fréchet distance, in floors", "frechet_in_floors", ".1f", 1, "1"),
            ("precision", "precision", ".3f", 1, f"{real['precision']:.3f}"), ("recall", "recall", ".3f", 1, f"{real['recall']:.3f}"),
            ("smallest share of a class, %", "smallest_share", ".1f", 100, ""),
            ("largest share of a class, %", "largest_share", ".1f", 100, ""),
            ("KL of the classes to uniform, nats", "kl_to_uniform", ".4f", 1, ""),
            ("median distance to the nearest training image", "median_distance_to_nearest_training", ".2f", 1,
             f"{real['median_distance_test_to_nearest_training']:.2f} (test images)"))
    lines = ["| | DCGAN | WGAN-GP | real training images |", "|---|---|---|---|"]
    for title, key, form, unit, of_real in rows:
        cells = [f"{scores[model][key]['mean'] * unit:{form}} ± {scores[model][key]['std'] * unit:{form}}" for model in files.MODELS]
        lines.append(f"| {title} | {' | '.join(cells)} | {of_real} |")
    return "\n".join(lines)


def length_markdown(scores, results_dir, wanted=(1000, 2000, 4000, 8000, 12000, 16000, 22000)):
    """How the distance to the held-out images fell with training, from the losses that shipped, as the table in README.md."""
    lines = ["| generator iterations | " + " | ".join(f"{n:,}" for n in wanted) + " |", "|---" * (len(wanted) + 1) + "|"]
    for model, name in zip(files.MODELS, ("DCGAN", "WGAN-GP")):
        with open(results_dir / f"q4_{model}_losses.csv", newline="") as file:
            found = {int(row["iteration"]): float(row["distance"]) for row in csv.DictReader(file) if row["distance"]}
        floor = scores[model]["training"]["floor"]
        lines.append(f"| {name} | " + " | ".join(f"{found[n] / floor:.0f}" if n in found else "" for n in wanted) + " |")
    return "\n".join(lines)


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/evaluate.py                        both shipped generators (some minutes on 2 CPU cores)
  python q4_wgan/evaluate.py --model wgan --repeats 1""")
    parser.add_argument("--model", choices=files.MODELS, help="only this one; the scores of the other are kept (default: both)")
    parser.add_argument("--seed", type=files.natural, default=0, help="first sampling seed (default: 0)")
    parser.add_argument("--repeats", type=files.positive, default=5, help="sampling seeds (default: 5)")
    files.add_device(parser)
    files.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    device = files.pick_device(args.device)
    network = classifier.load(args.weights_dir, device)
    generators = {model: load_generator(args.weights_dir / f"q4_{model}.pt", model)
                  for model in ([args.model] if args.model else files.MODELS)}
    (training, labels), (test, _) = images.load(args.data_dir)
    n = len(test)
    real, real_labels, _ = classifier.judge(network, test)
    floor = frechet_distance(classifier.judge(network, training[:n])[0], real)
    few = min(1000, n)

    path = args.results_dir / "q4_scores.json"
    scores = {}
    if args.model and path.exists():
        try:
            scores = json.loads(path.read_text())
        except ValueError:
            raise UserError(f"{path}: not readable as JSON; run without --model to write it anew") from None
    precision, recall = measures.precision_recall(real, classifier.judge(network, training[:n])[0])
    scores["real"] = {
        "images": n, "floor": floor, "precision": precision, "recall": recall,
        "classifier_shares_of_test": measures.class_shares(real_labels),
        "median_distance_test_to_nearest_training": nearest(test[:few], training)[0].median().item(),
        "calibration_in_floors": calibrate(network, training, labels, real, floor),
        "failure_above_floors": measures.FLOOR_MULTIPLE,
    }
    for model, (generator, content) in generators.items():
        generator.to(device)
        runs = []
        for seed in tqdm(range(args.seed, args.seed + args.repeats), desc=model, unit="seed"):
            pixels = measures.sample(generator, n, seed, device).cpu()
            features, found, _ = classifier.judge(network, pixels)
            distance, shares = frechet_distance(features, real), measures.class_shares(found)
            precision, recall = measures.precision_recall(real, features)
            runs.append({"frechet_distance": distance, "frechet_in_floors": distance / floor, "precision": precision,
                         "recall": recall, "kl_to_uniform": measures.kl_to_uniform(shares), "smallest_share": min(shares),
                         "largest_share": max(shares), "shares": shares,
                         "median_distance_to_nearest_training": nearest(pixels[:few], training)[0].median().item()})
        summary = {key: mean_and_spread([run[key] for run in runs]) for key in runs[0] if key != "shares"}
        summary["shares"] = torch.tensor([run["shares"] for run in runs]).mean(0).tolist()
        kept = ("objective", "arch", "dim", "seed", "start", "iterations", "batch", "penalty_images", "learning_rate",
                "generator_learning_rate", "beta1", "precision", "attempt", "seconds", "distance", "floor")
        scores[model] = {"training": {key: content.get(key) for key in kept},
                         "sampling_seeds": list(range(args.seed, args.seed + args.repeats)), **summary}
        print(f"{model}: Frechet distance {summary['frechet_distance']['mean']:.2f}, "
              f"{summary['frechet_in_floors']['mean']:.1f} times the floor {floor:.3f}; precision "
              f"{summary['precision']['mean']:.2f}, recall {summary['recall']['mean']:.2f}; classes "
              f"{summary['smallest_share']['mean']:.1%} to {summary['largest_share']['mean']:.1%}")
    files.save_json(path, scores)
    print(f"saved {path}")
    return 0


if __name__ == "__main__":
    files.run_main(main)
