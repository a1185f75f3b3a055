"""Chooses hyper-parameters on the 10,000 validation images; never reads a test image.

  kernel        of the SVM, with its width and C, for every feature set of the table
  transductive  the settings of the transductive classifier
  graph         its graph: of q(z|x)'s standard deviations too, and of the VAEs that record.py trained as ablations
  vae           short trainings of the VAE under other settings

Each writes results/q3/WHAT_search_DATASET.json. Label draws have seeds from 100 on, so that none of the table's draws
is among them. What is best stands as a constant in classifiers.py and vae.py; a test compares it with the record.
"""

import itertools
import os
import sys
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import gmean
from sklearn.metrics import euclidean_distances
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, vae
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import Parser, add_folders, as_json, check_writable, number, positive, run_main, write
from q3_vae_m1.features import NAMES, feature_map, posterior, posterior_means

GRID = {"power": [1.0, 2.0], "width": [0.7, 1.0, 1.4, 2.0, 2.8], "C": [1.0, 10.0]}
VAES = {  # what differs from the Gaussian model with the plain ELBO
    "fashion": [{"likelihood": "bernoulli"}, {}, {"kl_weight": 0.1}, {"kl_weight": 0.02}, {"kl_weight": 0.004},
                {"kl_weight": 0.02, "distort": 0.2}, {"kl_weight": 0.02, "distort": 0.5}],
    "mnist": [{"likelihood": "bernoulli"}, {}, {"kl_weight": 0.1}, {"distort": 0.5}, {"kl_weight": 0.1, "distort": 0.5},
              {"kl_weight": 0.1, "distort": 1.0}, {"kl_weight": 0.02, "distort": 1.0}],
}
FEW = {"alpha": 0.95, "steps": 60, "rounds": 2, "weight": 0.3}
TRANSDUCTIVE = [FEW, {"alpha": 0.9, "steps": 30, "rounds": 1, "weight": 0.1}, FEW | {"alpha": 0.9},
                FEW | {"alpha": 0.99, "steps": 120}, FEW | {"sharpness": 2.0}, FEW | {"rounds": 1}, FEW | {"rounds": 3},
                FEW | {"weight": 0.1}]
EXAMPLES = """examples:
  python q3_vae_m1/tune.py kernel
  python q3_vae_m1/tune.py vae --dataset mnist
  python q3_vae_m1/tune.py graph --dataset fashion --draws 10"""


def over_draws(o, drawn, error, title):
    """[error(n, rows)] for every draw, {(n, seed): rows}."""
    tasks = [delayed(error)(n, rows) for (n, _), rows in drawn.items()]
    with threadpool_limits(1):  # threads: NumPy and libsvm let go of the interpreter
        results = Parallel(o.jobs, prefer="threads", return_as="generator")(tasks)
        return list(tqdm(results, total=len(tasks), desc=title))


def summary(drawn, errors):
    """Means over the draws by label count, and their geometric mean: a tenth less error counts the same at 100 labels
    as at 3000."""
    means = {n: np.mean([e for (m, _), e in zip(drawn, errors) if m == n]) for n in COUNTS}
    return {"errors": {str(n): round(float(mean), 3) for n, mean in means.items()},
            "score": round(float(gmean(list(means.values()))), 4)}


def kernel_errors(features, validation, data, grid):
    """error(n, rows) for over_draws: {point of a grid: validation error in %}. The distances are computed once."""
    labels, truth = data.train_labels.numpy(), data.validation_labels.numpy()

    def error(n, rows):
        train, found = features[rows], {}
        scale = classifiers.feature_scale(train)
        own, other = euclidean_distances(train) / scale, euclidean_distances(validation, train) / scale
        for power, width, C in itertools.product(*grid.values()):
            svm = SVC(C=C, kernel="precomputed").fit(np.exp(-(own / width) ** power), labels[rows])
            predicted = svm.predict(np.exp(-(other / width) ** power))
            found[power, width, C] = 100 * (predicted != truth).mean()
        return found
    return error


def search_kernel(o, dataset, data, drawn):
    rows = []
    for features in NAMES:
        transform = feature_map(features, dataset, data, o.weights_dir)
        error = kernel_errors(transform(data.train), transform(data.validation), data, GRID)
        results = over_draws(o, drawn, error, f"{dataset} {features}")
        rows += [{"features": features, **dict(zip(GRID, point)), **summary(drawn, [found[point] for found in results])}
                 for point in results[0]]
    worst_first = sorted(rows, key=lambda row: -row["score"])
    return {"chosen": {row["features"]: {key: row[key] for key in GRID} for row in worst_first}, "rows": rows}


def search_vae(o, dataset, data, drawn):
    """Short trainings; each gets the better of the exponential and the RBF kernel, at width 1 and C 10."""
    device, rows = files.pick_device("auto"), []
    for change in VAES["mnist" if dataset == "mnist" else "fashion"]:
        chosen = vae.settings(dataset, **{"epochs": o.epochs, "kl_weight": 1.0, "distort": 0.0} | change)
        folder = o.results_dir / "runs" / f"q3_vae_search_{dataset}_{len(rows)}"
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        model, history = vae.train(chosen | {"precision": files.pick_precision("auto", device)}, data, device, folder)
        error = kernel_errors(posterior_means(model, data.train), posterior_means(model, data.validation), data,
                              GRID | {"width": [1.0], "C": [10.0]})
        results = over_draws(o, drawn, error, f"{dataset} {change}")
        by_power = {power: summary(drawn, [found[power, 1.0, 10.0] for found in results]) for power in GRID["power"]}
        power = min(by_power, key=lambda p: by_power[p]["score"])
        rows.append({"settings": {key: chosen[key] for key in ("likelihood", "epochs", "kl_weight", "distort")},
                     "power": power, "active_latents": history[-1]["active_latents"],
                     "validation_elbo": round(history[-1]["validation_elbo"], 1), **by_power[power]})
    return {"rows": rows}


def graphs(o, dataset, data, model):
    """{name: graph of the training images}; the first is the one in use."""
    means, deviations = (x.numpy() for x in posterior(model, data.train))
    ratio = classifiers.feature_scale(means) / classifiers.feature_scale(deviations)
    of = classifiers.neighbour_graph
    found = {"M1": of(means), "means in units of q's standard deviation": of(means / deviations.mean(0)),
             "means and standard deviations of q": of(np.concatenate([means, ratio * deviations], 1))}
    for path in sorted((o.results_dir / "runs").glob(f"q3_{dataset}_m1__*_0/q3_vae_{dataset}.pt")):
        other, trained = vae.load_vae(path.parent, dataset)
        named = "KL weight {kl_weight:g}, distortion {distort:g}".format(**trained["settings"])
        found[named] = of(posterior_means(other, data.train))
        found[f"M1, averaged with {named}"] = 0.5 * (found["M1"] + found[named])
    return found


def search_transductive(o, dataset, data, drawn):
    """Other settings, or (o.what "graph") other graphs."""
    labels, truth = data.train_labels.numpy(), data.validation_labels.numpy()
    model, _ = vae.load_vae(o.weights_dir, dataset)
    everything, validation = posterior_means(model, data.train), posterior_means(model, data.validation)
    if o.what == "graph":
        variants = [({"graph": named}, {}, graph) for named, graph in graphs(o, dataset, data, model).items()]
    else:
        graph = classifiers.neighbour_graph(everything)
        variants = [({"change": change}, change, graph) for change in TRANSDUCTIVE]
    rows = []
    for named, change, graph in variants:
        def error(n, rows):
            chosen = classifiers.transductive_settings(dataset, n) | change
            svm = classifiers.fit_transductive(everything, rows, labels[rows], graph, chosen)
            return 100 * (classifiers.predict(svm, validation) != truth).mean()
        rows.append(named | summary(drawn, over_draws(o, drawn, error, f"{dataset}, {named}")))
    return {"base": {str(n): classifiers.transductive_settings(dataset, n) for n in COUNTS}, "rows": rows}


SEARCHES = {"kernel": search_kernel, "transductive": search_transductive, "graph": search_transductive,
            "vae": search_vae}


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("what", choices=SEARCHES, metavar=" | ".join(SEARCHES))
    add("--dataset", type=images.dataset_name, nargs="+", default=["fashion", "mnist"], help="(default: fashion mnist)")
    add("--draws", type=positive, default=3, help="of the labels, per count (default: 3)")
    add("--epochs", type=positive, default=15, help="of each VAE training (default: 15)")
    add("--jobs", type=number(int, 1, 1024), default=os.cpu_count(), help="draws at a time (default: all cores)")
    add_folders(parser, "data", "weights", "results")
    o = parser.parse_args()
    check_writable(o.results_dir / "q3")
    for dataset in o.dataset:
        data = images.load(dataset, o.data_dir)
        drawn = {(n, 100 + s): classifiers.labelled_draw(data.train_labels, n, 100 + s)
                 for n in COUNTS for s in range(o.draws)}
        found = {"dataset": dataset, "draws": o.draws, "validation_images": len(data.validation),
                 **SEARCHES[o.what](o, dataset, data, drawn)}
        path = o.results_dir / "q3" / f"{o.what}_search_{dataset}.json"
        write(path, as_json(found))
        for row in found["rows"]:
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ")
        print(f"saved {path}")


if __name__ == "__main__":
    run_main(main)
