"""Pictures of questions 1 and 2. Each function returns the bytes of a PNG file.

They are drawn as wide as the report's text, so that a size of 8 is 8 pt on its pages.
"""

import contextlib
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from . import drawings

WIDTH = 6.7  # inches: the text of the report
OURS = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
        "legend.fontsize": 7.5, "axes.linewidth": 0.6, "lines.linewidth": 1.1, "grid.alpha": 0.25, "savefig.dpi": 220,
        "figure.constrained_layout.use": True, "legend.framealpha": 0.85, "legend.borderpad": 0.3}

# Where a discriminator that answers the same everywhere ends: the page weights the real term by 0.95, so the best
# constant is 0.95/1.95, and the page shows half of the discriminator's loss.
CONSTANT = 0.95 / 1.95
D_PLATEAU = -(0.95 * np.log(CONSTANT) + np.log(1 - CONSTANT)) / 2
G_PLATEAU = -np.log(CONSTANT)


@contextlib.contextmanager
def style():
    """matplotlib's defaults and then ours, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(OURS)
        yield


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


@style()
def distances(result, fields, sigmas, shown_thetas):
    """Question 1: W, JS and its slope above; below the gradients of a discriminator and a critic at points of Q.

    result: what the script writes, with "curves"; fields: name -> gradients (thetas, 21, 2) of the first networks.
    """
    figure = Figure(figsize=(WIDTH, 6.3))
    axes = figure.subplots(3, 3)
    theta = [row["theta"] for row in result["transport"]]
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], "k-", lw=0.8, label=r"$|\theta|$")
    axis.errorbar(theta, [r["mean"] for r in result["transport"]], [r["std"] for r in result["transport"]],
                  fmt="o", ms=3.5, color="tab:green", label="assignment")
    axis.set(title="Wasserstein distance", xlabel=r"$\theta$", ylabel="$W(P,Q)$")
    axis.legend(loc="upper left")
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(sigmas)))
    fine = np.array(result["curves"]["theta"])
    for colour, sigma, js, slope in zip(colours, sigmas, result["curves"]["js"], result["curves"]["slope"]):
        axes[0, 1].plot(fine, js, color=colour, label=rf"$\sigma={sigma}$")
        axes[0, 2].semilogy(fine, np.maximum(slope, 1e-12), color=colour)
    axes[0, 1].axhline(np.log(2), color="k", ls=":", lw=1, label=r"$\log 2$")
    axes[0, 1].set(title="JS of the blurred segments", xlabel=r"$\theta$", ylabel="nats")
    axes[0, 1].legend(loc="lower right", labelspacing=0.2)
    axes[0, 2].axhline(1, color="tab:green", label=r"$\partial W/\partial\theta=1$")
    axes[0, 2].set(title=r"slope $\partial$JS$/\partial\theta$, blurred", xlabel=r"$\theta$", ylim=(1e-9, 1e3))
    axes[0, 2].legend(loc="upper right")
    records = {r["theta"]: (i, r) for i, r in enumerate(result["networks"])}
    for row, (name, title) in enumerate((("minimax", r"$\nabla$log(1$-$D)"), ("critic", "critic")), start=1):
        for axis, shown in zip(axes[row], shown_thetas):
            index, record = records[shown]
            axis.plot([0, 0], [0, 1], color="tab:green", lw=2.5, label="$P$")
            axis.plot([shown, shown], [0, 1], color="tab:purple", lw=2.5, label="$Q$")
            field = fields[name][index] * 0.2  # the same scale in both rows: length 1 is drawn as 0.2
            axis.quiver(np.full(11, shown), np.linspace(0, 1, 11), *field[::2].T, angles="xy", scale_units="xy",
                        scale=1, color="k", width=0.008, zorder=3)
            axis.set(xlim=(-0.35, 1.35), ylim=(-0.15, 1.4), xlabel="$x$", ylabel="$y$", yticks=[0, 0.5, 1],
                     title=rf"{title}, $\theta={shown:g}$" + f"\nmedian length {record[name]['length']:.3g}")
            axis.legend(loc="upper center", ncol=2)
    last, networks = records[1.0][1], result["networks"]
    for name, line, label in (("minimax", "-", r"$\nabla$log(1$-$D)"), ("non_saturating", "--", r"$\nabla$log D"),
                                ("critic", "-", r"critic, $\nabla f$")):
        colour = "tab:green" if name == "critic" else "tab:red"
        axes[1, 2].loglog(last["watched_steps"], last[name]["history"], line, color=colour, label=label)
        axes[2, 2].semilogy([r["theta"] for r in networks], [r[name]["length"] for r in networks], "o" + line,
                            ms=3.5, color=colour, label=label)
    axes[1, 2].set(title=r"gradient at $Q$, $\theta=1$", xlabel="training step", ylabel="length")
    axes[2, 2].set(title="gradient at $Q$, trained", xlabel=r"$\theta$", ylabel="length")
    for axis in axes[1:, 2]:
        axis.legend()
    for axis in (*axes[0], *axes[1:, 2]):
        axis.grid()
    return png(figure)


@style()
def stages(pictures):
    """One row: the page's layered distributions, pixels by the epoch of their screenshot."""
    figure = Figure(figsize=(WIDTH, WIDTH / len(pictures) + 0.1))
    for axis, (epoch, pixels) in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures.items()):
        axis.imshow(pixels)
        axis.set_title(f"epoch {epoch:,}")
        axis.axis("off")
    return png(figure)


@style()
def histories(runs):
    """One column per run: the page's losses, its KL and JS, our measures; dashed where the rates were lowered."""
    def draw(axis, run, key, colour, label):
        axis.plot(*np.array(run["histories"][key], float).T, color=colour, lw=0.8, label=label)  # None leaves a gap

    figure = Figure(figsize=(WIDTH, 6.2))
    axes = figure.subplots(3, len(runs), sharex="col", sharey="row", squeeze=False)
    for column, run in zip(axes.T, runs):
        losses, divergences, ours = column
        settings, measures = run["settings"], run["measures"]
        losses.set_title(f"{drawings.TITLES.get(run['draw'], run['draw'])}: {run['outcome']}\nD {settings['d_layers']}×"
                         f"{settings['d_neurons']}, G {settings['g_layers']}×{settings['g_neurons']}")
        draw(losses, run, "d_loss", "tab:blue", "discriminator")
        draw(losses, run, "g_loss", "tab:purple", "generator")
        losses.axhline(D_PLATEAU, color="0.4", ls=":", lw=0.9, label="constant D")
        losses.axhline(G_PLATEAU, color="0.4", ls=":", lw=0.9)
        draw(divergences, run, "kl", "tab:orange", "KL, the page's")
        draw(divergences, run, "js", "goldenrod", "JS, the page's")
        epochs = [m["epoch"] for m in measures]
        divergences.plot(epochs, [m["js"] for m in measures], "k.-", ms=3, lw=0.8, label="JS, all samples")
        for key, marker, colour in (("precision", "o-", "tab:green"), ("coverage", "s-", "tab:red")):
            ours.plot(epochs, [m[key] for m in measures], marker, color=colour, ms=2.5, lw=0.9, label=key)
        ours.axhline(drawings.CRITERION["min_precision"], color="0.4", ls=":", lw=0.9)
        if "gradient" in measures[0]:
            ours.plot(epochs, [m["gradient"] / measures[0]["gradient"] for m in measures], "^-", color="tab:pink",
                      ms=2.5, lw=0.9, label="gradient, relative")
        ours.set(ylim=(0, 1.1), xlabel="epoch")
        ours.locator_params(axis="x", nbins=4)
        for axis in column:
            axis.grid()
            for epoch in settings.get("lower_rates", []):
                if epoch < run["epoch"]:
                    axis.axvline(epoch, color="0.5", ls="--", lw=0.8)
    for axis, label in zip(axes[:, 0], ("loss", "divergence (bits)", "fraction")):
        axis.set_ylabel(label)
    axes[0, 0].set_ylim(0.2, 1.5)
    axes[1, 0].set_ylim(0, 2.6)
    for axis in axes[:, 0]:
        axis.legend(loc="best")
    return png(figure)
