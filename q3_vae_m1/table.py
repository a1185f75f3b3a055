"""The tables of question 3, from the record that record.py fills: mean test errors in %, how they vary, differences.

Writes results/q3/table_DATASET.json, differences.json (paired, with 95 % intervals: intervals.py) and table.png, and
prints the tables of README.md and EXPERIMENTS.md. Takes seconds. A method's row has the trainings of its VAE that have
all draws so far: `trainings` says how many.
"""

import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, intervals, plots
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import Parser, UserError, add_folders, as_json, check_writable, name, read_json, run_main, write

# Table 1 of Kingma et al. 2014: test error in % on MNIST, mean and standard deviation where given.
PAPER = {
    "NN": [25.81, 11.44, 10.7, 6.04], "CNN": [22.98, 7.68, 6.45, 3.35], "TSVM": [16.81, 6.16, 5.38, 3.45],
    "CAE": [13.47, 6.3, 4.77, 3.22], "MTC": [12.03, 5.13, 3.64, 2.57], "AtlasRBF": [8.10, None, 3.68, None],
    "M1+TSVM": [11.82, 5.72, 4.24, 3.49], "M2": [11.97, 4.94, 3.60, 3.92], "M1+M2": [3.33, 2.59, 2.40, 2.18],
}
PAPER_STD = {"AtlasRBF": [0.95, None, 0.12, None], "M1+TSVM": [0.25, 0.049, 0.07, 0.04], "M2": [1.71, 0.13, 0.56, 0.63],
             "M1+M2": [0.14, 0.05, 0.02, 0.04]}
SHOWN = ("M1+TSVM", "M2", "M1+M2")  # of the paper's rows, in the picture
NAMES = {"svm": "SVM", "transductive": "transductive", "default": "default SVM"}  # of classifiers, after "features+"
MAIN = ("raw pixels+SVM", "PCA-50+SVM", "M1 (Bernoulli)+SVM", "M1+SVM", "raw pixels+transductive",
        "PCA-50+transductive", "M1 (Bernoulli)+transductive", "M1+transductive", "raw pixels+default SVM",
        "PCA-50+default SVM", "M1 (Bernoulli)+default SVM", "M1+default SVM")
PICTURE = ("raw pixels+SVM", "M1 (Bernoulli)+SVM", "M1+SVM", "M1 (Bernoulli)+transductive", "M1+transductive")
PAIRS = [(f"{a}+{fit}", f"{b}+{fit}") for fit in NAMES.values() for a, b in (
    ("M1", "raw pixels"), ("M1", "PCA-50"), ("M1 (Bernoulli)", "raw pixels"), ("M1 (Bernoulli)", "PCA-50"),
    ("M1", "M1 (Bernoulli)"))]
PAIRS += [("M1+transductive", "M1+SVM"), ("M1 (Bernoulli)+transductive", "M1 (Bernoulli)+SVM")]
EXAMPLES = """examples:
  python q3_vae_m1/table.py
  python q3_vae_m1/table.py --dataset mnist"""


def methods(lines, dataset):
    """{method: {label count: {seed of the VAE's training: errors (draws,)}}}, trainings that have all draws."""
    found = {}
    for line in lines:
        if line["dataset"] == dataset:
            method = f"{line['features']}+{NAMES[line['classifier']]}"
            found.setdefault(method, {}).setdefault(line["vae_seed"], {})[line["draw"]] = line["errors"]
    draws = max((max(by_draw) + 1 for by_seed in found.values() for by_draw in by_seed.values()), default=0)
    order = [method for method in MAIN if method in found] + sorted(found.keys() - set(MAIN))
    complete = {method: {seed: by_draw for seed, by_draw in found[method].items() if len(by_draw) == draws}
                for method in order}
    return {method: {n: {seed: np.array([by_draw[i][str(n)] for i in range(draws)]) for seed, by_draw in seeds.items()}
                     for n in COUNTS} for method, seeds in complete.items() if seeds}


def two_digits(value):
    """Halves up, as the report rounds."""
    return str(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def markdown(rows, paper=False):
    """A table in Markdown: mean ± standard deviation over draws (and over trainings). rows: of table_DATASET.json."""
    lines = ["| test error % | trainings | " + " | ".join(map(str, COUNTS)) + " |", "|---" * (len(COUNTS) + 2) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        cells = [f"{two_digits(row['error_mean'])} ± {two_digits(row['error_std'])}"
                 + ("" if row["training_std"] is None else f" ({two_digits(row['training_std'])})") for row in own]
        lines.append(f"| {method} | {own[0]['trainings'] or '–'} | " + " | ".join(cells) + " |")
    for method, values in PAPER.items() if paper else ():
        stds = PAPER_STD.get(method, [None] * 4)
        cells = ["–" if v is None else f"{v:g}" if s is None else f"{v:g} ± {s:g}" for v, s in zip(values, stds)]
        lines.append(f"| paper: {method} |  | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences_markdown(entries, dataset):
    """Paired differences of one data set in Markdown: points of test error and the 95 % interval."""
    own = [entry for entry in entries if entry["dataset"] == dataset]
    lines = ["| difference in points | " + " | ".join(map(str, COUNTS)) + " |", "|---" * (len(COUNTS) + 1) + "|"]
    for a, b in dict.fromkeys((entry["a"], entry["b"]) for entry in own):
        cells = [f"{e['difference']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]" for e in own
                 if (e["a"], e["b"]) == (a, b)]
        lines.append(f"| {a} − {b} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(dataset, found):
    """What table_DATASET.json holds. rows: the methods; ablations: what differs from them in one thing."""
    rows = []
    for method, by_count in found.items():
        for n, by_seed in by_count.items():
            errors = np.array(list(by_seed.values()))
            over_draws, over_trainings = intervals.deviations(errors)
            rows.append({"method": method, "labels": n, "error_mean": rounded(errors.mean()),
                         "error_std": rounded(over_draws), "training_std": rounded(over_trainings),
                         "draws": errors.shape[1], "trainings": 0 if None in by_seed else len(by_seed),
                         "errors": {str(seed): e.tolist() for seed, e in by_seed.items()}})
    settings = {features: s for (of, features), s in classifiers.SVM.items() if of == classifiers.known(dataset)}
    content = {"dataset": dataset, "svm": settings, "rows": [row for row in rows if row["method"] in MAIN],
               "ablations": [row for row in rows if row["method"] not in MAIN]}
    if dataset == "mnist":
        content["paper"] = [{"method": m, "labels": n, "error_mean": v, "error_std": s} for m, values in PAPER.items()
                            for n, v, s in zip(COUNTS, values, PAPER_STD.get(m, [None] * 4)) if v is not None]
    return content


def rounded(value):
    return None if value is None else round(float(value), 4)


def differences(dataset, found):
    """Entries of differences.json: a - b in points of test error. Ablations are against what they change."""
    pairs = PAIRS + [(method, reference) for method in found if method not in MAIN
                     for reference in [method.replace(method.split("+")[0], "raw pixels" if "pixels" in method
                                                      else method.split(",")[0])]]
    entries = []
    for (a, b), n in ((pair, n) for pair in pairs if set(pair) <= found.keys() for n in COUNTS):
        d = intervals.paired(found[a][n], found[b][n])
        if d.size and d.shape[1] > 1:
            mean, low, high = (round(value, 3) for value in intervals.interval(d))
            entries.append({"dataset": dataset, "labels": n, "a": a, "b": b, "difference": mean, "low": low,
                            "high": high, "n": d.shape[1], "trainings": d.shape[0]})
    return entries


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--dataset", type=name, nargs="+", default=["fashion", "mnist"], help="(default: both)")
    add_folders(parser, "results")
    o = parser.parse_args()
    folder = o.results_dir / "q3"
    check_writable(folder)
    lines = files.read_lines(folder / "errors.jsonl")
    entries = []
    for dataset in o.dataset:
        found = methods(lines, dataset)
        if not found:
            raise UserError(f"{folder / 'errors.jsonl'}: nothing on {dataset}; `python q3_vae_m1/record.py` fills it")
        content = table(dataset, found)
        entries += (own := differences(dataset, found))
        write(folder / f"table_{dataset}.json", as_json(content))
        print(f"\n{images.title(dataset)}\n\n{markdown(content['rows'], dataset == 'mnist')}\n\n"
              f"{markdown(content['ablations'])}\n\n{differences_markdown(own, dataset)}")
    path = folder / "differences.json"
    others = [e for e in read_json(path, list) if e["dataset"] not in o.dataset] if path.exists() else []
    write(path, as_json(others + entries))
    tables = {d: read_json(path) for d in dict.fromkeys(("fashion", "mnist", *o.dataset))
              if (path := folder / f"table_{d}.json").is_file()}
    for content in tables.values():
        content["rows"] = [row for row in content["rows"] if row["method"] in PICTURE]
    paper = {m: {n: v for n, v in zip(COUNTS, PAPER[m]) if v is not None} for m in SHOWN}
    write(folder / "table.png", plots.table(tables, paper))
    print(f"saved {folder / 'table.png'}")


if __name__ == "__main__":
    run_main(main)
