"""How a run is drawn: its losses and its distance as it goes. PNG bytes that do not depend on a user's matplotlibrc."""

import contextlib
import io
import math

import matplotlib
import numpy as np

matplotlib.use("agg")  # needs no screen; Jupyter's own is not to be found outside of it
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, MaxNLocator

NAMES = {"dcgan": "DCGAN", "wgan": "WGAN-GP", "wgan-gp": "WGAN-GP", "wgan-clip": "WGAN, clipping",
         "wgan-gp-steps": "WGAN-GP, steps searched", "textbook": "WGAN-GP, textbook loop"}  # of models and objectives
COLOURS = {"dcgan": "tab:blue", "wgan": "tab:orange", "wgan-gp": "tab:orange", "wgan-clip": "tab:green",
           "wgan-gp-steps": "tab:red", "textbook": "tab:grey"}
SMOOTH = 500  # iterations of the running mean
DISTANCE = "relative Fréchet distance"


@contextlib.contextmanager
def style():
    """Matplotlib's defaults, whatever the user's settings are, then ours."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True})
        yield


def as_png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    plt.close(figure)
    return buffer.getvalue()


def log_ticks(axis):
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def column(rows, name):
    """(iterations, values) of the rows that have `name`, as float arrays."""
    points = [(float(row["iteration"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
    return np.array(points).reshape(-1, 2).T


def smoothed(axes, x, y, colour, label):
    """The raw curve, pale, and its mean over SMOOTH iterations; returns the range that is worth showing."""
    width = min(max(1, int(np.sum(x <= SMOOTH))), max(1, len(x) // 5))
    mean = np.convolve(y, np.ones(width) / width, "valid")
    axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.6)
    first = width if len(mean) > 2 * width else 0  # the first peaks are out of the mean, and need not be seen
    axes.plot(x[width - 1 + first:], mean[first:], color=colour, linewidth=1.6, label=label)
    rest = y[first:]
    return np.nanquantile(rest, 0.002), np.nanquantile(rest, 0.998)


def draw_losses(panels, rows, objective):
    """The generator's loss and the critic's into two axes; rows: of metrics.csv."""
    dcgan = objective == "dcgan"
    who, formula = ("discriminator", "−E[log D(G(z))]") if dcgan else ("critic", "−E[f(G(z))]")
    sign = 1 if dcgan else -1  # of the critic's
    views = (("generator_loss", 1, f"generator loss  {formula}", "generator"),
             ("critic_loss", sign, f"{'' if dcgan else 'negative '}{who} loss", f"{who}, training images"))
    for axes, (name, sign, title, label) in zip(panels, views):
        x, y = column(rows, name)
        axes.set(title=f"{NAMES[objective]}: {title}", xlabel="generator iteration",
                 ylabel="loss (nats)" if dcgan else "critic's units")
        if not np.isfinite(y).any():
            continue
        low, high = smoothed(axes, x, sign * y, COLOURS[objective], label)
        if name == "critic_loss":
            x, y = column(rows, "validation_critic_loss")
            axes.plot(x, sign * y, "k.--", markersize=4, linewidth=0.8, label=f"{who}, validation images")
            low, high = min(0, low), max([high, *sign * y[len(y) // 3:]])
            if dcgan:
                axes.axhline(2 * math.log(2), color="grey", linewidth=0.8, linestyle=":",
                             label="2 ln 2: cannot tell real from generated")
                high = max(high, 2 * math.log(2))
        space = max(high - low, 1e-3)
        axes.set_ylim(low - 0.05 * space, high + 0.5 * space)  # room for the legend
        axes.legend(fontsize=8, loc="upper right")


def losses(rows, objective):
    """losses.png of a run: losses of the generator and the critic, and the distance to the validation images."""
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(14, 4))
        draw_losses(panels, rows, objective)
        panels[2].plot(*column(rows, "relative_distance"), ".-", color=COLOURS[objective])
        panels[2].set(title="Distance to the validation images", xlabel="generator iteration", ylabel=DISTANCE,
                      yscale="log")
        log_ticks(panels[2].yaxis)
        panels[2].xaxis.set_major_locator(MaxNLocator(5))
        return as_png(figure)
