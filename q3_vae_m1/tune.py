"""Chooses hyper-parameters on the 10,000 validation images; never reads a test image.

  kernel        of the SVM, with its width and C, for every feature set of the table -> results/q3/kernel_search_*.json
  transductive  the settings of the transductive classifier                   -> results/q3/transductive_search_*.json
  vae           short trainings of the VAE under other settings               -> results/q3/vae_search_*.json

  transductive_features   at 100 labels, other graphs: of q(z|x)'s standard deviations too, and of the VAEs that
                record.py trained as ablations               -> results/q3/transductive_features_search_*.json

Label draws have seeds from 100 on, so that none of the table's draws is among them. What is best stands as a constant
in classifiers.py and vae.py; a test compares the SVMs' with the record.
"""

import itertools
import math
import os
import sys
from pathlib import Path

import numpy as np
from joblib import delayed
from sklearn.metrics import euclidean_distances
from sklearn.svm import SVC

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, intervals, vae
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import Parser, add_folders, as_json, check_writable, name, number, run_main, write
from q3_vae_m1.features import feature_maps, posterior, posterior_means, train_command

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
  python q3_vae_m1/tune.py vae --dataset mnist --epochs 20
  python q3_vae_m1/tune.py transductive_features --dataset fashion --draws 10"""


def relative(errors):
    """Geometric mean over the label counts: a tenth less error counts the same at 100 labels as at 3000."""
    return float(np.exp(np.mean(np.log(list(errors.values())))))


def means(keys, results, point=None):
    """{label count: mean over the draws} of results in the order of keys, [(n, seed), ...]."""
    return {n: float(np.mean([r if point is None else r[point] for (m, _), r in zip(keys, results) if m == n]))
            for n in COUNTS}


def rounded(errors):
    return {str(n): round(e, 3) for n, e in errors.items()}


def kernel_errors(train, labels, validation, truth):
    """{point of GRID: validation error in %}, for one label draw. The distances are computed once."""
    scale = classifiers.feature_scale(train)
    own, other = euclidean_distances(train) / scale, euclidean_distances(validation, train) / scale
    found = {}
    for power, width, C in itertools.product(*GRID.values()):
        svm = SVC(C=C, kernel="precomputed").fit(np.exp(-(own / width) ** power), labels)
        found[power, width, C] = 100 * float((svm.predict(np.exp(-(other / width) ** power)) != truth).mean())
    return found


def search_kernel(o, dataset, data, drawn):
    rows, labels, truth = [], data.train_labels.numpy(), data.validation_labels.numpy()
    for features, transform in feature_maps(dataset, data, o.weights_dir).items():
        validation = transform(data.validation)
        tasks = [delayed(kernel_errors)(transform(data.train[r]), labels[r], validation, truth) for r in drawn.values()]
        results = classifiers.in_parallel(tasks, o.jobs, f"{dataset} {features}")
        for point in results[0]:
            errors = means(drawn, results, point)
            rows.append({"features": features, **dict(zip(GRID, point)), "errors": rounded(errors),
                         "score": round(relative(errors), 4)})
    chosen = {}
    for row in sorted(rows, key=lambda row: row["score"]):
        chosen.setdefault(row["features"], {key: row[key] for key in GRID})
    print(chosen)
    return {"chosen": chosen, "rows": rows}


def search_transductive(o, dataset, data, drawn):
    labels, truth = data.train_labels.numpy(), data.validation_labels.numpy()
    m1 = feature_maps(dataset, data, o.weights_dir)["M1"]
    everything, validation = m1(data.train), m1(data.validation)
    graph = classifiers.neighbour_graph(everything)

    def error(change, n, rows):
        chosen = classifiers.transductive_settings(dataset, n) | change
        svm = classifiers.fit_transductive(everything, rows, labels[rows], graph, chosen)
        return 100 * float((classifiers.predict(svm, validation) != truth).mean())

    rows = []
    for change in TRANSDUCTIVE:
        tasks = [delayed(error)(change, n, r) for (n, _), r in drawn.items()]
        errors = means(drawn, classifiers.in_parallel(tasks, o.jobs, f"{dataset} transductive, {len(rows) + 1}"))
        rows.append({"change": change, "errors": rounded(errors), "score": round(relative(errors), 4)})
    print(transductive_markdown(rows))
    return {"base": {str(n): classifiers.transductive_settings(dataset, n) for n in COUNTS}, "rows": rows}


def graphs(o, dataset, data, model):
    """Yield (name, graph) for search_transductive_features; the first is the one in use."""
    means, deviations = (x.numpy() for x in posterior(model, data.train))
    scale = classifiers.feature_scale
    yield "M1", (own := classifiers.neighbour_graph(means))
    yield "means in units of q's standard deviation", classifiers.neighbour_graph(means / deviations.mean(0))
    both = np.concatenate([means, deviations * (scale(means) / scale(deviations))], 1)
    yield "means and standard deviations of q", classifiers.neighbour_graph(both)
    for path in sorted((o.results_dir / "runs").glob(f"q3_{dataset}_m1__*_0/q3_vae_{dataset}.pt")):
        other, description = vae.load_vae(path, train_command(dataset, "gaussian"))
        named = "KL weight {kl_weight:g}, distortion {distort:g}".format(**description["settings"])
        graph = classifiers.neighbour_graph(posterior_means(other, data.train).numpy())
        yield named, graph
        yield f"M1, averaged with {named}", 0.5 * (own + graph)


def search_transductive_features(o, dataset, data, drawn):
    """Validation errors at 100 labels, on M1's features, with other graphs; differences are paired with the first."""
    labels, truth = data.train_labels.numpy(), data.validation_labels.numpy()
    model, _ = vae.load_vae(vae.vae_path(o.weights_dir, dataset), train_command(dataset, "gaussian"))
    everything, validation = (posterior_means(model, x).numpy() for x in (data.train, data.validation))
    chosen = classifiers.transductive_settings(dataset, COUNTS[0])

    def error(graph, rows):
        svm = classifiers.fit_transductive(everything, rows, labels[rows], graph, chosen)
        return round(100 * float((classifiers.predict(svm, validation) != truth).mean()), 4)

    rows = []
    for named, graph in graphs(o, dataset, data, model):
        tasks = [delayed(error)(graph, r) for (n, _), r in drawn.items() if n == COUNTS[0]]
        errors = classifiers.in_parallel(tasks, o.jobs, f"{dataset}, graph: {named}")
        paired = np.array([errors]) - np.array([rows[0]["errors"] if rows else errors])
        difference, low, high = (None if math.isnan(v) else round(v, 3) for v in intervals.interval(paired))
        rows.append({"graph": named, "labels": COUNTS[0], "errors": errors,
                     "error_mean": round(float(np.mean(errors)), 3),
                     "difference": difference, "low": low, "high": high})
        print(f"{named}: {rows[-1]['error_mean']:.2f} %, difference {difference:+.2f} points", flush=True)
    return {"rows": rows}


def search_vae(o, dataset, data, drawn):
    """Short trainings; each gets the better of the exponential and the RBF kernel, at width 1 and C 10."""
    device, labels, rows = files.pick_device("auto"), data.train_labels.numpy(), []
    for change in VAES[dataset]:
        chosen = vae.settings(dataset, **{"epochs": o.epochs, "kl_weight": 1.0, "distort": 0.0} | change)
        folder = o.results_dir / "runs" / f"q3_vae_search_{dataset}_{len(rows)}"
        model, history = vae.train(chosen, data, device, folder, files.pick_precision("auto", device))
        validation, by_power = posterior_means(model, data.validation).numpy(), {}
        for power in GRID["power"]:
            found = [100 * float((classifiers.predict(classifiers.fit_svm(
                posterior_means(model, data.train[r]).numpy(), labels[r], power, 1.0, 10.0), validation)
                != data.validation_labels.numpy()).mean()) for r in drawn.values()]
            by_power[power] = means(drawn, found)
        power = min(by_power, key=lambda p: relative(by_power[p]))
        rows.append({"settings": {key: chosen[key] for key in ("likelihood", "epochs", "kl_weight", "distort")},
                     "power": power, "active_latents": history[-1]["active_latents"],
                     "validation_elbo": round(history[-1]["validation_elbo"], 1), "errors": rounded(by_power[power])})
    print(vae_markdown(rows))
    return {"rows": rows}


def vae_markdown(rows):
    """The table of the VAE search in EXPERIMENTS.md."""
    lines = ["| likelihood | KL weight | distortion | active latents | kernel | " + " | ".join(map(str, COUNTS)) + " |",
             "|---" * (5 + len(COUNTS)) + "|"]
    for row in rows:
        s, kernel = row["settings"], "exponential" if row["power"] == 1 else "RBF"
        cells = [s["likelihood"], f"{s['kl_weight']:g}", f"{s['distort']:g}", f"{row['active_latents']} of 50", kernel]
        lines.append("| " + " | ".join(cells + [f"{row['errors'][str(n)]:.1f}" for n in COUNTS]) + " |")
    return "\n".join(lines)


def transductive_markdown(rows):
    """The table of the transductive classifier's settings in EXPERIMENTS.md."""
    lines = ["| alpha, steps | rounds | weight | sharpness | " + " | ".join(map(str, COUNTS)) + " |",
             "|---" * (4 + len(COUNTS)) + "|"]
    for row in rows:
        s = classifiers.TRANSDUCTIVE | row["change"]
        lines.append(f"| {s['alpha']:g}, {s['steps']} | {s['rounds']} | {s['weight']:g} | {s['sharpness']:g} | "
                     + " | ".join(f"{row['errors'][str(n)]:.2f}" for n in COUNTS) + " |")
    return "\n".join(lines)


SEARCHES = {"kernel": search_kernel, "transductive": search_transductive, "vae": search_vae,
            "transductive_features": search_transductive_features}


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("what", choices=SEARCHES)
    add("--dataset", type=name, choices=VAES, nargs="+", default=list(VAES), help="(default: fashion mnist)")
    add("--draws", type=number(int, 1, 1000), default=3, help="of the labels, per count (default: 3)")
    add("--epochs", type=number(int, 1, 1000), default=20, help="of each VAE training (default: 20)")
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
        print(f"saved {path}")


if __name__ == "__main__":
    run_main(main)
