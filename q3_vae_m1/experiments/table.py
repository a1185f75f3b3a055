"""The tables of question 3, from the record that record.py fills: mean test errors in %, how they vary, differences.

Writes table_DATASET.json, differences.json (paired, with 95 % intervals: intervals.py) and table.png into --out, and
prints all tables in Markdown, as the READMEs have them. Takes seconds. A row has the trainings of its VAE that have all
draws so far.
"""

import itertools
import re
import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, images
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import ROOT, Parser, as_json, path, read_json, run_main, shown, write
from q3_vae_m1.experiments import DATASETS, RECORD, intervals, plots, record_lines, varied
from q3_vae_m1.features import NAMES

# Table 1 of Kingma et al. 2014: test error in % on MNIST, mean and standard deviation where given.
PAPER = {
    "NN": [25.81, 11.44, 10.7, 6.04], "CNN": [22.98, 7.68, 6.45, 3.35], "TSVM": [16.81, 6.16, 5.38, 3.45],
    "CAE": [13.47, 6.3, 4.77, 3.22], "MTC": [12.03, 5.13, 3.64, 2.57], "AtlasRBF": [8.10, None, 3.68, None],
    "M1+TSVM": [11.82, 5.72, 4.24, 3.49], "M2": [11.97, 4.94, 3.60, 3.92], "M1+M2": [3.33, 2.59, 2.40, 2.18],
}
PAPER_STD = {"AtlasRBF": [0.95, None, 0.12, None], "M1+TSVM": [0.25, 0.049, 0.07, 0.04], "M2": [1.71, 0.13, 0.56, 0.63],
             "M1+M2": [0.14, 0.05, 0.02, 0.04]}
FITS = {"svm": "SVM", "virtual": "SVM, virtual examples", "transductive": "transductive",
        "transductive-virtual": "transductive, virtual examples", "default": "default SVM"}
MAIN = [f"{features}+{fit}" for fit in FITS.values() for features in NAMES]  # the others are ablations
DRAWN = ("raw pixels+SVM", "M1 (Bernoulli)+SVM", "M1+SVM", "M1 (Bernoulli)+transductive", "M1+transductive")
DRAWN_OF_PAPER = ("M1+TSVM", "M2", "M1+M2")
PAIRS = [(f"{a}+{fit}", f"{b}+{fit}") for fit in ("SVM", "transductive") for a, b in (
    ("M1", "raw pixels"), ("M1", "PCA-50"), ("M1 (Bernoulli)", "raw pixels"), ("M1", "M1 (Bernoulli)"))]
PAIRS += [("M1+SVM, virtual examples", "M1+SVM"), ("raw pixels+SVM, virtual examples", "raw pixels+SVM"),
          ("M1+SVM, virtual examples", "raw pixels+SVM, virtual examples"), ("M1+transductive", "M1+SVM"),
          ("M1+transductive, virtual examples", "M1+transductive"),
          ("M1+default SVM", "raw pixels+default SVM")]
EXAMPLES = """examples:
  python q3_vae_m1/experiments/table.py
  python q3_vae_m1/experiments/table.py --out results/q3     as the maintainer does after record.py --out results/q3"""


# ---- from the record to the results --------------------------------------------------------------

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
    ablations = [method.split("+") for method in found if method not in MAIN]
    pairs = PAIRS + [(f"{features}+{fit}", f"{varied(features)}+{fit}") for features, fit in ablations]
    entries = []
    for (a, b), n in itertools.product([pair for pair in pairs if set(pair) <= found.keys()], COUNTS):
        d = intervals.paired(found[a][n], found[b][n])
        if d.size and d.shape[1] > 1:
            mean, low, high = (round(value, 3) for value in intervals.interval(d))
            entries.append({"dataset": dataset, "labels": n, "a": a, "b": b, "difference": mean, "low": low,
                            "high": high, "n": d.shape[1], "trainings": d.shape[0]})
    return entries


# ---- from the results to Markdown ----------------------------------------------------------------

def markdown(content, entries):
    """All tables of a data set, the searches of tune.py among them. content: of `table`. entries: of `differences`."""
    title = images.title(content["dataset"])
    paper = [row | {"method": f"paper: {row['method']}"} for row in content.get("paper", ())]
    own, others = ([e for e in entries if (e["a"] in MAIN) == wanted] for wanted in (True, False))
    searches = {}
    for what in ("vae", "transductive", "virtual", "graph"):
        record = RECORD.parent / f"{what}_search_{content['dataset']}.json"
        searches[what] = read_json(record) if record.exists() else {"rows": ()}
    found = [
        rows_of([f"{title}: test error in %", "trainings"], error_cells(content["rows"] + paper)),
        rows_of([f"{title}: difference in points"], difference_cells(own)),
        rows_of([f"{title}: ablations, test error in %", "trainings"], error_cells(content["ablations"])),
        rows_of([f"{title}: ablations, difference in points"], difference_cells(others)),
        rows_of([f"{title}: likelihood", "KL weight", "distortion", "active latents", "kernel"], (
            [s["likelihood"], f"{s['kl_weight']:g}", f"{s['distort']:g}", f"{row['active_latents']} of 50",
             "exponential" if row["power"] == 1 else "RBF", *searched(row)]
            for row in searches["vae"]["rows"] for s in [row["settings"]])),
        rows_of([f"{title}: alpha, steps", "rounds", "weight", "sharpness"], (
            [f"{s['alpha']:g}, {s['steps']}", s["rounds"], f"{s['weight']:g}", f"{s['sharpness']:g}", *searched(row)]
            for row in searches["transductive"]["rows"] for s in [classifiers.TRANSDUCTIVE | row["change"]])),
        rows_of([f"{title}: virtual examples for", "strength", "copies", "C"], virtual_cells(**searches["virtual"])),
        rows_of([f"{title}: graph of"], ([row["graph"], *searched(row)] for row in searches["graph"]["rows"])),
    ]
    return [made for made in found if made.count("\n") > 2]


def virtual_cells(rows, chosen=None, **_):
    """Of the search for virtual examples: the plain SVM, every strength with 9 copies and C 10, and what was chosen."""
    for row in rows:
        if row["classifier"] == "transductive":
            yield ["M1 (ours)+transductive", *["as chosen" if row["examples"] else "none"] * 3, *searched(row)]
            continue
        setting = {key: row[key] for key in ("strength", "copies", "C")}
        if (row["copies"], row["C"]) in ((0, 10), (9, 10)) or setting in chosen[row["features"]]:
            yield [named(f"{row['features']}+SVM"), *(f"{value:g}" for value in setting.values()), *searched(row)]


def rows_of(head, rows):
    """Columns of `head`, then one for each label count."""
    lines = [[*head, *COUNTS], ["---"] * (len(head) + len(COUNTS)), *rows]
    return "".join("| " + " | ".join(map(str, cells)) + " |\n" for cells in lines)


def two_digits(value):
    """Halves up, as the report rounds."""
    return str(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def named(method):
    """A method as the texts call it: M1 is ours, and the Bernoulli model has the paper's likelihood."""
    return re.sub("^M1(?! [(])", "M1 (ours)", method).replace("(Bernoulli)", "(paper's likelihood)")


def searched(row):
    """Cells of tune.py's validation errors."""
    return [two_digits(row["errors"][str(n)]) if str(n) in row["errors"] else "–" for n in COUNTS]


def error_cells(rows):
    """For every method: mean ± standard deviation over the draws (over the trainings)."""
    for method, own in itertools.groupby(rows, lambda row: row["method"]):
        cells = dict.fromkeys(COUNTS, "–")
        for row in own:
            forms = {"{}": row["error_mean"], " ± {}": row["error_std"], " ({})": row.get("training_std")}
            cells[row["labels"]] = "".join(form.format(two_digits(v)) for form, v in forms.items() if v is not None)
        yield [named(method), row.get("trainings") or "", *cells.values()]


def difference_cells(entries):
    """For every pair a - b: the mean and its 95 % interval."""
    by_pair = {}
    for e in entries:
        mean, low, high = (f"{Decimal(two_digits(e[key])):+}" for key in ("difference", "low", "high"))
        by_pair.setdefault((e["a"], e["b"]), []).append(f"{mean} [{low}, {high}]".replace("-", "−"))
    return [[f"{named(a)} − {named(b)}", *cells] for (a, b), cells in by_pair.items()]


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--out", type=path, default=ROOT / "results/runs/q3_record", metavar="FOLDER",
                        help="that of record.py (default: results/runs/q3_record)")
    o = parser.parse_args()
    lines, entries, drawn = record_lines(o.out), [], {}
    for dataset in DATASETS:
        found = methods(lines, dataset)
        content, own = table(dataset, found), differences(dataset, found)
        write(o.out / f"table_{dataset}.json", as_json(content))
        entries += own
        drawn[dataset] = [row | {"method": named(row["method"])} for row in content["rows"] if row["method"] in DRAWN]
        print("\n".join(markdown(content, own)))
    write(o.out / "differences.json", as_json(entries))
    paper = {method: dict(zip(COUNTS, PAPER[method])) for method in DRAWN_OF_PAPER}
    write(o.out / "table.png", plots.table(drawn, paper), sync=False)
    print(f"saved table_*.json, differences.json and table.png in {shown(o.out)}")


if __name__ == "__main__":
    run_main(main)
