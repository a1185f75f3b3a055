"""Chooses hyper-parameters on the 10,000 validation images; never reads a test image. Minutes to an hour each.

  kernel        of the SVM, with its width and C, for every feature set of the table
  transductive  the settings of the transductive classifier
  virtual       distorted copies of the labelled images, for the SVM on M1's features and on raw pixels, and for the
                last SVM of the transductive classifier
  vae           short trainings of the VAE under other settings

Each writes WHAT_search_DATASET.json into --out; killed, the same command goes on from there. Label draws have seeds
from 100 on, so that none of the table's draws is among them. What is best stands as a constant in classifiers.py and
vae.py; a test compares it with the record.
"""

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import gmean
from sklearn.metrics import euclidean_distances
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, vae
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import ROOT, Parser, add_folders, as_json, number, path, positive, read_json, run_main, write
from q3_vae_m1.experiments import DATASETS
from q3_vae_m1.features import NAMES, VAES, means, pca, posterior_means, raw_pixels, shipped

GRID = {"power": [1.0, 2.0], "width": [0.7, 1.0, 1.4, 2.0, 2.8], "C": [1.0, 10.0]}
MODELS = {  # what differs from the Gaussian model with the plain ELBO
    "fashion": [{"likelihood": "bernoulli"}, {}, {"kl_weight": 0.1}, {"kl_weight": 0.02}, {"kl_weight": 0.004},
                {"kl_weight": 0.02, "distort": 0.2}, {"kl_weight": 0.02, "distort": 0.5}],
    "mnist": [{"likelihood": "bernoulli"}, {}, {"kl_weight": 0.1}, {"distort": 0.5}, {"kl_weight": 0.1, "distort": 0.5},
              {"kl_weight": 0.1, "distort": 1.0}, {"kl_weight": 0.02, "distort": 1.0}],
}
FEW = {"alpha": 0.95, "steps": 60, "rounds": 2, "weight": 0.3}
TRANSDUCTIVE = [FEW, {"alpha": 0.9, "steps": 30, "rounds": 1, "weight": 0.1}, FEW | {"alpha": 0.9},
                FEW | {"alpha": 0.99, "steps": 120}, FEW | {"sharpness": 2.0}, FEW | {"rounds": 1}, FEW | {"rounds": 3},
                FEW | {"weight": 0.1}]
VIRTUAL = {dataset: [{"strength": 0.0, "copies": 0}, *({"strength": s, "copies": 9} for s in strengths),
                     {"strength": strengths[1], "copies": 29}, {"strength": strengths[1], "copies": 9, "C": 1.0},
                     {"strength": strengths[1], "copies": 9, "C": 100.0}]
           for dataset, strengths in (("fashion", (0.25, 0.5, 1.0)), ("mnist", (1.0, 2.0, 0.5)))}
EXAMPLES = """examples:
  python q3_vae_m1/experiments/tune.py kernel
  python q3_vae_m1/experiments/tune.py transductive --draws 2 --out results/q3"""


def over_draws(o, drawn, error, title):
    """[error(n, seed, rows)] for every draw, {(n, seed): rows}."""
    tasks = [(n, seed, rows) for (n, seed), rows in drawn.items()]
    with threadpool_limits(1):
        if o.jobs == 1:  # in this thread: no machinery that could be missing
            return [error(*task) for task in tqdm(tasks, desc=title)]
        with ThreadPoolExecutor(o.jobs) as pool:  # NumPy and libsvm let go of the interpreter
            return list(tqdm(pool.map(error, *zip(*tasks)), total=len(tasks), desc=title))


def summary(drawn, errors):
    """Means over the draws by label count, and their geometric mean: a tenth less error counts the same at 100 labels
    as at 3000."""
    means = {n: np.mean([e for (m, _), e in zip(drawn, errors) if m == n]) for n in COUNTS}
    return {"errors": {str(n): round(float(mean), 3) for n, mean in means.items()},
            "score": round(float(gmean(list(means.values()))), 4)}


def network(o, dataset, data, likelihood="gaussian"):
    """The VAE that ships, or for a set without one such a VAE, trained in a run folder."""
    folder = shipped(dataset, likelihood)
    if folder.exists():
        return vae.load(folder)[0]
    folder = o.results_dir / "runs" / f"q3_tune_{dataset}_{likelihood}"
    return vae.obtain(folder, files.open_run(folder, vae.settings(dataset, likelihood), o), data)[0]


def kernel_errors(features, validation, data, grid):
    """error(n, seed, rows) for over_draws: {point of a grid: validation error in %}. Distances are computed once."""
    labels, truth = data.train_labels.numpy(), data.validation_labels.numpy()

    def error(n, seed, rows):
        train, found = features[rows], {}
        scale = classifiers.feature_scale(train)
        own, other = euclidean_distances(train) / scale, euclidean_distances(validation, train) / scale
        for power, width, C in itertools.product(*grid.values()):
            svm = SVC(C=C, kernel="precomputed").fit(np.exp(-(own / width) ** power), labels[rows])
            predicted = svm.predict(np.exp(-(other / width) ** power))
            found[power, width, C] = 100 * (predicted != truth).mean()
        return found
    return error


# ---- the searches: each yields (what tells its rows, a function that makes them) ------------------

def search_kernel(o, dataset, data, drawn):
    def rows(features):
        if features in VAES:
            model = network(o, dataset, data, VAES[features])
            train, validation = posterior_means(model, data.train), posterior_means(model, data.validation)
        else:
            transform = raw_pixels if features == "raw pixels" else pca(data.train)
            train, validation = transform(data.train), transform(data.validation)
        error = kernel_errors(train, validation, data, GRID)
        results = over_draws(o, drawn, error, f"{dataset} {features}")
        return [{**dict(zip(GRID, point)), **summary(drawn, [found[point] for found in results])}
                for point in results[0]]
    for features in NAMES:
        yield {"features": features}, lambda features=features: rows(features)


def search_vae(o, dataset, data, drawn):
    """Short trainings; each gets the better of the exponential and the RBF kernel, at width 1 and C 10."""
    def rows(i, chosen):
        folder = o.results_dir / "runs" / f"q3_tune_vae_{dataset}_{i}"
        model, trained = vae.obtain(folder, files.open_run(folder, chosen, o), data)
        error = kernel_errors(posterior_means(model, data.train), posterior_means(model, data.validation), data,
                              GRID | {"width": [1.0], "C": [10.0]})
        results = over_draws(o, drawn, error, f"{dataset}, VAE {i}")
        by_power = {power: summary(drawn, [found[power, 1.0, 10.0] for found in results]) for power in GRID["power"]}
        power = min(by_power, key=lambda p: by_power[p]["score"])
        last = trained["history"]
        return [{"power": power, "active_latents": last["active_latents"],
                 "validation_elbo": round(last["validation_elbo"], 1), **by_power[power]}]
    for i, change in enumerate(MODELS["mnist" if dataset == "mnist" else "fashion"]):
        chosen = vae.settings(dataset, **{"epochs": o.epochs, "kl_weight": 1.0, "distort": 0.0} | change)
        told = {key: chosen[key] for key in ("likelihood", "epochs", "kl_weight", "distort")}
        yield {"settings": told}, lambda i=i, chosen=chosen: rows(i, chosen)


def search_transductive(o, dataset, data, drawn):
    labels, truth = data.train_labels.numpy(), data.validation_labels.numpy()
    model = network(o, dataset, data)
    everything, validation = posterior_means(model, data.train), posterior_means(model, data.validation)
    graph = classifiers.neighbour_graph(everything)

    def rows(change):
        def error(n, seed, rows):
            chosen = classifiers.transductive_settings(dataset, n) | change
            svm = classifiers.fit_transductive(everything, rows, labels[rows], graph, chosen)
            return 100 * (classifiers.predict(svm, validation) != truth).mean()
        return [summary(drawn, over_draws(o, drawn, error, f"{dataset}, {change}"))]
    for change in TRANSDUCTIVE:
        yield {"change": change}, lambda change=change: rows(change)


def search_virtual(o, dataset, data, drawn):
    labels, truth = data.train_labels.numpy(), data.validation_labels.numpy()
    model, graph = network(o, dataset, data), None
    encoders = {"M1": partial(means, model), "raw pixels": lambda x: x.numpy()}
    train, validation = posterior_means(model, data.train), posterior_means(model, data.validation)
    spaces = {"M1": (train, validation), "raw pixels": (raw_pixels(data.train), raw_pixels(data.validation))}

    def rows(classifier, features, change):
        nonlocal graph
        train, validation = spaces[features]
        if classifier == "transductive" and graph is None:
            graph = classifiers.neighbour_graph(train)

        def error(n, seed, rows):
            svm = classifiers.svm_settings(dataset, features) | {k: v for k, v in change.items() if k == "C"}
            more = classifiers.virtual_examples(data.train[rows], labels[rows], encoders[features], seed,
                                                change["strength"], change["copies"])
            if classifier == "transductive":
                chosen = classifiers.transductive_settings(dataset, n)
                fitted = classifiers.fit_transductive(train, rows, labels[rows], graph, chosen, more)
            else:
                fitted = classifiers.fit_svm(np.concatenate([train[rows], more[0]]),
                                             np.concatenate([labels[rows], more[1]]), **svm)
            return 100 * (classifiers.predict(fitted, validation) != truth).mean()
        return [summary(drawn, over_draws(o, drawn, error, f"{dataset}, {classifier}, {features}, {change}"))]
    changes = VIRTUAL["mnist" if dataset == "mnist" else "fashion"]
    for classifier, features, own in (("SVM", "M1", changes[:4]), ("SVM", "raw pixels", changes[:4]),
                                      ("transductive", "M1", changes[:4]), ("SVM", "M1", changes[4:])):
        for change in own:
            yield ({"classifier": classifier, "features": features, "change": change},
                   partial(rows, classifier, features, change))


SEARCHES = {"kernel": search_kernel, "transductive": search_transductive, "vae": search_vae, "virtual": search_virtual}


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("what", choices=SEARCHES, metavar=" | ".join(SEARCHES))
    add("--draws", type=positive, default=3, help="of the labels, per count (default: 3)")
    add("--epochs", type=positive, default=15, help="of each VAE training (default: 15)")
    add("--jobs", type=number(int, 1, 1024), default=os.cpu_count(), help="draws at a time (default: all cores)")
    add("--out", type=path, default=ROOT / "results/runs/q3_tune", metavar="FOLDER",
        help="of the searches' records (default: results/runs/q3_tune)")
    files.add_device(parser)
    add_folders(parser)
    o = parser.parse_args()
    for dataset in DATASETS:
        data = images.load(dataset, o.data_dir)
        drawn = {(n, 100 + s): classifiers.labelled_draw(data.train_labels, n, 100 + s)
                 for n in COUNTS for s in range(o.draws)}
        record = o.out / f"{o.what}_search_{dataset}.json"
        found = {"dataset": dataset, "draws": o.draws, "validation_images": len(data.validation)}
        before = read_json(record) if record.exists() else {}
        same = all(before.get(key) == value for key, value in found.items())
        rows = before["rows"] if same else []
        for told, make in SEARCHES[o.what](o, dataset, data, drawn):
            if not any(told.items() <= row.items() for row in rows):
                rows += [told | row for row in make()]
                write(record, as_json(found | {"rows": rows}))
        if o.what == "kernel":
            best = sorted(rows, key=lambda row: -row["score"])
            found["chosen"] = {row["features"]: {key: row[key] for key in GRID} for row in best}
        if o.what == "transductive":
            found["base"] = {str(n): classifiers.transductive_settings(dataset, n) for n in COUNTS}
        write(record, as_json(found | {"rows": rows}))
        for row in rows:
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ")
        print(f"saved {record}")


if __name__ == "__main__":
    run_main(main)
