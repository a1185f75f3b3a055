"""Pictures of GAN Lab runs: the strip of stages and the redrawn histories."""
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np

import drawings

# Where a discriminator that answers the same everywhere ends: the page weights the real term by 0.95, so the best
# constant is 0.95/1.95, and the page shows half of the discriminator's loss.
CONSTANT = 0.95 / 1.95
D_PLATEAU = -(0.95 * np.log(CONSTANT) + np.log(1 - CONSTANT)) / 2
G_PLATEAU = -np.log(CONSTANT)


def save(figure, path):
    temporary = path.with_name(path.stem + ".tmp.png")
    figure.savefig(temporary, dpi=150)
    plt.close(figure)
    os.replace(temporary, path)


def stages(run, folder, path):
    """One row: the page's layered distributions at every screenshot of the run."""
    figure, axes = plt.subplots(1, len(run["shots"]), figsize=(2.3 * len(run["shots"]), 2.65), layout="constrained", squeeze=False)
    for axis, epoch in zip(axes[0], run["shots"]):
        axis.imshow(matplotlib.image.imread(folder / f"epoch{epoch:06d}_plot.png"))
        axis.set_title(f"epoch {epoch:,}", fontsize=10)
        axis.axis("off")
    save(figure, path)


def curve(points):
    """[[epoch, value or None], ...] as two float arrays; a missing value becomes NaN and leaves a gap."""
    values = np.array([[x, np.nan if y is None else y] for x, y in points], float).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def histories(runs, path):
    """One column per run: the page's losses, the page's KL and JS, and our own measures; dashed where the rates were lowered."""
    figure, axes = plt.subplots(3, len(runs), figsize=(4.6 * len(runs), 6.6), sharex="col", sharey="row", layout="constrained", squeeze=False)
    for column, run in zip(axes.T, runs):
        losses, divergences, ours = column
        state = "converged" if run["outcome"] == "converged" else "not converged"
        losses.set_title(f"{run['draw']}, {run['settings']['d_layers']}x{run['settings']['d_neurons']} / "
                         f"{run['settings']['g_layers']}x{run['settings']['g_neurons']}: {state}", fontsize=10)
        for key, colour, label in (("d_loss", "tab:blue", "discriminator"), ("g_loss", "tab:purple", "generator")):
            losses.plot(*curve(run["histories"][key]), color=colour, lw=0.9, label=label)
        for level in (D_PLATEAU, G_PLATEAU):
            losses.axhline(level, color="0.4", ls=":", lw=0.9, label="constant discriminator" if level == D_PLATEAU else None)
        for key, colour, label in (("kl", "tab:orange", "KL, the page's"), ("js", "goldenrod", "JS, the page's")):
            divergences.plot(*curve(run["histories"][key]), color=colour, lw=0.9, label=label)
        epochs = [m["epoch"] for m in run["measures"]]
        divergences.plot(epochs, [m["js"] for m in run["measures"]], "k.-", ms=4, lw=0.8, label="JS, all samples")
        ours.plot(epochs, [m["precision"] for m in run["measures"]], "o-", color="tab:green", ms=3, lw=0.9, label="precision")
        ours.plot(epochs, [m["coverage"] for m in run["measures"]], "s-", color="tab:red", ms=3, lw=0.9, label="coverage")
        for level, colour in ((drawings.MIN_PRECISION, "tab:green"), (drawings.MIN_COVERAGE, "tab:red")):
            ours.axhline(level, color=colour, ls=":", lw=0.9)
        ours.set_ylim(0, 1.03)
        ours.set_xlabel("epoch")
        for axis in column:
            axis.grid(alpha=0.25)
            for epoch in run["settings"].get("lower_rates", []):
                if epoch < run["epoch"]:
                    axis.axvline(epoch, color="0.5", ls="--", lw=0.8)
    for axis, label in zip(axes[:, 0], ("loss", "divergence (bits)", "share of samples")):
        axis.set_ylabel(label)
    axes[0, 0].set_ylim(0.2, 1.5)
    axes[1, 0].set_ylim(0, 2.6)
    for axis in axes[:, -1]:
        axis.legend(fontsize=7.5, loc="best")
    save(figure, path)
