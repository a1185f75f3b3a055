"""The table of question 3: every method x label count x 10 class-balanced draws, on both data sets, beside Table 1.

Test error in %, mean and standard deviation over the draws (seeds 0 to 9); all methods see the same draws, and each
has one training of the VAE that ships. Writes results/q3/table_DATASET.json and table.png, prints README's tables.
"""

import os
import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
from joblib import delayed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, images, plots
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import Parser, add_folders, as_json, check_writable, name, number, read_json, run_main, write
from q3_vae_m1.features import feature_maps

# Table 1 of Kingma et al. 2014: test error in % on MNIST, mean and standard deviation where given.
PAPER = {
    "NN": [25.81, 11.44, 10.7, 6.04], "CNN": [22.98, 7.68, 6.45, 3.35], "TSVM": [16.81, 6.16, 5.38, 3.45],
    "CAE": [13.47, 6.3, 4.77, 3.22], "MTC": [12.03, 5.13, 3.64, 2.57], "AtlasRBF": [8.10, None, 3.68, None],
    "M1+TSVM": [11.82, 5.72, 4.24, 3.49], "M2": [11.97, 4.94, 3.60, 3.92], "M1+M2": [3.33, 2.59, 2.40, 2.18],
}
PAPER_STD = {"AtlasRBF": [0.95, None, 0.12, None], "M1+TSVM": [0.25, 0.049, 0.07, 0.04], "M2": [1.71, 0.13, 0.56, 0.63],
             "M1+M2": [0.14, 0.05, 0.02, 0.04]}
SHOWN = ("M1+TSVM", "M2", "M1+M2")  # of the paper's rows, in the picture
EXAMPLES = """examples:
  python q3_vae_m1/table.py                    both data sets, 10 draws
  python q3_vae_m1/table.py --dataset mnist --draws 2"""


def errors(dataset, data, maps, draws, jobs):
    """{(method, label count): test errors in %, one for every draw}."""
    labels, truth = data.train_labels.numpy(), data.test_labels.numpy()
    drawn = {(n, seed): classifiers.labelled_draw(data.train_labels, n, seed) for n in COUNTS for seed in range(draws)}

    def error(svm, test):
        return 100 * float((classifiers.predict(svm, test) != truth).mean())

    def inductive(train, test, rows, chosen):
        return error(classifiers.fit_svm(train, labels[rows], **chosen), test)

    def transductive(everything, test, graph, n, rows):
        chosen = classifiers.transductive_settings(dataset, n)
        return error(classifiers.fit_transductive(everything, rows, labels[rows], graph, chosen), test)

    def by_count(method, tasks):
        results = classifiers.in_parallel(tasks, jobs, f"{dataset} {method}")
        return {(method, n): results[i * draws:(i + 1) * draws] for i, n in enumerate(COUNTS)}

    found = {}
    for features, transform in maps.items():
        test, chosen = transform(data.test), classifiers.svm_settings(dataset, features)
        found |= by_count(f"{features}+SVM", [delayed(inductive)(transform(data.train[rows]), test, rows, chosen)
                                              for rows in drawn.values()])
    everything, test = maps["M1"](data.train), maps["M1"](data.test)
    graph = classifiers.neighbour_graph(everything)
    return found | by_count("M1+transductive", [delayed(transductive)(everything, test, graph, n, rows)
                                                for (n, _), rows in drawn.items()])


def two_digits(value):
    """Halves up, as the report rounds."""
    return str(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def markdown(rows, paper):
    """The table in README.md. rows: of table_DATASET.json; paper: whether the paper's rows follow."""
    lines = ["| test error % | " + " | ".join(map(str, COUNTS)) + " |", "|---" * (len(COUNTS) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [f"{two_digits(row['error_mean'])} ± {two_digits(row['error_std'])}" for row in rows
                 if row["method"] == method]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    for method, values in PAPER.items() if paper else ():
        deviations = PAPER_STD.get(method, [None] * 4)
        cells = ["–" if v is None else f"{v:g}" if s is None else f"{v:g} ± {s:g}" for v, s in zip(values, deviations)]
        lines.append(f"| paper: {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def content(dataset, found, draws):
    """What table_DATASET.json holds."""
    rows = [{"method": method, "labels": n, "error_mean": round(float(np.mean(e)), 4),
             "error_std": round(float(np.std(e, ddof=min(1, draws - 1))), 4), "errors": [round(v, 4) for v in e]}
            for (method, n), e in found.items()]
    known = classifiers.known(dataset)
    settings = {features: chosen for (of, features), chosen in classifiers.SVM.items() if of == known}
    paper = [{"method": m, "labels": n, "error_mean": v, "error_std": s} for m, values in PAPER.items()
             for n, v, s in zip(COUNTS, values, PAPER_STD.get(m, [None] * 4)) if v is not None]
    return {"dataset": dataset, "draws": draws, "svm": settings, "rows": rows,
            **({"paper": paper} if dataset == "mnist" else {})}


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--dataset", type=name, nargs="+", default=["fashion", "mnist"], help="(default: fashion mnist)")
    add("--draws", type=number(int, 1, 1000), default=10, help="of the labels, seeds 0, 1, ... (default: 10)")
    add("--jobs", type=number(int, 1, 1024), default=os.cpu_count(), help="draws at a time (default: all cores)")
    add_folders(parser, "data", "weights", "results")
    o = parser.parse_args()
    folder = o.results_dir / "q3"
    check_writable(folder)
    for dataset in o.dataset:
        data = images.load(dataset, o.data_dir)
        found = errors(dataset, data, feature_maps(dataset, data, o.weights_dir), o.draws, o.jobs)
        table = content(dataset, found, o.draws)
        write(folder / f"table_{dataset}.json", as_json(table))
        print(f"\n{images.title(dataset)}\n\n{markdown(table['rows'], dataset == 'mnist')}\n", flush=True)
    tables = {d: read_json(path) for d in dict.fromkeys(("fashion", "mnist", *o.dataset))
              if (path := folder / f"table_{d}.json").is_file()}
    paper = {m: {n: v for n, v in zip(COUNTS, PAPER[m]) if v is not None} for m in SHOWN}
    write(folder / "table.png", plots.table(tables, paper))
    print(f"saved {folder / 'table.png'}")


if __name__ == "__main__":
    run_main(main)
