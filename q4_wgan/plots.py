"""The figures of this room, as PNG files."""

import io
import itertools
import math
import os
import textwrap

import numpy as np

os.environ["MPLBACKEND"] = "agg"  # needs no screen; Jupyter's own is not to be found outside of it
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.ticker import LogLocator

from .command import write
from .sampling import grid
from .summary import NAMES

COLOURS = {"dcgan": "tab:blue", "wgan": "tab:orange", "wgan-gp": "tab:orange", "wgan-clip": "tab:green",
           "textbook": "tab:grey"}
RATES = {"paper": "papers'", "between": "between", "tuned": "search's"}
OUTCOMES = {"trained": "tab:green", "collapsed": "tab:red", "diverged": "black"}
PAIRS = (("only_dcgan", "only DCGAN", "tab:blue"), ("only_wgan_gp", "only WGAN-GP", "tab:orange"),
         ("both", "both", "tab:olive"), ("neither", "neither", "lightgrey"))
SMOOTH = 500  # iterations of the running mean
DISTANCE = "relative Fréchet distance"
GREY = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}


def save(figure, path):
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    plt.close(figure)
    write(path, buffer.getvalue())


def log_ticks(axis):
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


# ---- the shipped trainings -----------------------------------------------------------------------

def smoothed(axes, x, y, colour, label):
    """The raw curve, pale, and its mean over the SMOOTH iterations before, once the first SMOOTH are out of it."""
    axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.6)
    width = max(1, int(np.sum(x <= SMOOTH)))
    mean = np.convolve(y, np.ones(width) / width, "valid")[width:]
    axes.plot(x[len(x) - len(mean):], mean, color=colour, linewidth=1.6, label=f"{label} (mean of {SMOOTH} iterations)")
    rest = y[width:] if len(y) > width else y
    return np.nanquantile(rest, 0.002), np.nanquantile(rest, 0.998)  # what to show: not the first peaks


def losses(columns, path):
    """columns: {model: {column of the losses csv: (rows,), NaN where empty}} of 'dcgan' and 'wgan'."""
    figure, panels = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    titles = ("DCGAN: generator loss  −E[log D(G(z))]", "DCGAN: discriminator loss",
              "WGAN-GP: generator loss  −E[D(G(z))]", "WGAN-GP: negative critic loss")
    for axes, title, (model, name) in zip(
            panels.flat, titles, itertools.product(("dcgan", "wgan"), ("generator_loss", "critic_loss"))):
        mine, sign = columns[model], -1 if title.endswith("negative critic loss") else 1
        who = "generator" if name == "generator_loss" else "critic" if model == "wgan" else "discriminator"
        low, high = smoothed(axes, mine["iteration"], sign * mine[name], COLOURS[model],
                             who if who == "generator" else f"{who}, training images")
        if who != "generator":
            values = sign * mine["validation_critic_loss"]
            seen = ~np.isnan(values)
            axes.plot(mine["iteration"][seen], values[seen], "k.--", markersize=4, linewidth=0.8,
                      label=f"{who}, validation images")
            low, high = min(0, low), max(high, np.nanmax(values))
        if who == "discriminator":
            axes.axhline(2 * math.log(2), color="grey", linewidth=0.8, linestyle=":",
                         label="2 ln 2: cannot tell real from generated")
            high = max(high, 2 * math.log(2))
        axes.set_ylim(low - 0.05 * (high - low), high + 0.35 * (high - low))  # room for the legend
        axes.set(title=title, xlabel="generator iteration", ylabel="loss (nats)" if model == "dcgan" else
                 "critic's units" if who == "generator" else "Wasserstein distance of pixels, up to a factor")
        axes.legend(fontsize=8, loc="upper right")
        axes.grid(alpha=0.3)
    figure.suptitle("Losses of the two shipped trainings; the peaks of the first iterations are cut off", fontsize=11)
    save(figure, path)


def distances(columns, unit, path):
    """Relative distance to the validation images against iterations. unit: the real distance to them."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for model, mine in columns.items():
        seen = ~np.isnan(mine["distance"])
        axes.plot(mine["iteration"][seen], mine["distance"][seen] / unit, ".-", color=COLOURS[model],
                  label=NAMES[model])
    axes.set(xlabel="generator iteration", yscale="log", ylabel=f"{DISTANCE} (validation images)",
             title="Distance as training went: the two shipped trainings")
    log_ticks(axes.yaxis)
    axes.legend()
    axes.grid(alpha=0.3, which="both")
    save(figure, path)


def samples(pixels, model, path):
    """pixels: uint8 (64, 28, 28) of the seeds 0 to 63."""
    figure, axes = plt.subplots(figsize=(6, 6.4), layout="constrained")
    axes.imshow(grid(pixels, columns=8, scale=2).numpy(), **GREY)
    axes.set_title(f"{NAMES[model]}: seeds 0 to {len(pixels) - 1}, uncurated")
    axes.axis("off")
    save(figure, path)


def training(pixels, iterations, model, path):
    """A row of images per moment of the training. pixels: uint8 (rows, columns, 28, 28)."""
    rows, columns = pixels.shape[:2]
    figure, axes = plt.subplots(figsize=(1 + 0.55 * columns, 0.7 + 0.55 * rows), layout="constrained")
    axes.imshow(grid(pixels.flatten(0, 1), columns=columns, scale=2).numpy(), **GREY)
    axes.set(title=f"{NAMES[model]}: seeds 0 to {columns - 1} as training went", xticks=[],
             ylabel="generator iteration")
    axes.set_yticks([28 + 60 * k for k in range(rows)], [f"{n:,}" for n in iterations])
    save(figure, path)


def two_of_each(rows, path):
    """rows: {class: [(title, uint8 (28, 28)) of a real image, DCGAN's and WGAN-GP's]}."""
    figure, panels = plt.subplots(len(rows), 3, figsize=(9, 3.2 * len(rows)), layout="constrained", squeeze=False)
    for axes_row, (label, images) in zip(panels, rows.items()):
        for axes, (title, picture) in zip(axes_row, images):
            axes.imshow(picture.numpy(), **GREY)
            axes.set_title(title, fontsize=13)
            axes.set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(label, fontsize=15)
    save(figure, path)


# ---- many trainings ------------------------------------------------------------------------------

def tuning(lines, path):
    """The search: relative distance against the critic's rate and the generator's ratio to it on the first rung, and
    against the compute of the rungs for those that went on. lines: with "rung"."""
    figure, panels = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained", sharey=True)
    views = {"learning rate of the critic": lambda line: line["learning_rate"],
             "generator's learning rate over the critic's":
                 lambda line: line["generator_learning_rate"] / line["learning_rate"]}
    for axes, (what, value) in zip(panels, views.items()):
        for objective, (outcome, marker) in itertools.product(
                dict.fromkeys(line["objective"] for line in lines), (("trained", "o"), ("collapsed", "x"))):
            points = [(value(line), line["relative_distance"]) for line in lines
                      if (line["objective"], line["outcome"], line["rung"]) == (objective, outcome, 0)]
            if points:
                axes.plot(*zip(*points), marker, color=COLOURS[objective], label=f"{NAMES[objective]}, {outcome}")
        axes.set(xscale="log", yscale="log", xlabel=what)
        axes.grid(alpha=0.3)
    courses = {}
    for line in lines:
        courses.setdefault((line["objective"], line["draw"]), []).append((line["rung"], line["relative_distance"]))
    for (objective, _), course in courses.items():
        if len(course) > 1:
            panels[2].plot(*zip(*course), "o-", color=COLOURS[objective], linewidth=1, markersize=4)
    panels[2].set(xticks=range(3), xlabel="compute of a training, as a part of the comparison's")
    panels[2].set_xticklabels(["a tenth", "three tenths", "all"])
    panels[2].grid(alpha=0.3)
    for axes, title in zip(panels, ("all draws, a tenth of the compute", "the same", "the draws that went on")):
        axes.set_title(title)
    panels[1].xaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel(f"{DISTANCE} (validation images)")
    log_ticks(panels[0].yaxis)
    panels[1].legend(fontsize=8)
    figure.suptitle("The search: equally many draws of each objective, one run each")
    save(figure, path)


def comparison(lines, path):
    """Curves of every training against core minutes, in both feature spaces, and against iterations."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    minutes, iterations = ("core_seconds", 60, "minutes of one core"), ("iteration", 1000, "thousand iterations")
    views = ((minutes, "relative_distance", "classifier's features"),
             (minutes, "relative_distance_pixels", "64 principal components of the pixels"),
             (iterations, "relative_distance", "classifier's features"))
    for axes, ((x, unit, xlabel), y, space) in zip(panels, views):
        first = {line["objective"]: line for line in reversed(lines)}  # of each objective one line has a label
        for line in lines:
            objective, curve = line["objective"], line["curve"]
            axes.plot([point[x] / unit for point in curve], [point[y] for point in curve], ".-", markersize=3,
                      color=COLOURS[objective], alpha=0.7, linewidth=1,
                      label=NAMES[objective] if line is first[objective] else None)
        axes.set_title(space, fontsize=10)
        axes.set(yscale="log", xlabel=xlabel, ylabel=DISTANCE)
        log_ticks(axes.yaxis)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    figure.suptitle("Distance to the validation images at equal compute: every training a line", fontsize=11)
    save(figure, path)


def stability(result, paper, path):
    """Outcome of every run by objective, learning rate and setting; distances; the pairs as the paper's table 2."""
    figure = plt.figure(figsize=(10, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    heat, (left, middle, right) = above.subplots(), below.subplots(1, 3)
    outcome_table(heat, result["cells"])

    objectives = list(dict.fromkeys(cell["objective"] for cell in result["cells"]))
    for number, objective in enumerate(objectives):
        points = sorted((d, rest) for cell in result["cells"] if cell["objective"] == objective
                        for d, rest in zip(cell["relative_distances"], cell["came_to_rest"]) if d is not None)
        for (distance, rest), shift in zip(points, np.linspace(-0.3, 0.3, len(points))):
            left.plot(number + shift, distance, "o", markersize=4, color=COLOURS[objective],
                      markerfacecolor=COLOURS[objective] if rest else "white")
    left.set_xticks(range(len(objectives)), [NAMES[objective] for objective in objectives], fontsize=8)
    left.set_title("All runs; filled: had come to rest", fontsize=10)
    left.set(yscale="log", ylabel=DISTANCE)
    log_ticks(left.yaxis)
    left.grid(alpha=0.3)

    ours = result["only_dcgan_or_wgan_gp"]
    bars(middle, [ours], ["trained"])
    middle.set_title("Ours: same setting, rate, seed", fontsize=10)
    middle.set(ylabel="pairs of runs", ylim=(0, 1.3 * max(1, sum(ours.values()))))
    middle.legend(fontsize=8, ncols=2, loc="upper center")
    bars(right, [dict(zip((part for part, _, _ in PAIRS), row[1:])) for row in paper], [row[0] for row in paper])
    right.set_title("The paper's table 2 (32x32 ImageNet)", fontsize=10)
    right.set(ylabel="architectures", xlabel="least Inception score")
    save(figure, path)


def outcome_table(axes, cells):
    settings = list(dict.fromkeys(cell["setting"] for cell in cells))
    rows = list(dict.fromkeys((cell["objective"], cell["rate"], cell["learning_rate"]) for cell in cells))
    colours = np.ones((len(rows), len(settings), 4))
    for cell in cells:
        row = rows.index((cell["objective"], cell["rate"], cell["learning_rate"]))
        column, outcomes = settings.index(cell["setting"]), cell["outcomes"]
        colours[row, column] = np.mean([to_rgba(OUTCOMES[outcome], 0.35) for outcome in outcomes], axis=0)
        axes.text(column, row, ", ".join("NaN" if d is None else f"{d:.0f}" + "×" * (outcome == "collapsed")
                                         for d, outcome in zip(cell["relative_distances"], outcomes)),
                  ha="center", va="center", fontsize=9)
    axes.imshow(colours, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(settings)), [textwrap.fill(setting, 13) for setting in settings], fontsize=8.5)
    axes.set_yticks(range(len(rows)), [f"{NAMES[objective]}\n{RATES[rate]}: {value:g}"
                                       for objective, rate, value in rows], fontsize=9)
    axes.set_title("Relative Fréchet distances of the runs of each cell; green: trained; red, ×: collapsed.\n"
                   "On the left the learning rate of the critic", fontsize=11)


def bars(axes, rows, labels):
    """A bar per row of counts {part of PAIRS: count}."""
    height = np.zeros(len(rows))
    for part, name, colour in PAIRS:
        values = np.array([row[part] for row in rows])
        axes.bar(range(len(rows)), values, 0.6, bottom=height, color=colour, label=name)
        height += values
    axes.set_xticks(range(len(rows)), labels)
    axes.set_xlim(-0.8, len(rows) - 0.2)
