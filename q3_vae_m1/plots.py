"""Pictures of a VAE and of its classifiers, as the bytes of PNG files. Fonts are meant for a page 6.5 inches wide, of
which all but the losses take half."""

import functools
import io
import os

os.environ["MPLBACKEND"] = "agg"  # a notebook's backend, inherited, would end a script
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.manifold import TSNE
from sklearn.metrics import ConfusionMatrixDisplay

from .features import decoded, posterior_means
from .images import class_names, title

COLOURS = plt.get_cmap("tab10").colors
WIDTH, HALF = 6.5, 3.25  # inches
OURS = {"font.size": 8, "axes.titlesize": 8, "figure.titlesize": 10, "savefig.dpi": 200}


def picture(draw):
    """Decorator of a function that returns a figure: its PNG, the same whatever the user's matplotlibrc says."""
    @functools.wraps(draw)
    def drawn(*words, **more):
        with plt.rc_context():
            matplotlib.rcdefaults()
            plt.rcParams.update(OURS)
            figure, buffer = draw(*words, **more), io.BytesIO()
            figure.savefig(buffer, format="png", bbox_inches="tight")
            plt.close(figure)
        return buffer.getvalue()
    return drawn


def t_sne(features):
    """(n, 2): the t-SNE map of features (n, 50); about ten seconds for n = 2,000."""
    return TSNE(2, perplexity=min(30, len(features) / 4), init="pca", random_state=0, n_jobs=-1).fit_transform(features)


@picture
def loss(settings, history):
    """J = -ELBO and its KL term against epochs. history: the rows of metrics.csv."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.6), layout="constrained")
    shown = history[1:] if len(history) > 5 else history  # the first epoch would set the scale
    epochs, mark = [row["epoch"] for row in shown], "o" if len(shown) == 1 else None
    left.plot(epochs, [-row["elbo"] for row in shown], marker=mark,
              label="training, seen distorted" if settings["distort"] else "training")
    left.plot(epochs, [-row["validation_elbo"] for row in shown], marker=mark, label="validation")
    left.set(xlabel="epoch", ylabel="loss J = -ELBO [nats per image]")
    left.legend()
    right.plot(epochs, [row["kl"] for row in shown], color="C2", marker=mark)
    right.set(xlabel="epoch", ylabel="KL(q(z|x) || p(z)) [nats per image]")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.suptitle(f"M1 on {title(settings['dataset'])}: {settings['likelihood'].title()} likelihood, "
                    f"KL weight {settings['kl_weight']:g}")
    return figure


def tiles(rows, heading, labels=None):
    """A figure with rows of images (n, 784) in [0, 1]. labels: what each row is."""
    wide = max(map(len, rows))
    grey = torch.cat([torch.cat(list(F.pad(row, (0, 0, 0, wide - len(row))).view(-1, 28, 28)), 1) for row in rows])
    figure, axis = plt.subplots(figsize=(HALF, HALF * grey.shape[0] / grey.shape[1] + 0.4), layout="constrained")
    axis.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(heading)
    axis.set_xticks([])
    axis.set_yticks([28 * i + 14 for i in range(len(rows))] if labels else [], labels or [])
    axis.tick_params(length=0)
    return figure


@picture
def reconstructions(model, images, dataset):
    """Two validation images per class and what the decoder makes of their posterior means."""
    members = [torch.nonzero(images.validation_labels == c)[:2, 0] for c in range(10)]
    x = images.validation[torch.cat([rows[i:i + 1] for i in range(2) for rows in members])]
    rebuilt = decoded(model, torch.from_numpy(posterior_means(model, x)))
    rows = [row for pair in zip((x.flatten(1) / 255).split(10), rebuilt.split(10)) for row in pair]
    return tiles(rows, f"{title(dataset)}, {model.likelihood.title()} likelihood:\nvalidation images and their "
                 "reconstructions", ["image", "decoded"] * (len(rows) // 2))


@picture
def samples(model, dataset):
    """50 decoded samples of the prior."""
    z = torch.randn(50, model.sizes["latent"], generator=torch.Generator().manual_seed(0))
    return tiles(decoded(model, z).split(10), f"{title(dataset)}, {model.likelihood.title()} likelihood:\ndecoded "
                 "samples of the prior N(0, I)")


@picture
def latent(model, images, dataset):
    """A t-SNE map of the posterior means of validation images."""
    count = min(2000, len(images.validation))
    places, labels = t_sne(posterior_means(model, images.validation[:count])), images.validation_labels[:count]
    figure, axis = plt.subplots(figsize=(HALF, HALF + 0.2), layout="constrained")
    for c, name in enumerate(class_names(dataset)):
        axis.scatter(*places[labels == c].T, s=2, color=COLOURS[c], label=name)
    axis.set(xticks=[], yticks=[], title=f"{title(dataset)}, {model.likelihood.title()} likelihood:\nt-SNE of "
             f"{count:,} images' posterior means")
    figure.legend(markerscale=4, loc="outside lower center", ncols=4, fontsize=7, frameon=False, handletextpad=0,
                  columnspacing=0.6)
    return figure


@picture
def confusion(which, report, dataset):
    """The confusion matrix of a classifier, in % of the true class. report: of classifiers.report."""
    matrix = np.array(report["confusion"], float)
    percent = np.round(100 * matrix / np.maximum(1, matrix.sum(1, keepdims=True)))
    figure, axis = plt.subplots(figsize=(HALF, HALF + 0.2), layout="constrained")
    display = ConfusionMatrixDisplay(percent, display_labels=class_names(dataset))
    display.plot(ax=axis, cmap="Blues", colorbar=False, values_format=".0f", xticks_rotation="vertical",
                 im_kw={"vmin": 0, "vmax": 100}, text_kw={"fontsize": 7})
    for text in display.text_.flat:
        text.set_visible(text.get_text() != "0")
    axis.set(title=f"{which}: {report['error']:.2f} % wrong", xlabel="predicted class", ylabel="true class")
    figure.suptitle(f"{title(dataset)}: test images in % of their class")
    return figure
