"""Fills the record of question 3: test errors over label draws, VAE trainings and ablations. Takes hours.

A line of errors.jsonl is one method on one label draw, with its test errors in % by label count. The VAE with seed 0 is
the one that ships. Lines of the record that comes with the repository count as done; new ones go to --out. Killed, the
same command goes on.

Classifiers are those of classifiers.py, the ones with virtual examples for M1 and, as a control, raw pixels; and
"default": scikit-learn's SVC() as it comes, which no validation label has touched. Ablations have the SVM alone.
"""

import itertools
import sys
import time
from functools import partial
from pathlib import Path

import torch
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, vae
from q3_vae_m1.command import ROOT, Parser, add_folders, number, path, positive, run_main, shown
from q3_vae_m1.experiments import DATASETS, RECORD, network, record_lines, varied
from q3_vae_m1.features import NAMES, VAES, encoder, flat, posterior

ALL = ("svm", "transductive", "default")
VIRTUAL = {"raw pixels": ("virtual",), "M1": ("virtual", "transductive-virtual")}  # where the search found a gain
ABLATIONS = {  # of the features: what changes of the VAE's settings
    "M1 (Bernoulli), small KL weight": {},  # that of the Gaussian model: see settings_of
    "M1, KL weight 1": {"kl_weight": 1.0},
    "M1, KL weight 0": {"kl_weight": 0.0},  # a plain autoencoder
    "M1, no distortion": {"distort": 0.0},
    "M1, 60 epochs": {"epochs": 60},
}
# One z ~ q(z|x) for each image in place of the mean, for all images or for the training images alone.
SAMPLES = tuple(f"{vae}, samples{which}" for which in ("", " to train on") for vae in VAES)
EXAMPLES = """examples:
  python q3_vae_m1/experiments/record.py --jobs 2       what is missing, on two cores
  python q3_vae_m1/experiments/record.py --draws 20     ten more label draws
  python q3_vae_m1/experiments/record.py --vae-seeds 1 --ablation-seeds 0"""


def fits(dataset, features, seed):
    """The classifiers of features, those with virtual examples where they have some for one label count at least; the
    transductive one of these with the VAE that ships alone."""
    return *ALL, *(name for name in VIRTUAL.get(features, ()) if name == "virtual" or not seed
                   if any(classifiers.virtual_settings(name, dataset, n, features) for n in classifiers.COUNTS))


def units(vae_seeds, ablation_seeds):
    """(data set, features, seed of the VAE, classifiers) in the order of work: what ships, more seeds, ablations."""
    for dataset, features in itertools.product(DATASETS, NAMES):
        yield dataset, features, 0 if features in VAES else None, fits(dataset, features, 0)
    for seed, dataset, features in itertools.product(range(1, vae_seeds), DATASETS, VAES):
        yield dataset, features, seed, fits(dataset, features, seed)
    if ablation_seeds:
        yield from ((dataset, "binarised pixels", None, ("svm",)) for dataset in DATASETS)
        yield from ((*unit, 0, ("svm",)) for unit in itertools.product(DATASETS, SAMPLES))
    for seed, dataset, features in itertools.product(range(ablation_seeds), DATASETS, ABLATIONS):
        if features != "M1, 60 epochs" or dataset == "mnist":  # the others have 60
            yield dataset, features, seed, ("svm",)


def missing(out, unit, draws):
    """[(classifier, draw)] of a unit that have no line, neither in the tracked record nor in that of `out`."""
    names = ("dataset", "features", "vae_seed", "classifier", "draw")
    done = {tuple(line[name] for name in names) for line in record_lines(out)}
    *named, fits = unit
    return [(fit, draw) for fit in fits for draw in range(draws) if (*named, fit, draw) not in done]


def settings_of(dataset, features, seed):
    """Settings of a unit's VAE."""
    changes = ABLATIONS.get(features, {})
    if features == "M1 (Bernoulli), small KL weight":
        changes = {"kl_weight": vae.settings(dataset)["kl_weight"]}
    return vae.settings(dataset, VAES[varied(features)], vae_seed=seed, **changes)


def features_of(dataset, features, seed, data, o):
    """(features of the training images, of the test images, float32 numpy (n, d) each; the map that makes them)."""
    model, random = None, torch.Generator().manual_seed(0)
    if seed is not None:
        words = "".join(c if c.isalnum() else "_" for c in f"{dataset} {features} {seed}".lower())
        model, _ = network(settings_of(dataset, features, seed), data, f"q3_record_{words}", o)
    encode = encoder(varied(features), data.train, model)

    def one_draw(images):
        if model is None:
            return torch.bernoulli(flat(images), generator=random).numpy()
        return torch.normal(*posterior(model, images), generator=random).numpy()
    drawn = features == "binarised pixels" or features in SAMPLES
    train = (one_draw if drawn else encode)(data.train)
    return train, (one_draw if drawn and not features.endswith("to train on") else encode)(data.test), encode


def work(unit, o):
    """Add the lines of a unit that are missing, on one core."""
    torch.set_num_threads(1)
    dataset, features, seed, _ = unit
    wanted, data = missing(o.out, unit, o.draws), images.load(dataset, o.data_dir)
    labels, truth = data.train_labels.numpy(), data.test_labels.numpy()
    with threadpool_limits(1):
        train, test, encode = features_of(dataset, features, seed, data, o)
        graph = classifiers.neighbour_graph(train) if any(c.startswith("transductive") for c, _ in wanted) else None
        for classifier, draw in tqdm(wanted, desc=f"{dataset}, {features}, VAE {seed}", unit="draw"):
            began, errors = time.perf_counter(), {}
            for n in classifiers.COUNTS:
                rows = classifiers.labelled_draw(data.train_labels, n, draw)
                copies = partial(classifiers.virtual_examples, data.train[rows], labels[rows], encode, draw)
                svm = classifiers.fit(classifier, dataset, varied(features), train, rows, labels, graph, copies)
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
        help="of the new lines (default: results/runs/q3_record)")
    files.add_device(parser)
    add_folders(parser)
    o = parser.parse_args()
    wanted = [unit for unit in units(o.vae_seeds, o.ablation_seeds) if missing(o.out, unit, o.draws)]
    for dataset in {unit[0] for unit in wanted}:  # here, before many processes download what is missing
        images.load(dataset, o.data_dir)
    Parallel(o.jobs)(delayed(work)(unit, o) for unit in wanted)
    print(f"complete: {shown(RECORD)} and what {shown(o.out)} adds; now table.py --out {shown(o.out)}")


if __name__ == "__main__":
    run_main(main)
