"""The pictures of question 3. Each function writes one PNG."""
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.manifold import TSNE

import store
from images import CLASSES, Images
from m1 import M1, latents

NAMES = {"fashion": "Fashion-MNIST", "mnist": "MNIST"}
COLOURS = plt.get_cmap("tab10").colors


def save(figure, path: Path) -> None:
    store.replace(path, lambda partial: figure.savefig(partial, dpi=130, bbox_inches="tight"))
    plt.close(figure)


def training(path: Path, history: list[dict], settings: dict) -> None:
    """The bound, and how it splits, against epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    epochs = [row["epoch"] for row in history]
    shown = slice(1 if len(history) > 5 else 0, None)  # the first epoch would set the scale
    left.plot(epochs[shown], [-row["bound"] for row in history][shown], label="training images" + (", encoder sees them distorted" if settings["distort"] else ""))
    left.plot(epochs[shown], [-row["held_out_bound"] for row in history][shown], label="held-out images")
    left.set(xlabel="epoch", ylabel="loss J = -bound [nats per image]")
    left.legend()
    right.plot(epochs[shown], [row["kl"] for row in history][shown], color="C2")
    right.set(xlabel="epoch", ylabel="KL(q(z|x) || p(z)) [nats per image]")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.suptitle(f"M1 on {NAMES[settings['dataset']]}: {settings['likelihood']} likelihood, KL weight {settings['kl_weight']:g}")
    figure.tight_layout()
    save(figure, path)


def tiles(axis, rows: list[torch.Tensor], title: str) -> None:
    """Rows of images (n, 784) in [0, 1] as one grey picture."""
    picture = torch.cat([torch.cat(list(row.view(-1, 28, 28)), dim=1) for row in rows])
    axis.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title)
    axis.axis("off")


@torch.no_grad()
def vae(stem: Path, model: M1, images: Images, dataset: str) -> None:
    """Three pictures: STEM_reconstructions.png and STEM_samples.png, and STEM_latent.png, a t-SNE map of held-out images."""
    device = next(model.parameters()).device
    decode = lambda z: torch.sigmoid(model.decode(z.to(device))).cpu()
    held_out, labels = images.train_x[images.validation:], images.train_y[images.validation:]
    first = torch.cat([torch.nonzero(labels == c)[:2, 0] for c in range(10)])
    x = held_out[first]
    rebuilt = decode(latents(model, x))
    figure, axis = plt.subplots(figsize=(9, 4))
    tiles(axis, [x[::2].float() / 255, rebuilt[::2], x[1::2].float() / 255, rebuilt[1::2]],
          f"{NAMES[dataset]}, held-out images (rows 1 and 3) and their reconstructions from the posterior mean (rows 2 and 4)")
    axis.title.set_fontsize(9)
    save(figure, stem.with_name(f"{stem.name}_reconstructions.png"))

    z = torch.randn(80, model.sizes["latent"], generator=torch.Generator().manual_seed(0))
    figure, axis = plt.subplots(figsize=(7, 5.8))
    tiles(axis, list(decode(z).split(10)), f"{NAMES[dataset]}: 80 decoded samples of the prior N(0, I)")
    save(figure, stem.with_name(f"{stem.name}_samples.png"))

    count = min(2000, len(held_out))
    points = TSNE(2, init="pca", random_state=0, n_jobs=-1).fit_transform(latents(model, held_out[:count]).numpy()) if count > 100 \
        else latents(model, held_out[:count]).numpy()[:, :2]
    figure, axis = plt.subplots(figsize=(7.5, 6))
    for c, name in enumerate(CLASSES[dataset]):
        axis.scatter(*points[labels[:count].numpy() == c].T, s=5, color=COLOURS[c], label=name)
    axis.legend(markerscale=3, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set(title=f"{NAMES[dataset]}: posterior means of {count:,} held-out images (t-SNE map)", xticks=[], yticks=[])
    save(figure, stem.with_name(f"{stem.name}_latent.png"))


def confusion(path: Path, report: dict, dataset: str, title: str) -> None:
    """The confusion matrix of a report of classify.py, in % of the true class."""
    matrix = np.array(report["confusion"], float)
    percent = 100 * matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    figure, axis = plt.subplots(figsize=(7, 6.2))
    shown = axis.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for i in range(10):
        for j in range(10):
            if percent[i, j] >= 0.5:
                axis.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", fontsize=8, color="white" if percent[i, j] > 60 else "black")
    axis.set_xticks(range(10), CLASSES[dataset], rotation=45, ha="right")
    axis.set_yticks(range(10), CLASSES[dataset])
    axis.set(xlabel="predicted class", ylabel="true class", title=title)
    figure.colorbar(shown, label="% of the true class", fraction=0.046)
    save(figure, path)


def table(path: Path, tables: dict[str, dict], paper: dict[str, dict[int, float]]) -> None:
    """Test error against the number of labels, a panel per data set; the paper's rows (MNIST) as dashed lines."""
    figure, axes = plt.subplots(1, len(tables), figsize=(6.2 * len(tables), 4.8), squeeze=False)
    for axis, (dataset, content) in zip(axes[0], tables.items()):
        rows = content["rows"]
        for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
            own = [row for row in rows if row["method"] == method]
            axis.errorbar([r["labels"] for r in own], [r["error_mean"] for r in own], [r["error_std"] for r in own],
                          marker="o", ms=4, capsize=3, color=COLOURS[i], label=method)
        if dataset == "mnist":
            for style, (method, errors) in zip(("--", ":", "-."), paper.items()):
                axis.plot(list(errors), list(errors.values()), style, color="0.35", label=f"{method} (Kingma et al.)")
        counts = sorted({row["labels"] for row in rows})
        axis.set(xscale="log", yscale="log", xlabel="labelled images", title=NAMES[dataset])
        axis.set_xticks(counts, [str(c) for c in counts])
        axis.minorticks_off()
        low, high = axis.get_ylim()
        ticks = [t for t in (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40) if low <= t <= high]
        axis.set_yticks(ticks, [str(t) for t in ticks])
        axis.set_ylabel("test error [%]")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    draws = " and ".join(dict.fromkeys(str(content["draws"]) for content in tables.values()))
    figure.suptitle(f"Test error against the number of labels: mean and standard deviation over {draws} balanced draws")
    figure.tight_layout()
    save(figure, path)
