"""The classifiers on M1's features, and the files they ship in. Both end as one scikit-learn SVC, which classifies new images alone:

  svm           fitted on the posterior means of the N labelled images (the exercise's answer)
  transductive  fitted also on unlabelled images, whose labels the SVM and a nearest-neighbour graph found in turns (the paper's setting)
"""
import sys
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import scipy.sparse
import sklearn
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, euclidean_distances
from sklearn.neighbors import kneighbors_graph
from sklearn.svm import SVC

import store

CLASSIFIERS = ["svm", "transductive"]
# Chosen on the last 10,000 training images by tune.py (results/q3_validation_*.json). `width` is in units of the features' total spread;
# power 1 is the exponential kernel, power 2 the RBF kernel.
SVM = {
    ("fashion", "raw pixels"): {"power": 1.0, "width": 2.8, "C": 10.0},
    ("fashion", "PCA-50"): {"power": 1.0, "width": 2.8, "C": 10.0},
    ("fashion", "M1 (Bernoulli)"): {"power": 1.0, "width": 2.8, "C": 10.0},
    ("fashion", "M1"): {"power": 1.0, "width": 2.0, "C": 10.0},
    ("mnist", "raw pixels"): {"power": 2.0, "width": 1.0, "C": 10.0},
    ("mnist", "PCA-50"): {"power": 2.0, "width": 1.0, "C": 10.0},
    ("mnist", "M1 (Bernoulli)"): {"power": 1.0, "width": 2.0, "C": 10.0},
    ("mnist", "M1"): {"power": 2.0, "width": 1.0, "C": 10.0},
}
NEIGHBOURS = 10  # of each image in the graph
TRANSDUCTIVE = {
    "alpha": 0.95, "steps": 60,  # of the spreading, F <- alpha S F + (1 - alpha) Y
    "sharpness": 6.0,  # of the softmax that turns the SVM's decision values into soft labels
    "rounds": 2,  # SVM -> graph -> SVM
    "propagated": 4000, "weight": 0.3,  # images that join the labelled ones, and their weight beside a labelled one's 1
}
MANY_LABELS = 600
TRANSDUCTIVE_MANY = {  # where the labels say enough, the graph may only advise: Fashion-MNIST's classes overlap
    "fashion": {"alpha": 0.9, "steps": 30, "rounds": 1, "weight": 0.1}, "mnist": {},
}


def transductive_settings(dataset: str, n: int) -> dict:
    """What fit_transductive uses for `n` labels."""
    return {"svm": SVM[dataset, "M1"]} | TRANSDUCTIVE | (TRANSDUCTIVE_MANY[dataset] if n >= MANY_LABELS else {})


@dataclass(frozen=True)
class Kernel:
    """k(a, b) = exp(-(|a - b| / scale)^power), positive definite for 0 < power <= 2 (Rasmussen & Williams 2006, eq. 4.18):
    power 1 is the exponential kernel, power 2 the RBF kernel with gamma = 1 / scale^2."""

    power: float
    scale: float

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distance = euclidean_distances(a, b)
        distance /= self.scale
        if self.power != 1:
            np.power(distance, self.power, out=distance)
        return np.exp(np.negative(distance, out=distance), out=distance)


def spread_of(features: np.ndarray) -> float:
    """Root of the features' total variance: the length that makes one kernel width fit features of any scale."""
    return float(np.sqrt(features.var(0).sum()))


def fit_svm(features: np.ndarray, labels: np.ndarray, power: float, width: float, C: float, weights: np.ndarray | None = None) -> SVC:
    """An SVC on features (M, d) with labels (M,), one against one, the kernel scaled by the features' own spread."""
    return SVC(C=C, kernel=Kernel(power, width * spread_of(features))).fit(features, labels, sample_weight=weights)


def decisions(svm: SVC, features: np.ndarray, batch: int = 2000) -> np.ndarray:
    """Decision values (M, 10), in batches that keep the kernel matrix small."""
    return np.concatenate([svm.decision_function(features[i:i + batch]) for i in range(0, len(features), batch)])


def predict(svm: SVC, features: np.ndarray) -> np.ndarray:
    return svm.classes_[decisions(svm, features).argmax(1)]


def neighbour_graph(features: np.ndarray, neighbours: int = NEIGHBOURS) -> scipy.sparse.csr_matrix:
    """S = D^-1/2 W D^-1/2 of the symmetric k-nearest-neighbour graph: W_ij = exp(-4 d_ij^2 / d_i,k^2), with d_i,k the distance of
    image i to its k-th neighbour, so that dense and sparse regions spread alike. (M, d) -> (M, M) float32."""
    graph = kneighbors_graph(features, neighbours, mode="distance")  # sorted per row
    squared = np.square(graph.data.reshape(-1, neighbours))
    reach = squared.max(1, keepdims=True) + 1e-12
    graph.data = np.exp(-4 * squared / reach).astype(np.float32).ravel()
    graph = graph.maximum(graph.T).tocsr()
    scale = scipy.sparse.diags(1 / np.sqrt(np.asarray(graph.sum(1)).ravel()))
    return (scale @ graph @ scale).tocsr().astype(np.float32)


def spread(graph: scipy.sparse.csr_matrix, start: np.ndarray, alpha: float, steps: int) -> np.ndarray:
    """Learning with local and global consistency (Zhou et al. 2004): F <- alpha S F + (1 - alpha) Y from Y = `start` (M, classes)."""
    field = start
    for _ in range(steps):
        field = alpha * (graph @ field) + (1 - alpha) * start
    return field


def balanced(field: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Rows of class probabilities whose columns have (nearly) equal mass. Balanced classes are the one prior that is used."""
    for _ in range(rounds):
        field = field / (field.sum(1, keepdims=True) + 1e-12)
        field = field / (field.mean(0) * field.shape[1] + 1e-12)
    return field / (field.sum(1, keepdims=True) + 1e-12)


def fit_transductive(features: np.ndarray, drawn: np.ndarray, labels: np.ndarray, graph: scipy.sparse.csr_matrix, dataset: str, **changes) -> SVC:
    """SVM and graph in turns: the SVM's soft labels on all images, true ones clamped, are smoothed over the graph and balanced; the
    SVM is fitted again on the true labels at weight 1 and on `propagated` others, as many per class, at `weight` x confidence.

    features: (M, d) of all unlabelled and labelled images. drawn: (N,) rows that are labelled. labels: (N,) their classes.
    graph: of neighbour_graph(features). changes: other values for transductive_settings(dataset, N).
    """
    settings = transductive_settings(dataset, len(drawn)) | changes
    svm, weight, share = settings["svm"], settings["weight"], settings["propagated"] // len(np.unique(labels))
    classes = np.unique(labels)
    clamped = (labels[:, None] == classes).astype(np.float32)
    others = np.setdiff1d(np.arange(len(features)), drawn)
    machine = fit_svm(features[drawn], labels, **svm)
    for turn in range(settings["rounds"]):
        start = softmax(settings["sharpness"] * decisions(machine, features), axis=1).astype(np.float32)
        start[drawn] = clamped
        field = balanced(spread(graph, start, settings["alpha"], settings["steps"]))
        found, confidence = field.argmax(1), field.max(1)
        random = np.random.default_rng([len(drawn), turn])
        joined = np.concatenate([random.permutation(others[found[others] == c])[:share] for c in range(len(classes))])
        machine = fit_svm(np.concatenate([features[drawn], features[joined]]), np.concatenate([labels, classes[found[joined]]]), **svm,
                          weights=np.concatenate([np.ones(len(drawn)), weight * confidence[joined]]))
    return machine


def save(path: Path, machine: SVC, description: dict) -> None:
    store.ship(path, lambda partial: joblib.dump({"svm": machine, "sklearn": sklearn.__version__, **description}, partial, compress=3))


def describe(machine: SVC) -> str:
    kernel = machine.kernel
    name = {1.0: "exponential kernel", 2.0: "RBF kernel"}.get(kernel.power, f"kernel of power {kernel.power:g}")
    return f"SVM with {name}, C = {machine.C:g}, scale {kernel.scale:.2f}"


def report(machine: SVC, features: np.ndarray, labels: np.ndarray) -> dict:
    """Error in %, over all images and per class (% of the class), and the confusion matrix (rows: true, columns: predicted)."""
    found = predict(machine, features)
    matrix = confusion_matrix(labels, found, labels=range(10))
    per_class = 100 * (1 - np.diag(matrix) / np.maximum(1, matrix.sum(1)))
    return {"error": round(float(100 * (found != labels).mean()), 4), "images": len(labels),
            "error_per_class": [round(float(e), 2) for e in per_class], "confusion": matrix.tolist()}


def fail(error: Exception) -> int:
    """One line on stderr; the exit status of bad input."""
    print(f"error: {error}", file=sys.stderr)
    return 2
