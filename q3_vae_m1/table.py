"""The table of question 3: every method x label count x 10 class-balanced draws, on both data sets, beside the paper's Table 1.

Test error in %, mean and standard deviation over the draws (seeds 0-9); all methods see the same draws. Writes
results/q3_table_DATASET.json, results/q3_table.png, and the Markdown tables of q3_vae_m1/README.md to the terminal.
"""
import argparse
import os
import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import classify
import images as data
import pictures
import store
from m1 import latents

COUNTS = [100, 600, 1000, 3000]
# Table 1 of Kingma et al. 2014: test error in % on MNIST, mean and standard deviation where given.
PAPER = {
    "NN": [25.81, 11.44, 10.7, 6.04], "CNN": [22.98, 7.68, 6.45, 3.35], "TSVM": [16.81, 6.16, 5.38, 3.45],
    "CAE": [13.47, 6.3, 4.77, 3.22], "MTC": [12.03, 5.13, 3.64, 2.57], "AtlasRBF": [8.10, None, 3.68, None],
    "M1+TSVM": [11.82, 5.72, 4.24, 3.49], "M2": [11.97, 4.94, 3.60, 3.92], "M1+M2": [3.33, 2.59, 2.40, 2.18],
}
PAPER_STD = {"AtlasRBF": [0.95, None, 0.12, None], "M1+TSVM": [0.25, 0.049, 0.07, 0.04], "M2": [1.71, 0.13, 0.56, 0.63],
             "M1+M2": [0.14, 0.05, 0.02, 0.04]}
EXAMPLES = """examples:
  python q3_vae_m1/table.py                    both data sets, 10 draws
  python q3_vae_m1/table.py --dataset mnist --draws 2
"""


def feature_maps(dataset: str, images: data.Images, weights_dir: Path) -> dict[str, Callable[[torch.Tensor], np.ndarray]]:
    """Each feature set as a map from uint8 pixels (M, 784) to float32 features (M, d). Nothing here sees a label."""
    scaled = lambda pixels: pixels.numpy().astype(np.float32) / 255
    pca = PCA(50, svd_solver="covariance_eigh").fit(scaled(images.train_x[:images.validation]))
    maps = {"raw pixels": scaled, "PCA-50": lambda pixels: pca.transform(scaled(pixels)).astype(np.float32)}
    for name, likelihood in (("M1 (Bernoulli)", "bernoulli"), ("M1", "gaussian")):
        command = f"python q3_vae_m1/train.py --dataset {dataset} --likelihood {likelihood} --retrain"
        model, _ = store.load_vae(store.vae_path(weights_dir, dataset, likelihood), command)
        maps[name] = lambda pixels, model=model: latents(model, pixels).numpy()
    return maps


def in_parallel(tasks: list, jobs: int, title: str) -> list:
    """Results in order. Threads, since NumPy and libsvm let go of the interpreter; each task keeps to one core."""
    with threadpool_limits(1):
        return list(tqdm(Parallel(jobs, prefer="threads", return_as="generator")(tasks), total=len(tasks), desc=title))


def errors(dataset: str, images: data.Images, maps: dict, draws: int, jobs: int) -> dict[tuple[str, int], list[float]]:
    """Test error in % of every method and label count, one value per draw."""
    labels, truth = images.train_y.numpy(), images.test_y.numpy()
    drawn = {(n, seed): data.labelled_draw(images.train_y[:images.validation], n, seed) for n in COUNTS for seed in range(draws)}
    score = lambda machine, test: 100 * float((classify.predict(machine, test) != truth).mean())

    def inductive(train: np.ndarray, test: np.ndarray, settings: dict, rows: np.ndarray) -> float:
        return score(classify.fit_svm(train, labels[rows], **settings), test)

    def transductive(everything: np.ndarray, test: np.ndarray, graph, n: int, rows: np.ndarray) -> float:
        return score(classify.fit_transductive(everything, rows, labels[rows], graph, dataset), test)

    found = {}
    for name, transform in maps.items():
        test = transform(images.test_x)
        tasks = [delayed(inductive)(transform(images.train_x[rows]), test, classify.SVM[dataset, name], rows) for rows in drawn.values()]
        results = in_parallel(tasks, jobs, f"{dataset} {name}+SVM")
        found |= {(f"{name}+SVM", n): results[i * draws:(i + 1) * draws] for i, n in enumerate(COUNTS)}
    everything, test = maps["M1"](images.train_x[:images.validation]), maps["M1"](images.test_x)
    graph = classify.neighbour_graph(everything)
    tasks = [delayed(transductive)(everything, test, graph, n, rows) for (n, _), rows in drawn.items()]
    results = in_parallel(tasks, jobs, f"{dataset} M1+transductive")
    return found | {("M1+transductive", n): results[i * draws:(i + 1) * draws] for i, n in enumerate(COUNTS)}


def fixed(value: float) -> str:
    """Two digits, halves up, as the report rounds."""
    return str(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def markdown(rows: list[dict], paper: bool) -> str:
    lines = ["| test error % | " + " | ".join(map(str, COUNTS)) + " |", "|---" * (len(COUNTS) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [f"{fixed(row['error_mean'])} ± {fixed(row['error_std'])}" for row in rows if row["method"] == method]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    for method, values in PAPER.items() if paper else ():
        spread = PAPER_STD.get(method, [None] * 4)
        cells = ["–" if v is None else f"{v:g}" if s is None else f"{v:g} ± {s:g}" for v, s in zip(values, spread)]
        lines.append(f"| paper: {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", choices=data.FOLDERS, nargs="+", default=["fashion", "mnist"])
    add("--draws", type=int, default=10, help="label draws per count, seeds 0, 1, ... (default 10)")
    add("--jobs", type=int, default=os.cpu_count(), help="draws at a time (default: all cores)")
    add("--data-dir", type=Path, default=store.ROOT / "data")
    add("--weights-dir", type=Path, default=store.ROOT / "weights")
    add("--results-dir", type=Path, default=store.ROOT / "results")
    o = parser.parse_args(argv)
    if o.draws < 1 or o.jobs < 1:
        parser.error("--draws and --jobs must be positive")
    store.check_writable(o.results_dir)
    for dataset in o.dataset:
        images = data.load(dataset, o.data_dir)
        found = errors(dataset, images, feature_maps(dataset, images, o.weights_dir), o.draws, o.jobs)
        rows = [{"method": method, "labels": n, "error_mean": round(float(np.mean(e)), 4), "error_std": round(float(np.std(e, ddof=min(1, o.draws - 1))), 4),
                 "errors": [round(v, 4) for v in e]} for (method, n), e in found.items()]
        paper = [{"method": m, "labels": n, "error_mean": v, "error_std": s} for m, values in PAPER.items()
                 for n, v, s in zip(COUNTS, values, PAPER_STD.get(m, [None] * 4)) if v is not None]
        store.save_json(o.results_dir / f"q3_table_{dataset}.json", {"dataset": dataset, "draws": o.draws, "svm": {
            name: settings for (d, name), settings in classify.SVM.items() if d == dataset}, "rows": rows} | ({"paper": paper} if dataset == "mnist" else {}))
        print(f"\n{pictures.NAMES[dataset]}\n\n{markdown(rows, dataset == 'mnist')}\n", flush=True)
    tables = {d: store.load_json(path) for d in data.FOLDERS if (path := o.results_dir / f"q3_table_{d}.json").is_file()}
    pictures.table(o.results_dir / "q3_table.png", tables,
                   {m: {n: v for n, v in zip(COUNTS, PAPER[m]) if v is not None} for m in ("M1+TSVM", "M2", "M1+M2")})
    print(f"-> {o.results_dir / 'q3_table.png'}")


if __name__ == "__main__":
    try:
        main()
    except (data.ImagesError, store.StoreError, ValueError) as error:
        sys.exit(classify.fail(error))
