"""The tables of question 3, from the record that record.py fills: mean test errors in %, how they vary, differences.

Writes results/q3/table_DATASET.json, differences.json (paired, with 95 % intervals: intervals.py) and table.png, prints
all tables in Markdown, and puts them into README.md and EXPERIMENTS.md in place of those with the same header (not with
another --results-dir). Takes seconds. A row has the trainings of its VAE that have all draws so far.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, intervals, markdown, plots
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import ROOT, Parser, UserError, add_folders, as_json, check_writable, run_main, write
from q3_vae_m1.features import NAMES, base

# Table 1 of Kingma et al. 2014: test error in % on MNIST, mean and standard deviation where given.
PAPER = {
    "NN": [25.81, 11.44, 10.7, 6.04], "CNN": [22.98, 7.68, 6.45, 3.35], "TSVM": [16.81, 6.16, 5.38, 3.45],
    "CAE": [13.47, 6.3, 4.77, 3.22], "MTC": [12.03, 5.13, 3.64, 2.57], "AtlasRBF": [8.10, None, 3.68, None],
    "M1+TSVM": [11.82, 5.72, 4.24, 3.49], "M2": [11.97, 4.94, 3.60, 3.92], "M1+M2": [3.33, 2.59, 2.40, 2.18],
}
PAPER_STD = {"AtlasRBF": [0.95, None, 0.12, None], "M1+TSVM": [0.25, 0.049, 0.07, 0.04], "M2": [1.71, 0.13, 0.56, 0.63],
             "M1+M2": [0.14, 0.05, 0.02, 0.04]}
FITS = {"svm": "SVM", "transductive": "transductive", "default": "default SVM"}  # of the record, after "features+"
MAIN = [f"{features}+{fit}" for fit in FITS.values() for features in NAMES]  # the others are ablations
PICTURE = {"": ("raw pixels+SVM", "M1 (Bernoulli)+SVM", "M1+SVM", "M1 (Bernoulli)+transductive", "M1+transductive"),
           "paper": ("M1+TSVM", "M2", "M1+M2")}
PAIRS = [(f"{a}+{fit}", f"{b}+{fit}") for fit in ("SVM", "transductive") for a, b in (
    ("M1", "raw pixels"), ("M1", "PCA-50"), ("M1 (Bernoulli)", "raw pixels"), ("M1", "M1 (Bernoulli)"))]
PAIRS += [("M1+transductive", "M1+SVM"), ("M1+default SVM", "raw pixels+default SVM")]
EXAMPLES = """examples:
  python q3_vae_m1/table.py"""


def methods(lines, dataset):
    """{method: {label count: {seed of the VAE's training: errors (draws,)}}}, trainings that have all draws."""
    found = {}
    for line in lines:
        if line["dataset"] == dataset:
            method = f"{line['features']}+{FITS[line['classifier']]}"
            found.setdefault(method, {}).setdefault(line["vae_seed"], {})[line["draw"]] = line["errors"]
    draws = max((max(by_draw) + 1 for by_seed in found.values() for by_draw in by_seed.values()), default=0)
    complete = {}
    for method in [*(m for m in MAIN if m in found), *sorted(found.keys() - set(MAIN))]:
        seeds = {seed: by_draw for seed, by_draw in found[method].items() if len(by_draw) == draws}
        if seeds:
            complete[method] = {n: {seed: np.array([by_draw[i][str(n)] for i in range(draws)])
                                    for seed, by_draw in seeds.items()} for n in COUNTS}
    return complete


def table(dataset, found):
    """What table_DATASET.json holds. rows: the methods; ablations: what differs from one of them in one thing."""
    rows = []
    for method, by_count in found.items():
        for n, by_seed in by_count.items():
            errors = np.array(list(by_seed.values()))
            over_draws, over_trainings = (None if sd is None else round(sd, 4) for sd in intervals.deviations(errors))
            rows.append({"method": method, "labels": n, "error_mean": round(float(errors.mean()), 4),
                         "error_std": over_draws, "training_std": over_trainings, "draws": errors.shape[1],
                         "trainings": 0 if None in by_seed else len(by_seed),
                         "errors": {str(seed): e.tolist() for seed, e in by_seed.items()}})
    content = {"dataset": dataset, "draws": max(row["draws"] for row in rows),
               "trainings": max(row["trainings"] for row in rows),
               "svm": {features: classifiers.svm_settings(dataset, features) for features in NAMES},
               "rows": [row for row in rows if row["method"] in MAIN],
               "ablations": [row for row in rows if row["method"] not in MAIN]}
    if dataset == "mnist":
        content["paper"] = [{"method": m, "labels": n, "error_mean": v, "error_std": s} for m, values in PAPER.items()
                            for n, v, s in zip(COUNTS, values, PAPER_STD.get(m, [None] * 4)) if v is not None]
    return content


def differences(dataset, found):
    """Entries of differences.json: a - b in points of test error. An ablation is compared with what it varies."""
    pairs = PAIRS + [(f"{features}+{fit}", f"{base(features)}+{fit}")
                     for features, fit in (method.split("+") for method in found if method not in MAIN)]
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
    add_folders(parser, "results")
    o = parser.parse_args()
    folder = o.results_dir / "q3"
    check_writable(folder)
    lines = files.read_lines(folder / "errors.jsonl")
    found = {dataset: methods(lines, dataset) for dataset in dict.fromkeys(line["dataset"] for line in lines)}
    if not any(found.values()):
        raise UserError(f"{folder / 'errors.jsonl'}: nothing there yet; `python q3_vae_m1/record.py` fills it")
    contents = {dataset: table(dataset, own) for dataset, own in found.items() if own}
    for dataset, content in contents.items():
        write(folder / f"table_{dataset}.json", as_json(content))
    entries = [entry for dataset in contents for entry in differences(dataset, found[dataset])]
    write(folder / "differences.json", as_json(entries))
    shown = {dataset: [row for row in content["rows"] if row["method"] in PICTURE[""]]
             for dataset, content in contents.items()}
    paper = {m: {n: v for n, v in zip(COUNTS, PAPER[m]) if v is not None} for m in PICTURE["paper"]}
    write(folder / "table.png", plots.table(shown, paper))
    tables = [table for dataset in contents for table in markdown.tables(folder, dataset)]
    print("\n".join(tables))
    for text in ("README.md", "EXPERIMENTS.md") if o.results_dir.resolve() == ROOT / "results" else ():
        path = ROOT / "q3_vae_m1" / text
        write(path, markdown.with_tables(path.read_text(encoding="utf-8"), tables))
    print(f"saved {folder / 'table.png'}")


if __name__ == "__main__":
    run_main(main)
