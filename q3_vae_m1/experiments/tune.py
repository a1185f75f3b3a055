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
from pathlib import Path

import numpy as np
from scipy.stats import gmean
from sklearn.metrics import euclidean_distances
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from tqdm.contrib.concurrent import thread_map

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, vae
from q3_vae_m1.classifiers import COUNTS
from q3_vae_m1.command import (
    ROOT,
    Parser,
    UserError,
    add_folders,
    as_json,
    number,
    path,
    positive,
    read_json,
    run_main,
    write,
)
from q3_vae_m1.experiments import DATASETS, network
from q3_vae_m1.features import NAMES, VAES, encoder

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
STRENGTHS = {"fashion": (0.1, 0.25, 0.5, 1.0), "mnist": (0.5, 1.0, 2.0, 3.0)}  # of virtual examples
EXAMPLES = """examples:
  python q3_vae_m1/experiments/tune.py kernel
  python q3_vae_m1/experiments/tune.py transductive --draws 2 --out results/q3"""


class Search:
    """The rows of a search on one data set, in their file. Those that are there are not made again."""

    def __init__(self, dataset, o):
        self.dataset, self.o, self.data = dataset, o, images.load(dataset, o.data_dir)
        self.labels, self.truth = self.data.train_labels.numpy(), self.data.validation_labels.numpy()
        self.drawn = [(n, seed, classifiers.labelled_draw(self.data.train_labels, n, seed))
                      for n in COUNTS for seed in range(100, 100 + o.draws)]
        self.path = o.out / f"{o.what}_search_{dataset}.json"
        self.head = {"dataset": dataset, "draws": o.draws, "validation_images": len(self.truth)}
        before = read_json(self.path) if self.path.exists() else {}
        if before and not self.head.items() <= before.items():
            raise UserError(f"{self.path}: the search there has {before.get('draws')} label draws and "
                            f"{before.get('validation_images')} validation images; give its --draws, or another --out")
        self.rows = before.get("rows", [])

    def lacks(self, told):
        return not any(told.items() <= row.items() for row in self.rows)

    def write(self, *rows):
        self.rows += rows
        write(self.path, as_json(self.head | {"rows": self.rows}))

    def measure(self, errors_of, title, by_draw=False):
        """A row for each setting that `errors_of(n, seed, rows)`, of a label draw, has the error in % of.

        errors: means over the draws by label count. score: their geometric mean; a tenth less error counts the same at
        100 labels as at 3000.
        """
        with threadpool_limits(1):  # NumPy and libsvm let go of the interpreter
            draws = thread_map(errors_of, *zip(*self.drawn), max_workers=self.o.jobs, desc=f"{self.dataset}, {title}")
        for setting in draws[0]:
            errors = {str(count): [round(float(draw[setting]), 4) for (n, _, _), draw in zip(self.drawn, draws)
                                   if n == count and setting in draw] for count in COUNTS}
            errors = {n: values for n, values in errors.items() if values}
            means = {n: np.mean(values) for n, values in errors.items()}
            yield {**dict(setting), "errors": {n: round(float(mean), 3) for n, mean in means.items()},
                   "score": round(float(gmean([*means.values()])), 4)} | ({"by_draw": errors} if by_draw else {})

    def measure_one(self, fit, encode, title, by_draw=False):
        """The row of a classifier, `fit(n, seed, rows)`, which sees what `encode` makes of images."""
        validation = encode(self.data.validation)

        def errors_of(*draw):
            return {(): 100 * (classifiers.predict(fit(*draw), validation) != self.truth).mean()}
        return next(self.measure(errors_of, title, by_draw))

    def kernels(self, encode, grid):
        """The errors_of, for `measure`, of every kernel in a grid. Distances are computed once for all."""
        everything, validation = encode(self.data.train), encode(self.data.validation)

        def errors_of(n, seed, rows):
            train, found = everything[rows], {}
            scale = classifiers.feature_scale(train)
            own, other = euclidean_distances(train) / scale, euclidean_distances(validation, train) / scale
            for power, width, C in itertools.product(*grid.values()):
                svm = SVC(C=C, kernel="precomputed").fit(np.exp(-(own / width) ** power), self.labels[rows])
                predicted = svm.predict(np.exp(-(other / width) ** power))
                found[("power", power), ("width", width), ("C", C)] = 100 * (predicted != self.truth).mean()
            return found
        return errors_of

    def encoder(self, features):
        """The map from images to features of that name; with the VAE that ships, or for a set without one its like."""
        if features not in VAES:
            return encoder(features, self.data.train)
        chosen = vae.settings(self.dataset, VAES[features])
        name = f"q3_tune_{self.dataset}_{VAES[features]}"
        return encoder(features, self.data.train, network(chosen, self.data, name, self.o)[0])


def kernel(search):
    for features in NAMES:
        if search.lacks({"features": features}):
            errors_of = search.kernels(search.encoder(features), GRID)
            search.write(*({"features": features, **row} for row in search.measure(errors_of, features)))
    best = {row["features"]: row for row in sorted(search.rows, key=lambda row: -row["score"])}
    search.head["chosen"] = {features: {key: best[features][key] for key in GRID} for features in NAMES}
    search.write()


def vae_settings(search):
    """Short trainings; each gets the better of the exponential and the RBF kernel, at width 1 and C 10."""
    for i, change in enumerate(MODELS[vae.kind(search.dataset)]):
        chosen = vae.settings(search.dataset, **{"epochs": search.o.epochs, "kl_weight": 1.0, "distort": 0.0} | change)
        told = {"settings": {key: chosen[key] for key in ("likelihood", "epochs", "kl_weight", "distort")}}
        if search.lacks(told):
            name = f"q3_tune_vae_{search.dataset}_epochs{chosen['epochs']}_{i}"
            model, trained = network(chosen, search.data, name, search.o)
            errors_of = search.kernels(encoder("M1", model=model), GRID | {"width": [1.0], "C": [10.0]})
            best = min(search.measure(errors_of, f"VAE {i}"), key=lambda row: row["score"])
            search.write({**told, "active_latents": trained["last_epoch"]["active_latents"], **best})


def transductive(search):
    encode = search.encoder("M1")
    features = encode(search.data.train)
    graph = classifiers.neighbour_graph(features)
    for change in TRANSDUCTIVE:
        def fit(n, seed, rows):
            chosen = classifiers.transductive_settings(search.dataset, n) | change
            return classifiers.fit_transductive(features, rows, search.labels[rows], graph, chosen)
        if search.lacks({"change": change}):
            search.write({"change": change, **search.measure_one(fit, encode, change)})


def virtual(search):
    """Of the SVM, rows by which `best_virtual` chooses; then the transductive classifier without and with it."""
    encoders = {name: search.encoder(name) for name in ("M1", "raw pixels")}
    spaces = {name: encode(search.data.train) for name, encode in encoders.items()}
    search.head["chosen"] = {}
    for name, encode in encoders.items():
        own, validation = classifiers.svm_settings(search.dataset, name), encode(search.data.validation)

        def errors_of(n, seed, rows):
            features, labels, found = spaces[name][rows], search.labels[rows], {}
            kernel = classifiers.Kernel(own["power"], own["width"] * classifiers.feature_scale(features))
            many = 29 if n < 600 else 9
            for strength in STRENGTHS[vae.kind(search.dataset)]:
                more, again = classifiers.virtual_examples(search.data.train[rows], labels, encode, seed, strength,
                                                           many)
                points, given = np.concatenate([features, more]), np.concatenate([labels, again])
                within, across = kernel(points, points), kernel(validation, points)
                for copies, C in itertools.product(sorted({9, many}), [1.0, 10.0]):
                    k = n * (1 + copies)
                    svm = SVC(C=C, kernel="precomputed").fit(within[:k, :k], given[:k])
                    wrong = svm.predict(across[:, :k]) != search.truth
                    found[("strength", strength), ("copies", copies), ("C", C)] = 100 * wrong.mean()
            svm = SVC(C=own["C"], kernel="precomputed").fit(within[:n, :n], labels)
            wrong = svm.predict(across[:, :n]) != search.truth
            found[("strength", 0.0), ("copies", 0), ("C", own["C"])] = 100 * wrong.mean()
            return found
        if search.lacks({"classifier": "SVM", "features": name}):
            made = search.measure(errors_of, f"SVM, {name}", by_draw=True)
            search.write(*({"classifier": "SVM", "features": name, **row} for row in made))
        search.head["chosen"][name] = best_virtual(search.rows, name)
        search.write()

    if not any(search.head["chosen"]["M1"]):
        return
    graph, encode = classifiers.neighbour_graph(spaces["M1"]), encoders["M1"]
    for examples in (None, search.head["chosen"]["M1"]):
        def fit(n, seed, rows):
            labels, used, made = search.labels[rows], examples and examples[n >= 600], None
            if used:
                made = classifiers.virtual_examples(search.data.train[rows], labels, encode, seed, used["strength"],
                                                    used["copies"])
            settings = classifiers.transductive_settings(search.dataset, n)
            return classifiers.fit_transductive(spaces["M1"], rows, labels, graph, settings, made)
        told = {"classifier": "transductive", "features": "M1", "examples": examples}
        if search.lacks(told):
            search.write(told | search.measure_one(fit, encode, f"transductive, {examples}", by_draw=True))
    search.head["chosen"]["transductive"] = best_virtual(search.rows, "M1", "transductive")
    search.write()


def best_virtual(rows, features, classifier="SVM"):
    """[with fewer than 600 labels, from 600 on]: the setting of virtual examples with the fewest errors, or None where
    it gains no more over none than two standard errors of the difference over the label draws."""
    chosen = []
    for few in (True, False):
        counts = [str(n) for n in COUNTS if (n < 600) == few]
        tried = [row for row in rows if row["classifier"] == classifier and row["features"] == features
                 and counts and row["by_draw"].keys() >= set(counts)]
        if not tried:
            chosen.append(None)
            continue
        settings = [(row["examples"] or [None, None])[not few] if "examples" in row else
                    {key: row[key] for key in ("strength", "copies", "C")} if row["copies"] else None for row in tried]
        # one image of 10,000 is the least error that a logarithm sees
        logs = [np.log(np.maximum([row["by_draw"][n] for n in counts], 0.01)).mean(0) for row in tried]
        best = min(range(len(tried)), key=lambda i: logs[i].mean())
        gained = logs[settings.index(None)] - logs[best]
        enough = len(gained) > 1 and gained.mean() > 2 * gained.std(ddof=1) / len(gained)**0.5
        chosen.append(settings[best] if enough else None)
    return chosen


SEARCHES = {"kernel": kernel, "transductive": transductive, "vae": vae_settings, "virtual": virtual}


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
        search = Search(dataset, o)
        SEARCHES[o.what](search)
        for row in search.rows:
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ")
        print(f"saved {search.path}")


if __name__ == "__main__":
    run_main(main)
