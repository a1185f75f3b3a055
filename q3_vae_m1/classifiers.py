"""Classifiers on features, and their files. Both end as one SVC of scikit-learn, which needs no graph:

  svm                   fitted on the N labelled images (the exercise's answer)
  virtual               fitted also on distorted copies of these (deviation 9 of README.md)
  transductive          fitted also on unlabelled images, whose labels the SVM and label propagation find in turns (the
                        paper's setting; deviation 6 of README.md)
  transductive-virtual  both
"""

import copy
import io
import warnings
from dataclasses import dataclass

import joblib
import numpy as np
import scipy.sparse
import sklearn
import torch
from scipy.special import softmax
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.gaussian_process import kernels
from sklearn.metrics import confusion_matrix, euclidean_distances
from sklearn.neighbors import kneighbors_graph
from sklearn.svm import SVC

from . import vae
from .command import UserError
from .features import VAES, flat

COUNTS = (100, 600, 1000, 3000)  # of labels, as in the paper's Table 1
CLASSIFIERS = ("svm", "transductive", "virtual", "transductive-virtual")
# Kernels chosen on the validation images by tune.py (results/q3/kernel_search_*.json), for each data set and kind of
# features. width: in units of feature_scale.
WIDE = {"power": 1.0, "width": 2.8, "C": 10.0}
EXPONENTIAL = {"power": 1.0, "width": 2.0, "C": 10.0}
RBF = {"power": 2.0, "width": 1.0, "C": 10.0}
SVM = {"fashion": {"raw pixels": WIDE, "PCA-50": WIDE, "M1 (Bernoulli)": WIDE, "M1": EXPONENTIAL},
       "mnist": {"raw pixels": RBF, "PCA-50": RBF, "M1 (Bernoulli)": EXPONENTIAL, "M1": RBF}}
NEIGHBOURS = 10  # of each image in the graph
TRANSDUCTIVE = {
    "alpha": 0.95, "steps": 60,  # of label propagation, F <- alpha S F + (1 - alpha) Y
    "sharpness": 6.0,  # of the softmax that turns the SVM's decision values into soft labels
    "rounds": 2,  # SVM -> graph -> SVM
    "propagated": 4000, "weight": 0.3,  # images that join the labelled ones, and their weight beside a labelled one's 1
}
MANY_LABELS = {"alpha": 0.9, "steps": 30, "rounds": 1, "weight": 0.1}  # on Fashion-MNIST from 600 labels on
# Virtual examples [9] with fewer than 600 labels, and from 600 on; None: no gain (tune.py virtual). C is that of the
# SVM; the transductive classifier has M1's copies and keeps its own C.
VIRTUAL = {
    "fashion": {
        "raw pixels": (None, {"strength": 0.5, "copies": 9, "C": 10.0}),
        "M1": ({"strength": 0.5, "copies": 9, "C": 1.0}, {"strength": 0.25, "copies": 9, "C": 10.0}),
        "transductive": ({"strength": 0.5, "copies": 9, "C": 1.0}, {"strength": 0.25, "copies": 9, "C": 10.0})},
    "mnist": {
        "raw pixels": ({"strength": 1.0, "copies": 29, "C": 10.0}, {"strength": 1.0, "copies": 9, "C": 10.0}),
        "M1": ({"strength": 2.0, "copies": 29, "C": 1.0}, {"strength": 2.0, "copies": 9, "C": 1.0}),
        "transductive": (None, None)}}
MOST = 10_000  # points that an SVM is fitted on: with 3,000 labels two copies of each


def svm_settings(dataset, features="M1"):
    return SVM[vae.kind(dataset)][features]


def transductive_settings(dataset, n, features="M1"):
    """Of fit_transductive with `n` labels. With many, the graph may only advise where classes overlap."""
    many = MANY_LABELS if n >= 600 and vae.kind(dataset) == "fashion" else {}
    return {"svm": svm_settings(dataset, features)} | TRANSDUCTIVE | many


def virtual_settings(classifier, dataset, n, features="M1"):
    """Strength, copies and C with `n` labels; None for none. Both of M1's likelihoods have the Gaussian model's."""
    if "virtual" not in classifier:
        return None
    name = "transductive" if classifier.startswith("transductive") else "M1" if features in VAES else features
    return VIRTUAL[vae.kind(dataset)][name][n >= 600]


def labelled_draw(labels, n, seed):
    """Rows of `n` labelled images, equally many of each class, in increasing order. Raises UserError if there are none.

    labels: int64 tensor (M,), of the images to draw from. The draw depends on these, `seed` and `n` alone.
    """
    classes, counts = np.unique(labels, return_counts=True)
    each, rest = divmod(n, len(classes))
    if rest or each > counts.min():
        raise UserError(f"--labels {n}: must be a multiple of {len(classes)}, for as many of each class, and at most "
                        f"{len(classes) * counts.min()}")
    generator = np.random.default_rng([seed, n])
    return np.sort(np.concatenate([generator.choice(np.flatnonzero(labels == c), each, replace=False)
                                   for c in classes]))


def default_counts(labels):
    """The paper's label counts as far as the images go, or the most that they allow."""
    classes, counts = np.unique(labels, return_counts=True)
    most = len(classes) * int(counts.min())
    return [n for n in COUNTS if n <= most and n % len(classes) == 0] or [most]


# ---- the SVM -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Kernel:
    """k(a, b) = exp(-(|a - b| / scale)^power): power 1 is the exponential kernel, power 2 the RBF kernel (Rasmussen &
    Williams 2006, eq. 4.18). Several times as fast as scikit-learn's Matern."""

    power: float
    scale: float

    def __call__(self, a, b):
        distance = euclidean_distances(a, b)
        distance /= self.scale
        if self.power != 1:
            np.power(distance, self.power, out=distance)
        return np.exp(np.negative(distance, out=distance), out=distance)

    def of_sklearn(self):
        """The same kernel as scikit-learn has it, so that a file can be loaded without this repository."""
        return kernels.Matern(self.scale, nu=0.5) if self.power == 1 else kernels.RBF(self.scale / 2**0.5)


def feature_scale(features):
    """Root of the features' total variance: the length that makes one kernel width fit features of any scale."""
    return float(np.sqrt(features.var(0).sum())) or 1.0  # of identical images


def fit_svm(features, labels, power, width, C, weights=None, scale=None):
    """An SVC, one against one, on features (M, d) with labels (M,). scale: of `width`, if not that of the features."""
    kernel = Kernel(power, width * (scale or feature_scale(features)))
    return SVC(C=C, kernel=kernel).fit(features, labels, sample_weight=weights)


def decisions(svm, features, batch=1000):
    """Decision values (M, classes): one vote for each class beaten, and less than half a vote of confidence."""
    found = np.concatenate([svm.decision_function(features[i:i + batch]) for i in range(0, len(features), batch)])
    return np.stack([-found, found], 1) if found.ndim == 1 else found  # of two classes scikit-learn gives one column


def predict(svm, features):
    return svm.classes_[decisions(svm, features).argmax(1)]


def virtual_examples(images, labels, encode, seed, strength, copies):
    """Virtual examples (DeCoste & Schoelkopf 2002): features and labels of `copies` distorted copies of each image.

    images: (N, 28, 28). labels: (N,). encode: of features.encoder. seed: of the label draw.
    """
    copies = max(0, min(copies, MOST // len(images) - 1))
    x, random = flat(images), torch.Generator().manual_seed(seed)
    made = [encode(vae.distorted(x, strength, random)) for _ in range(copies)]
    return np.concatenate([encode(x)[:0], *made]), np.tile(labels, copies)


# ---- the transductive classifier -----------------------------------------------------------------

def neighbour_graph(features, neighbours=NEIGHBOURS):
    """S = D^-1/2 W D^-1/2 of the symmetric k-nearest-neighbour graph: (M, d) -> sparse (M, M) float32.

    W_ij = exp(-4 d_ij^2 / d_i,k^2), with d_i,k the distance of image i to its k-th neighbour: dense and sparse regions
    propagate alike.
    """
    neighbours = min(neighbours, len(features) - 1)
    graph = kneighbors_graph(features, neighbours, mode="distance")  # sorted per row
    squared = np.square(graph.data.reshape(-1, neighbours))
    reach = squared.max(1, keepdims=True) + 1e-12
    graph.data = np.exp(-4 * squared / reach).astype(np.float32).ravel()
    graph = graph.maximum(graph.T).tocsr()
    scale = scipy.sparse.diags(1 / np.sqrt(np.asarray(graph.sum(1)).ravel()))
    return (scale @ graph @ scale).tocsr().astype(np.float32)


def propagate(graph, start, alpha, steps):
    """Label propagation (Zhou et al. 2004): F <- alpha S F + (1 - alpha) Y from Y = `start` (M, classes)."""
    field = start
    for _ in range(steps):
        field = alpha * (graph @ field) + (1 - alpha) * start
    return field


def balanced(field, rounds=3):
    """Rows of class probabilities whose columns have nearly equal mass: the one prior that is used."""
    for _ in range(rounds):
        field = field / (field.sum(1, keepdims=True) + 1e-12)
        field = field / (field.mean(0) * field.shape[1] + 1e-12)
    return field / (field.sum(1, keepdims=True) + 1e-12)


def fit_transductive(features, drawn, labels, graph, chosen, virtual=None):
    """SVM and label propagation in turns, as README.md tells step by step; returns the last SVC.

    features: (M, d) of all images. drawn: (N,) rows that are labelled. labels: (N,) their classes. graph: of
    neighbour_graph(features). chosen: of transductive_settings. virtual: of virtual_examples, for the last SVM.
    """
    svm, classes = chosen["svm"], np.unique(labels)
    per_class = chosen["propagated"] // len(classes)
    clamped = (labels[:, None] == classes).astype(np.float32)
    others = np.setdiff1d(np.arange(len(features)), drawn)
    fitted = fit_svm(features[drawn], labels, **svm)
    for turn in range(chosen["rounds"]):
        start = softmax(chosen["sharpness"] * decisions(fitted, features), axis=1).astype(np.float32)
        start[drawn] = clamped
        field = balanced(propagate(graph, start, chosen["alpha"], chosen["steps"]))
        found, confidence = field.argmax(1), field.max(1)
        random = np.random.default_rng([len(drawn), turn])
        joined = np.concatenate([random.permutation(others[found[others] == c])[:per_class]
                                 for c in range(len(classes))])
        weights = np.concatenate([np.ones(len(drawn)), chosen["weight"] * confidence[joined]])
        points, given = [features[drawn], features[joined]], [labels, classes[found[joined]]]
        if virtual and turn == chosen["rounds"] - 1:
            points, given = [*points, virtual[0]], [*given, virtual[1]]
            weights = np.concatenate([weights, np.ones(len(virtual[1]))])
        fitted = fit_svm(np.concatenate(points), np.concatenate(given), **svm, weights=weights)
    return fitted


def fit(classifier, dataset, name, features, rows, labels, graph=None, copies=None):
    """The SVC of a classifier with the settings chosen for a data set and the features of that name.

    classifier: of CLASSIFIERS, or "default": scikit-learn's SVC() as it comes, with gamma "scale" and C 1. features:
    (M, d) of all training images. rows: (N,) that are labelled. labels: (M,), of which only those of `rows` are read.
    graph: of neighbour_graph(features), for transductive ones. copies: (strength, copies) -> virtual_examples of the
    labelled images, for virtual ones.
    """
    points, given = features[rows], labels[rows]
    if classifier == "default":
        gamma = 1 / (points.shape[1] * points.var(dtype=float))  # what scikit-learn calls "scale"
        return SVC(C=1.0, kernel=Kernel(2.0, gamma**-0.5)).fit(points, given)
    chosen = virtual_settings(classifier, dataset, len(rows), name)
    examples = chosen and copies(chosen["strength"], chosen["copies"])
    if classifier.startswith("transductive"):
        settings = transductive_settings(dataset, len(rows), name)
        return fit_transductive(features, rows, given, graph, settings, examples)
    settings = svm_settings(dataset, name)
    if examples:
        settings = settings | {"C": chosen["C"], "scale": feature_scale(points)}  # that of the labelled images
        points, given = np.concatenate([points, examples[0]]), np.concatenate([given, examples[1]])
    return fit_svm(points, given, **settings)


# ---- reports and files ---------------------------------------------------------------------------

def report(svm, features, labels):
    """Test error in %, of all images and per class (None without images), and the confusion matrix (rows: true)."""
    found = predict(svm, features)
    matrix = confusion_matrix(labels, found, labels=range(10))
    per_class = [round(float(100 * (1 - matrix[c, c] / total)), 2) if total else None
                 for c, total in enumerate(matrix.sum(1))]
    return {"error": round(float(100 * (found != labels).mean()), 4), "images": len(labels),
            "error_per_class": per_class, "confusion": matrix.tolist()}


def describe(svm, classifier):
    power = "" if svm.kernel.power == 1 else f"^{svm.kernel.power:g}"
    return f"{classifier.replace('svm', 'SVM')}, kernel exp(-(|a - b| / {svm.kernel.scale:.2f}){power}), C = {svm.C:g}"


def as_bytes(svm, description):
    """The file of a classifier: the SVC, with the kernel as scikit-learn has it."""
    kept, buffer = copy.copy(svm), io.BytesIO()
    kept.kernel = svm.kernel.of_sklearn()
    content = {"svm": kept, "power": svm.kernel.power, "scale": svm.kernel.scale, "sklearn": sklearn.__version__}
    joblib.dump(content | description, buffer, compress=3)
    return buffer.getvalue()


def load(path):
    """The SVC of a file. It is unpickled, which can run code that a stranger put there. Raises UserError."""
    data = path.read_bytes()
    try:
        with warnings.catch_warnings():  # of another scikit-learn: the tests load what ships with the oldest, too
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            content = joblib.load(io.BytesIO(data))
        content["svm"].kernel = Kernel(content["power"], content["scale"])
        return content["svm"]
    except Exception:  # unpickling a foreign file can raise anything
        raise UserError(f"{path}: damaged, or no classifier of train.py") from None
