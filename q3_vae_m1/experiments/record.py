"""Fills the record of question 3, results/q3/errors.jsonl: test errors over label draws, VAE trainings and ablations.

A line is one method on one label draw: data set, features, seed of the VAE's training (null without a VAE; 0 is the one
that ships), classifier, seed of the draw, and the test errors in % by label count. The record grows as work ends: a
killed run goes on from it, several processes may work on it at once, and more --draws or --vae-seeds are more lines.

Classifiers: the SVM and the transductive one with the settings of classifiers.py, and "default": scikit-learn's SVC()
as it comes (RBF kernel, gamma "scale", C 1), which no validation label has touched. Ablations have the SVM alone. Takes
hours.
"""

import contextlib
import itertools
import sys
import time
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, command, files, vae
from q3_vae_m1 import images as data
from q3_vae_m1.features import NAMES, VAES, base, feature_map, posterior, raw_pixels

ALL = (*classifiers.CLASSIFIERS, "default")
ABLATIONS = {  # of the features: what changes of the VAE's settings
    "M1 (Bernoulli), small KL weight": {},  # the Gaussian model's: see settings_of
    "M1, KL weight 1": {"kl_weight": 1.0},
    "M1, KL weight 0": {"kl_weight": 0.0},  # a plain autoencoder whose codes have noise that costs nothing to shrink
    "M1, no distortion": {"distort": 0.0},
    "M1, 60 epochs": {"epochs": 60},
}
# One z ~ q(z|x) for each image in place of the mean, for all images or for the training images alone.
SAMPLES = tuple(f"{vae}, samples{which}" for which in ("", " to train on") for vae in VAES)
EXAMPLES = """examples:
  python q3_vae_m1/record.py                           what is missing; start it twice to use two cores
  python q3_vae_m1/record.py --draws 20                ten more label draws
  python q3_vae_m1/record.py --vae-seeds 1 --ablation-seeds 0 --dataset mnist"""


def units(datasets, vae_seeds, ablation_seeds):
    """(data set, features, seed of the VAE, classifiers) in the order of work: what ships, more seeds, ablations."""
    for dataset, features in itertools.product(datasets, NAMES):
        yield dataset, features, 0 if features in VAES else None, ALL
    for seed, dataset, features in itertools.product(range(1, vae_seeds), datasets, ("M1", "M1 (Bernoulli)")):
        yield dataset, features, seed, ALL
    if ablation_seeds:
        yield from ((dataset, "binarised pixels", None, ("svm",)) for dataset in datasets)
        yield from ((*unit, 0, ("svm",)) for unit in itertools.product(datasets, SAMPLES))
    for seed, dataset, features in itertools.product(range(ablation_seeds), datasets, ABLATIONS):
        if features != "M1, 60 epochs" or dataset == "mnist":  # the others have 60
            yield dataset, features, seed, ("svm",)


def missing(record, unit, draws):
    """[(classifier, draw)] of a unit that have no line."""
    names = ("dataset", "features", "vae_seed", "classifier", "draw")
    done = {tuple(line.get(name) for name in names) for line in files.read_lines(record)}
    *named, fits = unit
    return [(fit, draw) for fit in fits for draw in range(draws) if (*named, fit, draw) not in done]


def settings_of(dataset, features, seed):
    """Settings of a unit's VAE."""
    changes = dict(ABLATIONS.get(features, {}))
    if features == "M1 (Bernoulli), small KL weight":
        changes["kl_weight"] = vae.settings(dataset)["kl_weight"]
    return vae.settings(dataset, VAES[base(features)], vae_seed=seed, **changes)


def obtain_vae(dataset, features, seed, images, folder, o, device):
    """The model of a unit: the one that ships, or one trained in `folder` and kept there."""
    chosen = settings_of(dataset, features, seed)
    likelihood = chosen["likelihood"]
    if seed == 0 and features not in ABLATIONS:
        folder = o.weights_dir
    elif not (path := vae.vae_path(folder, dataset, likelihood)).exists():
        options = vae.interrupted(folder) or chosen | {"precision": o.precision}
        model, history = vae.train(options, images, device, folder)
        files.ship(folder, {path.name: vae.as_bytes(model, options, history)})
        (folder / "checkpoint.pt").unlink()
    return vae.load_vae(folder, dataset, likelihood, device)[0]


def features_of(dataset, features, seed, images, folder, o, device):
    """float32 features of the training and of the test images, numpy (n, d) each."""
    random, both = torch.Generator().manual_seed(0), (images.train, images.test)
    if features == "binarised pixels":
        return [torch.bernoulli(torch.from_numpy(raw_pixels(x)), generator=random).numpy() for x in both]
    if seed is None:
        transform = feature_map(features, dataset, images, o.weights_dir)
        return [transform(x) for x in both]
    model = obtain_vae(dataset, features, seed, images, folder, o, device)
    posteriors = [posterior(model, x) for x in both]
    sampled = 0 if features not in SAMPLES else 1 if features.endswith("to train on") else 2
    return [(torch.normal(mean, deviation, generator=random) if i < sampled else mean).numpy()
            for i, (mean, deviation) in enumerate(posteriors)]


def work(unit, wanted, images, folder, o, device, record):
    """Add the lines of `wanted`, [(classifier, draw)] of a unit."""
    dataset, features, seed, _ = unit
    train, test = features_of(dataset, features, seed, images, folder, o, device)
    graph = classifiers.neighbour_graph(train) if any(c == "transductive" for c, _ in wanted) else None
    labels, truth = images.train_labels.numpy(), images.test_labels.numpy()
    for classifier, draw in tqdm(wanted, desc=f"{dataset}, {features}, VAE {seed}", unit="draw"):
        began, errors = time.perf_counter(), {}
        for n in classifiers.COUNTS:
            rows = classifiers.labelled_draw(images.train_labels, n, draw)
            svm = classifiers.fit(classifier, dataset, base(features), train, rows, labels, graph)
            errors[str(n)] = round(100 * float((classifiers.predict(svm, test) != truth).mean()), 4)
        files.append_line(record, {
            "dataset": dataset, "features": features, "vae_seed": seed, "classifier": classifier, "draw": draw,
            "errors": errors, "seconds": round(time.perf_counter() - began, 1)})


def main():
    parser = command.Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--dataset", type=data.dataset_name, nargs="+", default=["fashion", "mnist"], help="(default: fashion mnist)")
    add("--draws", type=command.positive, default=10, help="of the labels, seeds 0, 1, ... (default: 10)")
    add("--vae-seeds", type=command.positive, default=5, help="trainings of each VAE (default: 5)")
    add("--ablation-seeds", type=command.number(int, 0, 100), default=1,
        help="trainings of each ablation (default: 1)")
    add("--precision", choices=("float32", "bfloat16"), default="bfloat16",
        help="of the trainings' matrix products (default: bfloat16, as in those that ship)")
    files.add_device(parser)
    command.add_folders(parser, "data", "weights", "results")
    o = parser.parse_args()
    record, device, elsewhere = o.results_dir / "q3" / "errors.jsonl", files.pick_device(o.device), 0
    command.check_writable(record.parent)
    torch.set_num_threads(1)
    loaded = {}
    for unit in units(o.dataset, o.vae_seeds, o.ablation_seeds):
        if not missing(record, unit, o.draws):
            continue
        dataset, features, seed, _ = unit
        words = "".join(c if c.isalnum() else "_" for c in f"{dataset} {features} {seed}".lower())
        folder = o.results_dir / "runs" / f"q3_{words}"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.locked(folder / "work", busy="another process works on it"))
            except command.UserError:
                elsewhere += 1
                continue
            if dataset not in loaded:
                loaded[dataset] = data.load(dataset, o.data_dir)
            stack.enter_context(threadpool_limits(1))
            work(unit, missing(record, unit, o.draws), loaded[dataset], folder, o, device, record)
    print(f"{elsewhere} units are left to other processes" if elsewhere else f"complete: {record}; now table.py")


if __name__ == "__main__":
    command.run_main(main)
