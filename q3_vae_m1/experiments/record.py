"""Fills the record of question 3: test errors over label draws, VAE trainings and ablations. Takes hours.

A line of errors.jsonl is one method on one label draw: data set, features, seed of the VAE's training (null without a
VAE; 0 is the one that ships), classifier, seed of the draw, and the test errors in % by label count. Lines of the
record that comes with the repository count as done; new ones go to --out. Killed, the same command goes on.

Classifiers: the SVM, the transductive one and the one with virtual examples (for M1 and, as a control, raw pixels),
with the settings of classifiers.py, and "default": scikit-learn's SVC()
as it comes (RBF kernel, gamma "scale", C 1), which no validation label has touched. Ablations have the SVM alone.
"""

import itertools
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, vae
from q3_vae_m1.command import ROOT, Parser, add_folders, number, path, positive, run_main, shown
from q3_vae_m1.experiments import DATASETS, RECORD
from q3_vae_m1.features import NAMES, VAES, means, pca, posterior, raw_pixels, shipped

ALL = ("svm", "transductive", "default")
VIRTUAL = {"raw pixels": ("virtual",), "M1": ("virtual",)}  # by features: what else is fitted on them
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
  python q3_vae_m1/experiments/record.py --jobs 2       what is missing, on two cores
  python q3_vae_m1/experiments/record.py --draws 20     ten more label draws
  python q3_vae_m1/experiments/record.py --vae-seeds 1 --ablation-seeds 0"""


def units(vae_seeds, ablation_seeds):
    """(data set, features, seed of the VAE, classifiers) in the order of work: what ships, more seeds, ablations."""
    for dataset, features in itertools.product(DATASETS, NAMES):
        yield dataset, features, 0 if features in VAES else None, (*ALL, *VIRTUAL.get(features, ()))
    for seed, dataset, features in itertools.product(range(1, vae_seeds), DATASETS, ("M1", "M1 (Bernoulli)")):
        yield dataset, features, seed, (*ALL, *VIRTUAL.get(features, ()))
    if ablation_seeds:
        yield from ((dataset, "binarised pixels", None, ("svm",)) for dataset in DATASETS)
        yield from ((*unit, 0, ("svm",)) for unit in itertools.product(DATASETS, SAMPLES))
    for seed, dataset, features in itertools.product(range(ablation_seeds), DATASETS, ABLATIONS):
        if features != "M1, 60 epochs" or dataset == "mnist":  # the others have 60
            yield dataset, features, seed, ("svm",)


def records(out):
    return dict.fromkeys((RECORD, out.resolve() / RECORD.name))


def missing(out, unit, draws):
    """[(classifier, draw)] of a unit that have no line, neither in the tracked record nor in that of `out`."""
    names = ("dataset", "features", "vae_seed", "classifier", "draw")
    done = {tuple(line.get(name) for name in names) for record in records(out)
            for line in files.read_lines(record)}
    *named, fits = unit
    return [(fit, draw) for fit in fits for draw in range(draws) if (*named, fit, draw) not in done]


def settings_of(dataset, features, seed):
    """Settings of a unit's VAE."""
    changes = dict(ABLATIONS.get(features, {}))
    if features == "M1 (Bernoulli), small KL weight":
        changes["kl_weight"] = vae.settings(dataset)["kl_weight"]
    return vae.settings(dataset, VAES[features.split(",")[0]], vae_seed=seed, **changes)


def obtain_vae(dataset, features, seed, data, o):
    """The model of a unit: the one that ships, or one trained in a run folder and kept there."""
    chosen = settings_of(dataset, features, seed)
    folder = shipped(dataset, chosen["likelihood"])
    if seed == 0 and features not in ABLATIONS and folder.exists():
        return vae.load(folder, files.pick_device(o.device))[0]
    words = "".join(c if c.isalnum() else "_" for c in f"{dataset} {features} {seed}".lower())
    folder = o.results_dir / "runs" / f"q3_record_{words}"
    return vae.obtain(folder, files.open_run(folder, chosen, o), data)[0]


def features_of(dataset, features, seed, data, o):
    """(features of the training images, of the test images, float32 numpy (n, d) each; the map that makes them)."""
    random, both = torch.Generator().manual_seed(0), (data.train, data.test)
    if features == "binarised pixels":
        return *(torch.bernoulli(torch.from_numpy(raw_pixels(x)), generator=random).numpy() for x in both), None
    if seed is None:
        transform = raw_pixels if features == "raw pixels" else pca(data.train)
        return *(transform(x) for x in both), torch.Tensor.numpy
    model = obtain_vae(dataset, features, seed, data, o)
    posteriors = [posterior(model, x) for x in both]
    sampled = 0 if features not in SAMPLES else 1 if features.endswith("to train on") else 2
    return *((torch.normal(mean, deviation, generator=random) if i < sampled else mean).numpy()
             for i, (mean, deviation) in enumerate(posteriors)), partial(means, model)


load = cache(images.load)


def work(unit, o):
    """Add the lines of a unit that are missing, on one core."""
    torch.set_num_threads(1)
    dataset, features, seed, _ = unit
    wanted, data = missing(o.out, unit, o.draws), load(dataset, o.data_dir)
    name = "raw pixels" if features == "binarised pixels" else features.split(",")[0]  # whose kernel an ablation has
    labels, truth = data.train_labels.numpy(), data.test_labels.numpy()
    with threadpool_limits(1):
        train, test, encode = features_of(dataset, features, seed, data, o)
        graph = classifiers.neighbour_graph(train) if any(c == "transductive" for c, _ in wanted) else None
        for classifier, draw in tqdm(wanted, desc=f"{dataset}, {features}, VAE {seed}", unit="draw"):
            began, errors = time.perf_counter(), {}
            for n in classifiers.COUNTS:
                rows = classifiers.labelled_draw(data.train_labels, n, draw)
                copies = partial(classifiers.virtual_examples, data.train[rows], labels[rows], encode, draw)
                svm = classifiers.fit(classifier, dataset, name, train, rows, labels, graph, copies)
                errors[str(n)] = round(100 * float((classifiers.predict(svm, test) != truth).mean()), 4)
            files.append_line(o.out / RECORD.name, {
                "dataset": dataset, "features": features, "vae_seed": seed, "classifier": classifier, "draw": draw,
                "errors": errors, "seconds": round(time.perf_counter() - began, 1)})


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--draws", type=positive, default=10, help="of the labels, seeds 0, 1, ... (default: 10)")
    add("--vae-seeds", type=positive, default=5, help="trainings of each VAE (default: 5)")
    add("--ablation-seeds", type=number(int, 0, 100), default=1, help="trainings of each ablation (default: 1)")
    add("--jobs", type=number(int, 1, 1024), default=1, help="processes, of a core each (default: 1)")
    add("--out", type=path, default=ROOT / "results/runs/q3_record", metavar="FOLDER",
        help="of the new lines, errors.jsonl (default: results/runs/q3_record)")
    files.add_device(parser)
    add_folders(parser)
    o = parser.parse_args()
    wanted = [unit for unit in units(o.vae_seeds, o.ablation_seeds) if missing(o.out, unit, o.draws)]
    if o.jobs == 1:
        for unit in wanted:
            work(unit, o)
    else:
        with ProcessPoolExecutor(o.jobs, get_context("spawn")) as pool:
            for _ in pool.map(work, wanted, itertools.repeat(o)):
                pass
    print(f"complete: {' and '.join(str(shown(path)) for path in records(o.out) if path.exists())}; now table.py")


if __name__ == "__main__":
    run_main(main)
