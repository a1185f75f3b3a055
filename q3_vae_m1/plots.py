"""Pictures of question 3, as the bytes of PNG files. Their fonts are meant for a page 6.5 inches wide."""

import io
import os

os.environ["MPLBACKEND"] = "agg"  # a notebook's backend, inherited, would end a script
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection
from sklearn.manifold import TSNE
from sklearn.metrics import ConfusionMatrixDisplay

from .features import posterior_means
from .images import class_names, title

COLOURS = plt.get_cmap("tab10").colors
WIDTH = 6.5  # inches
plt.rcParams.update({"font.size": 8, "axes.titlesize": 9, "figure.titlesize": 10, "savefig.dpi": 200})


def png(figure):
    """The figure's bytes; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def t_sne(features):
    """(n, 2): the t-SNE map of features (n, 50); about ten seconds for n = 2,000."""
    return TSNE(2, perplexity=min(30, len(features) / 4), init="pca", random_state=0, n_jobs=-1).fit_transform(features)


# ---- the VAE -------------------------------------------------------------------------------------

def loss(settings, history):
    """J = -ELBO and its KL term against epochs. history: the rows of metrics.csv."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.6), layout="constrained")
    shown = history[1:] if len(history) > 5 else history  # the first epoch would set the scale
    epochs = [row["epoch"] for row in shown]
    distorted = ", encoder sees them distorted" if settings["distort"] else ""
    left.plot(epochs, [-row["elbo"] for row in shown], label=f"training images{distorted}")
    left.plot(epochs, [-row["validation_elbo"] for row in shown], label="validation images")
    left.set(xlabel="epoch", ylabel="loss J = -ELBO [nats per image]")
    left.legend()
    right.plot(epochs, [row["kl"] for row in shown], color="C2")
    right.set(xlabel="epoch", ylabel="KL(q(z|x) || p(z)) [nats per image]")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.suptitle(f"M1 on {title(settings['dataset'])}: {settings['likelihood'].title()} likelihood, "
                    f"KL weight {settings['kl_weight']:g}")
    return png(figure)


def tiles(rows, heading, labels=None):
    """Rows of images (n, 784) in [0, 1] as one grey picture. labels: what each row is."""
    picture = torch.cat([torch.cat(list(row.view(-1, 28, 28)), dim=1) for row in rows]).numpy()
    height = WIDTH * picture.shape[0] / picture.shape[1] + 0.3
    figure, axis = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(heading)
    axis.set_xticks([])
    axis.set_yticks([28 * i + 14 for i in range(len(rows))] if labels else [], labels or [])
    axis.tick_params(length=0)
    return png(figure)


@torch.no_grad()
def decode(model, z):
    """The mean of p(x|z) for z (n, 50): (n, 784) in [0, 1]."""
    return torch.sigmoid(model.decode(z.to(next(model.parameters()).device))).cpu()


def reconstructions(model, images, dataset):
    """Two validation images per class and what the decoder makes of their posterior means."""
    chosen = torch.cat([torch.nonzero(images.validation_labels == c)[:2, 0] for c in range(10)])
    x = images.validation[chosen[:len(chosen) // 2 * 2]]
    rebuilt, x = decode(model, torch.from_numpy(posterior_means(model, x))), x.flatten(1) / 255
    return tiles([x[::2], rebuilt[::2], x[1::2], rebuilt[1::2]], f"{title(dataset)}: validation images and their "
                 "reconstructions from the posterior mean", ["image", "decoded"] * 2)


def samples(model, dataset):
    """80 decoded samples of the prior."""
    z = torch.randn(80, model.sizes["latent"], generator=torch.Generator().manual_seed(0))
    heading = f"{title(dataset)}, {model.likelihood.title()} likelihood: 80 decoded samples of the prior N(0, I)"
    return tiles(decode(model, z).split(16), heading)


def latent(model, images, dataset):
    """A t-SNE map of the posterior means of validation images."""
    count = min(2000, len(images.validation))
    places, labels = t_sne(posterior_means(model, images.validation[:count])), images.validation_labels[:count]
    figure, axis = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
    for c, name in enumerate(class_names(dataset)):
        axis.scatter(*places[labels == c].T, s=5, color=COLOURS[c], label=name)
    axis.legend(markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(xticks=[], yticks=[], title=f"{title(dataset)}: posterior means of {count:,} validation images (t-SNE)")
    return png(figure)


# ---- classifiers ---------------------------------------------------------------------------------

def latent_map(places, drawn, labels, edges, decisions, dataset):
    """The labelled images among others, and which classes the classifiers give them.

    places: (n, 2), the `drawn` labelled images first; labels: (n,); edges: (m, 2) pairs of rows; decisions: {title:
    classes (n,)}.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13, 5), layout="constrained")
    axes[0].add_collection(LineCollection(places[edges], colors="0.75", linewidths=0.4))
    axes[0].scatter(*places[drawn:].T, s=2, color="0.5")
    axes[0].set_title(f"{drawn} labelled images and the neighbour graph\nof the {len(places):,} images shown")
    for c, name in enumerate(class_names(dataset)):
        own = places[:drawn][labels[:drawn] == c]
        axes[0].scatter(*own.T, s=40, color=COLOURS[c], edgecolor="black", linewidths=0.6, label=name, zorder=3)
    axes[0].legend(loc="lower left", ncols=2, markerscale=0.8)
    for axis, (heading, found) in zip(axes[1:], decisions.items()):
        axis.scatter(*places.T, s=4, color=[COLOURS[c] for c in found])
        wrong = places[found != labels]
        axis.scatter(*wrong.T, s=22, marker="x", linewidths=0.8, color="black", label="wrong")
        axis.set_title(heading)
        axis.legend(loc="lower left")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"{title(dataset)}: M1's features on a t-SNE map; colours are classes")
    return png(figure)


def confusion(reports, dataset):
    """Confusion matrices in % of the true class, a row per classifier. reports: {classifier: {label count: report}}."""
    columns = max(map(len, reports.values()))
    figure, axes = plt.subplots(len(reports), columns, squeeze=False, layout="constrained",
                                figsize=(WIDTH / 2 * columns, (WIDTH / 2 + 0.2) * len(reports)))
    for row, (classifier, by_count) in zip(axes, reports.items()):
        for axis in row[len(by_count):]:
            axis.remove()
        for axis, (labels, report) in zip(row, by_count.items()):
            matrix = np.array(report["confusion"], float)
            percent = np.round(100 * matrix / np.maximum(1, matrix.sum(1, keepdims=True)))
            display = ConfusionMatrixDisplay(percent, display_labels=class_names(dataset))
            display.plot(ax=axis, cmap="Blues", colorbar=False, values_format=".0f", xticks_rotation="vertical",
                         im_kw={"vmin": 0, "vmax": 100}, text_kw={"fontsize": 7})
            for text in display.text_.flat:
                text.set_visible(text.get_text() != "0")
            axis.set(title=f"{classifier}, {labels} labels: {report['error']:.2f} % wrong", xlabel="predicted class",
                     ylabel="true class")
    figure.suptitle(f"{title(dataset)}: test images in % of their class")
    return png(figure)


def table(tables, paper):
    """Test error against the number of labels, a panel per data set.

    tables: {data set: rows of table_DATASET.json}. paper: {method: {label count: error in %}}, drawn beside MNIST.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 3.6), squeeze=False, layout="constrained")
    for axis, (dataset, rows) in zip(axes[0], tables.items()):
        for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
            own = [row for row in rows if row["method"] == method]
            labels, means, deviations = zip(*((r["labels"], r["error_mean"], r["error_std"] or 0) for r in own))
            axis.errorbar(labels, means, deviations, marker="o", ms=3, capsize=2, color=COLOURS[i], label=method)
        for style, (method, errors) in zip(("--", ":", "-."), paper.items() if dataset == "mnist" else ()):
            axis.plot(list(errors), list(errors.values()), style, color="0.35", label=f"{method} (Kingma et al.)")
        counts = sorted({row["labels"] for row in rows})
        axis.set(xscale="log", yscale="log", xlabel="labelled images", ylabel="test error [%]", title=title(dataset))
        axis.minorticks_off()
        low, high = axis.get_ylim()
        axis.set_xticks(counts, map(str, counts))
        axis.set_yticks(*zip(*[(t, str(t)) for t in (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50) if low <= t <= high]))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, handlelength=3)
    return png(figure)
