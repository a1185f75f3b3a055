"""Pictures of questions 1 and 2. Each function returns the bytes of a PNG file."""
import io
import os

os.environ["MPLBACKEND"] = "agg"  # before matplotlib is imported: one inherited from a notebook does not exist here
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np

from . import drawings

# Where a discriminator that answers the same everywhere ends: the page weights the real term by 0.95, so the best
# constant is 0.95/1.95, and the page shows half of the discriminator's loss.
CONSTANT = 0.95 / 1.95
D_PLATEAU = -(0.95 * np.log(CONSTANT) + np.log(1 - CONSTANT)) / 2
G_PLATEAU = -np.log(CONSTANT)


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    plt.close(figure)
    return file.getvalue()


def distances(result, fields, sigmas, shown_thetas):
    """Question 1: W, JS and its slope above; below the gradients of a discriminator and a critic at points of Q.

    result: what the script writes, with "curves"; fields: name -> gradients (thetas, 21, 2) of the first networks.
    """
    figure, axes = plt.subplots(3, 3, figsize=(9, 8.2), layout="constrained")
    theta = [row["theta"] for row in result["transport"]]
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], "k-", lw=0.8, label=r"closed form $|\theta|$")
    axis.errorbar(theta, [r["mean"] for r in result["transport"]], [r["std"] for r in result["transport"]],
                  fmt="o", ms=4, color="tab:green", label="optimal assignment")
    axis.set(title="Wasserstein distance", xlabel=r"$\theta$", ylabel="$W(P,Q)$")
    axis.legend(fontsize=8)
    colours = plt.cm.viridis(np.linspace(0, 0.85, len(sigmas)))
    fine = np.array(result["curves"]["theta"])
    for colour, sigma, js, slope in zip(colours, sigmas, result["curves"]["js"], result["curves"]["slope"]):
        axes[0, 1].plot(fine, js, color=colour, label=rf"$\sigma={sigma}$")
        axes[0, 2].semilogy(fine, np.maximum(slope, 1e-12), color=colour)
    axes[0, 1].axhline(np.log(2), color="k", ls=":", lw=1, label=r"$\log 2$")
    axes[0, 1].set(title="JS of the blurred segments", xlabel=r"$\theta$", ylabel="nats")
    axes[0, 1].legend(fontsize=7.5, loc="lower right")
    axes[0, 2].axhline(1, color="tab:green", lw=1.2, label=r"$\partial W/\partial\theta=1$")
    axes[0, 2].set(title=r"$\partial$JS$/\partial\theta$, blurred", xlabel=r"$\theta$", ylim=(1e-9, 1e2))
    axes[0, 2].legend(fontsize=8, loc="upper right")
    records = {r["theta"]: (i, r) for i, r in enumerate(result["networks"])}
    for row, (name, title) in enumerate((("minimax", r"discriminator, $\log(1-D)$"), ("critic", "critic")), start=1):
        for axis, shown in zip(axes[row], shown_thetas):
            index, record = records[shown]
            axis.plot([0, 0], [0, 1], color="tab:green", lw=3, label="$P$")
            axis.plot([shown, shown], [0, 1], color="tab:purple", lw=3, label="$Q$")
            field = fields[name][index] * 0.2  # the same scale in both rows: length 1 is drawn as 0.2
            axis.quiver(np.full(11, shown), np.linspace(0, 1, 11), *field[::2].T, angles="xy", scale_units="xy",
                        scale=1, color="k", width=0.008, zorder=3)
            axis.set(xlim=(-0.35, 1.35), ylim=(-0.15, 1.35), xlabel="$x$", ylabel="$y$", yticks=[0, 0.5, 1],
                     title=rf"{title}, $\theta={shown:g}$" + f"\nmedian length {record[name]['median_length']:.2g}")
            axis.title.set_fontsize(10)
            axis.legend(fontsize=8, loc="upper center", ncol=2)
    last, networks = records[1.0][1], result["networks"]
    for name, style, label in (("minimax", "-", r"$\log(1-D)$"), ("non_saturating", "--", r"$-\log D$"),
                               ("critic", "-", "critic")):
        colour = "tab:green" if name == "critic" else "tab:red"
        axes[1, 2].loglog(last["watched_steps"], last[name]["history"], style, color=colour, label=label)
        axes[2, 2].semilogy([r["theta"] for r in networks], [r[name]["median_length"] for r in networks], "o" + style,
                            ms=4, color=colour, label=label)
    axes[1, 2].set(title=r"gradient at $Q$, $\theta=1$", xlabel="training step", ylabel="length")
    axes[2, 2].set(title="after training", xlabel=r"$\theta$", ylabel=r"length at $Q$")
    for axis in axes[1:, 2]:
        axis.legend(fontsize=8)
    for axis in (*axes[0], *axes[1:, 2]):
        axis.grid(alpha=0.25)
    return png(figure)


def stages(run, folder):
    """One row: the page's layered distributions at every screenshot of the run."""
    figure, axes = plt.subplots(1, len(run["shots"]), figsize=(2.3 * len(run["shots"]), 2.65), layout="constrained",
                                squeeze=False)
    for axis, epoch in zip(axes[0], run["shots"]):
        axis.imshow(matplotlib.image.imread(folder / f"epoch{epoch:06d}_plot.png"))
        axis.set_title(f"epoch {epoch:,}", fontsize=10)
        axis.axis("off")
    return png(figure)


def histories(runs):
    """One column per run: the page's losses, its KL and JS, our measures; dashed where the rates were lowered."""
    def draw(axis, run, key, colour, label):
        axis.plot(*np.array(run["histories"][key], float).T, color=colour, lw=0.9, label=label)  # None leaves a gap

    figure, axes = plt.subplots(3, len(runs), figsize=(4.2 * len(runs), 7), sharex="col", sharey="row",
                                layout="constrained", squeeze=False)
    for column, run in zip(axes.T, runs):
        losses, divergences, ours = column
        settings, measures = run["settings"], run["measures"]
        losses.set_title(f"{run['draw']}, D {settings['d_layers']}x{settings['d_neurons']}, "
                         f"G {settings['g_layers']}x{settings['g_neurons']}: {run['outcome']}", fontsize=10)
        draw(losses, run, "d_loss", "tab:blue", "discriminator")
        draw(losses, run, "g_loss", "tab:purple", "generator")
        losses.axhline(D_PLATEAU, color="0.4", ls=":", lw=0.9, label="constant discriminator")
        losses.axhline(G_PLATEAU, color="0.4", ls=":", lw=0.9)
        draw(divergences, run, "kl", "tab:orange", "KL, the page's")
        draw(divergences, run, "js", "goldenrod", "JS, the page's")
        epochs = [m["epoch"] for m in measures]
        divergences.plot(epochs, [m["js"] for m in measures], "k.-", ms=4, lw=0.8, label="JS, all samples")
        for key, style, colour in (("precision", "o-", "tab:green"), ("coverage", "s-", "tab:red")):
            ours.plot(epochs, [m[key] for m in measures], style, color=colour, ms=3, lw=0.9, label=key)
        ours.axhline(drawings.CRITERION["min_precision"], color="0.4", ls=":", lw=0.9)
        if "gradient" in measures[0]:
            ours.plot(epochs, [m["gradient"] / measures[0]["gradient"] for m in measures], "^-", color="tab:pink",
                      ms=3, lw=0.9, label="gradient length / that at epoch 500")
        ours.set(ylim=(0, 1.1), xlabel="epoch")
        for axis in column:
            axis.grid(alpha=0.25)
            for epoch in settings.get("lower_rates", []):
                if epoch < run["epoch"]:
                    axis.axvline(epoch, color="0.5", ls="--", lw=0.8)
    for axis, label in zip(axes[:, 0], ("loss", "divergence (bits)", "fraction")):
        axis.set_ylabel(label)
    axes[0, 0].set_ylim(0.2, 1.5)
    axes[1, 0].set_ylim(0, 2.6)
    for axis in axes[:, 0]:
        axis.legend(fontsize=7.5, loc="best")
    return png(figure)
