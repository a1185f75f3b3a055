"""Chooses hyper-parameters on the last 10,000 training images; never reads a test image.

  kernel        of the SVM, with its width and C, for every feature set of the table -> results/q3_validation_DATASET.json
  transductive  the settings of the transductive classifier                         -> results/q3_validation_transductive_DATASET.json
  vae           short trainings of the VAE under other settings, and what each gives -> results/q3_tries_DATASET.json

Label draws have seeds from 100 on, so that none of the table's draws is among them. What is best here stands as a constant in
classify.py and train.py; a test compares the SVMs' with the record.
"""
import argparse
import itertools
import os
import sys
from pathlib import Path

import numpy as np
from joblib import delayed
from sklearn.metrics import euclidean_distances
from sklearn.svm import SVC

import classify
import images as data
import store
import train
from m1 import latents
from table import COUNTS, feature_maps, in_parallel

GRID = {"power": [1.0, 2.0], "width": [0.7, 1.0, 1.4, 2.0, 2.8], "C": [1.0, 10.0]}
TRIES = {  # what differs from the Gaussian model with the plain bound
    "fashion": [{"likelihood": "bernoulli"}, {}, {"kl_weight": 0.1}, {"kl_weight": 0.02}, {"kl_weight": 0.004}, {"kl_weight": 0.02, "distort": 0.2},
                {"kl_weight": 0.02, "distort": 0.5}],
    "mnist": [{"likelihood": "bernoulli"}, {}, {"kl_weight": 0.1}, {"distort": 0.5}, {"kl_weight": 0.1, "distort": 0.5},
              {"kl_weight": 0.1, "distort": 1.0}, {"kl_weight": 0.02, "distort": 1.0}],
}
FEW, MANY = {"alpha": 0.95, "steps": 60, "rounds": 2, "weight": 0.3}, {"alpha": 0.9, "steps": 30, "rounds": 1, "weight": 0.1}
TRANSDUCTIVE_TRIES = [FEW, MANY, FEW | {"alpha": 0.9}, FEW | {"alpha": 0.99, "steps": 120}, FEW | {"sharpness": 2.0}, FEW | {"rounds": 1},
                      FEW | {"rounds": 3}, FEW | {"weight": 0.1}]
EXAMPLES = """examples:
  python q3_vae_m1/tune.py kernel
  python q3_vae_m1/tune.py vae --dataset mnist --epochs 20
"""


def kernel_errors(train_x: np.ndarray, train_y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray) -> dict[tuple, float]:
    """Validation error in % of every point of GRID, for one label draw. The distances are computed once."""
    scale = classify.spread_of(train_x)
    own, other = euclidean_distances(train_x) / scale, euclidean_distances(held_x, train_x) / scale
    found = {}
    for power, width, C in itertools.product(*GRID.values()):
        machine = SVC(C=C, kernel="precomputed").fit(np.exp(-(own / width) ** power), train_y)
        found[power, width, C] = 100 * float((machine.predict(np.exp(-(other / width) ** power)) != held_y).mean())
    return found


def tune_kernel(o, dataset: str, images: data.Images, maps: dict) -> list[dict]:
    split, labels = images.validation, images.train_y.numpy()
    draws = {(n, 100 + s): data.labelled_draw(images.train_y[:split], n, 100 + s) for n in COUNTS for s in range(o.draws)}
    rows = []
    for name, transform in maps.items():
        held = transform(images.train_x[split:])
        tasks = [delayed(kernel_errors)(transform(images.train_x[drawn]), labels[drawn], held, labels[split:]) for drawn in draws.values()]
        results = in_parallel(tasks, o.jobs, f"{dataset} {name}")
        for point in results[0]:
            errors = {n: float(np.mean([r[point] for (m, _), r in zip(draws, results) if m == n])) for n in COUNTS}
            rows.append({"features": name, **dict(zip(GRID, point)), "errors": {str(n): round(e, 3) for n, e in errors.items()},
                         "score": round(relative(errors), 4)})
    return rows


def relative(errors: dict[int, float]) -> float:
    """Geometric mean over the label counts: a tenth less error counts the same at 100 labels as at 3000."""
    return float(np.exp(np.mean(np.log(list(errors.values())))))


def best(rows: list[dict], keys: list[str], features: str) -> dict:
    row = min((row for row in rows if row["features"] == features), key=lambda row: row["score"])
    return {key: row[key] for key in keys}


def tune_transductive(o, dataset: str, images: data.Images, maps: dict) -> list[dict]:
    split, labels = images.validation, images.train_y.numpy()
    everything, held = maps["M1"](images.train_x[:split]), maps["M1"](images.train_x[split:])
    graph = classify.neighbour_graph(everything)

    def error(change: dict, n: int, seed: int) -> float:
        drawn = data.labelled_draw(images.train_y[:split], n, seed)
        machine = classify.fit_transductive(everything, drawn, labels[drawn], graph, dataset, **change)
        return 100 * float((classify.predict(machine, held) != labels[split:]).mean())

    keys = [(i, n, 100 + s) for i in range(len(TRANSDUCTIVE_TRIES)) for n in COUNTS for s in range(o.draws)]
    tasks = [delayed(error)(TRANSDUCTIVE_TRIES[i], n, seed) for i, n, seed in keys]
    found = dict(zip(keys, in_parallel(tasks, o.jobs, f"{dataset} transductive")))
    rows = []
    for i, change in enumerate(TRANSDUCTIVE_TRIES):
        errors = {n: float(np.mean([e for (j, m, _), e in found.items() if (j, m) == (i, n)])) for n in COUNTS}
        rows.append({"change": change, "errors": {str(n): round(e, 3) for n, e in errors.items()}, "score": round(relative(errors), 4)})
    return rows


def try_vaes(o, dataset: str, images: data.Images) -> list[dict]:
    """Short trainings; each gets the better of the exponential and the RBF kernel, at width 1 and C 10."""
    split, labels = images.validation, images.train_y.numpy()
    device = train.choose_device("auto")
    rows = []
    for change in TRIES[dataset]:
        options = train.arguments(["--dataset", dataset, "--epochs", str(o.epochs), "--kl-weight", "1", "--distort", "0"]
                                  + [word for key, value in change.items() for word in (f"--{key.replace('_', '-')}", str(value))])
        settings = train.vae_settings(options) | {"precision": train.choose_precision("auto", device)}
        folder = o.results_dir / "runs" / f"q3_try_{dataset}_{len(rows)}"
        model, history = train.train_vae(images.train_x[:split], images.train_x[split:], settings, folder, device, resume=False)
        model.eval()
        held = latents(model, images.train_x[split:]).numpy()
        by_power = {}
        for power in GRID["power"]:
            by_power[power] = {n: [] for n in COUNTS}
            for n, seed in itertools.product(COUNTS, range(100, 100 + o.draws)):
                drawn = data.labelled_draw(images.train_y[:split], n, seed)
                machine = classify.fit_svm(latents(model, images.train_x[drawn]).numpy(), labels[drawn], power, 1.0, 10.0)
                by_power[power][n].append(100 * float((classify.predict(machine, held) != labels[split:]).mean()))
        power = min(by_power, key=lambda p: relative({n: np.mean(e) for n, e in by_power[p].items()}))
        rows.append({"settings": {key: settings[key] for key in ("likelihood", "epochs", "kl_weight", "distort")}, "power": power,
                     "active_latents": history[-1]["active_latents"], "held_out_bound": round(history[-1]["held_out_bound"], 1),
                     "errors": {str(n): round(float(np.mean(e)), 3) for n, e in by_power[power].items()}})
    return rows


def tries_markdown(rows: list[dict]) -> str:
    """The table of tries in README.md."""
    lines = ["| likelihood | KL weight | distortion | active latents | kernel | " + " | ".join(map(str, COUNTS)) + " |", "|---" * (5 + len(COUNTS)) + "|"]
    for row in rows:
        s = row["settings"]
        cells = [s["likelihood"], f"{s['kl_weight']:g}", f"{s['distort']:g}", f"{row['active_latents']} of 50", "exponential" if row["power"] == 1 else "RBF"]
        lines.append("| " + " | ".join(cells + [f"{row['errors'][str(n)]:.1f}" for n in COUNTS]) + " |")
    return "\n".join(lines)


def transductive_markdown(rows: list[dict]) -> str:
    """The table of the transductive classifier's settings in README.md."""
    lines = ["| alpha, steps | rounds | weight | sharpness | " + " | ".join(map(str, COUNTS)) + " |", "|---" * (4 + len(COUNTS)) + "|"]
    for row in rows:
        s = classify.TRANSDUCTIVE | row["change"]
        lines.append(f"| {s['alpha']:g}, {s['steps']} | {s['rounds']} | {s['weight']:g} | {s['sharpness']:g} | "
                     + " | ".join(f"{row['errors'][str(n)]:.2f}" for n in COUNTS) + " |")
    return "\n".join(lines)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=["kernel", "transductive", "vae"])
    add("--dataset", choices=data.FOLDERS, nargs="+", default=["fashion", "mnist"])
    add("--draws", type=int, default=3, help="label draws per count (default 3)")
    add("--epochs", type=int, default=20, help="of each VAE training (default 20)")
    add("--jobs", type=int, default=os.cpu_count())
    add("--data-dir", type=Path, default=store.ROOT / "data")
    add("--weights-dir", type=Path, default=store.ROOT / "weights")
    add("--results-dir", type=Path, default=store.ROOT / "results")
    o = parser.parse_args(argv)
    if min(o.draws, o.epochs, o.jobs) < 1:
        parser.error("--draws, --epochs and --jobs must be positive")
    store.check_writable(o.results_dir)
    for dataset in o.dataset:
        images = data.load(dataset, o.data_dir)
        common = {"dataset": dataset, "draws": o.draws, "validation_images": len(images.train_x) - images.validation}
        if o.what == "vae":
            rows = try_vaes(o, dataset, images)
            store.save_json(o.results_dir / f"q3_tries_{dataset}.json", common | {"rows": rows})
            print(tries_markdown(rows))
            continue
        maps = feature_maps(dataset, images, o.weights_dir)
        if o.what == "kernel":
            rows = tune_kernel(o, dataset, images, maps)
            chosen = {name: best(rows, list(GRID), name) for name in maps}
            store.save_json(o.results_dir / f"q3_validation_{dataset}.json", common | {"chosen": chosen, "rows": rows})
            print(chosen)
        else:
            rows = tune_transductive(o, dataset, images, maps)
            store.save_json(o.results_dir / f"q3_validation_transductive_{dataset}.json", common | {"base": {str(n): classify.transductive_settings(dataset, n) for n in COUNTS}, "rows": rows})
            print(transductive_markdown(rows))


if __name__ == "__main__":
    try:
        main()
    except (data.ImagesError, store.StoreError, ValueError) as error:
        sys.exit(classify.fail(error))
