"""The pictures of the experiments and of the shipped pair, as PNG bytes.

They are 7.5 inches wide and nothing in them is under 8 points, so that it can be read at the width of a page.
"""

import contextlib
import itertools
import textwrap

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from PIL import Image, ImageDraw, ImageFont

from .. import plots, sampling
from ..plots import COLOURS, DISTANCE, NAMES, as_png, log_ticks
from . import jobs

RATES = {"paper": "papers'", "between": "between", "tuned": "search's"}
COMPARED = {**NAMES, "wgan": "WGAN-GP, five steps", "wgan-gp-steps": "WGAN-GP, one step"}  # of compare.py
OUTCOMES = {"converged": "tab:green", "far": "gold", "collapsed": "tab:red", "diverged": "black"}
PAIRS = (("only_dcgan", "only DCGAN", "tab:blue"), ("only_wgan_gp", "only WGAN-GP", "tab:orange"),
         ("both", "both", "tab:olive"), ("neither", "neither", "lightgrey"))
# Gulrajani et al. 2017, table 2: (least Inception score, only GAN, only WGAN-GP, both, neither) of 200 architectures.
TABLE_2 = ((1.0, 0, 8, 192, 0), (3.0, 1, 88, 110, 1), (5.0, 0, 147, 42, 11), (7.0, 1, 104, 5, 90), (9.0, 0, 0, 0, 200))
WIDTH = 7.5  # inches
GREY = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}


@contextlib.contextmanager
def style():
    with plots.style():
        matplotlib.rcParams.update({"font.size": 8.5, "axes.titlesize": 9.5, "legend.fontsize": 8,
                                    "figure.titlesize": 10.5, "axes.axisbelow": True})
        yield


def losses(rows):
    """rows: {objective: rows of its metrics.csv}."""
    with style():
        figure, panels = plt.subplots(len(rows), 2, figsize=(WIDTH, 2.5 * len(rows)))
        for pair, (objective, mine) in zip(panels, rows.items()):
            plots.draw_losses(pair, mine, objective)
        figure.suptitle("Losses of the two shipped trainings; the peaks of the first iterations are cut off")
        return as_png(figure)


def headed(grids, size=34, space=24):
    """PNG of grids side by side, uint8 (height, width) each, below their titles: every pixel as it is."""
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
    heights, widths = zip(*(grid.shape for _, grid in grids))
    canvas = Image.new("L", (sum(widths) + space * (len(grids) - 1), max(heights) + round(1.6 * size)), 255)
    left = 0
    for title, grid in grids:
        canvas.paste(Image.fromarray(np.asarray(grid)), (left, round(1.6 * size)))
        ImageDraw.Draw(canvas).text((left + grid.shape[1] // 2, size // 5), title, fill=0, font=font, anchor="ma")
        left += grid.shape[1] + space
    return sampling.as_png(canvas)


def training(pixels, iterations, title):
    """A row of images per moment of a training. pixels: uint8 (rows, columns, 28, 28)."""
    rows, columns = pixels.shape[:2]
    with style():
        figure, axes = plt.subplots(figsize=(1 + 0.55 * columns, 0.7 + 0.55 * rows))
        axes.imshow(sampling.grid(pixels.flatten(0, 1), columns=columns, scale=2).numpy(), **GREY)
        axes.set(title=f"{title}: seeds 0 to {columns - 1} as training went", xticks=[], ylabel="generator iteration")
        axes.set_yticks([28 + 60 * k for k in range(rows)], [f"{n:,}" for n in iterations])
        axes.grid(False)
        return as_png(figure)


def film(pixels, iterations, title):
    """The same as the bytes of a GIF, a frame per moment."""
    frames = []
    for iteration, images in zip(iterations, pixels):
        sheet = sampling.grid(images, columns=5, scale=3).numpy()
        frame = Image.fromarray(np.pad(sheet, ((16, 0), (0, 0)), constant_values=255))
        ImageDraw.Draw(frame).text((2, 2), f"{title}, iteration {iteration:,}", fill=0)
        frames.append(frame)
    return sampling.as_gif(frames, seconds=0.7)


def two_of_each(rows):
    """rows: {class: [(title, uint8 (28, 28)) of DCGAN's image, a real one and WGAN-GP's]}."""
    with style():
        figure, panels = plt.subplots(len(rows), 3, figsize=(4.2, 1.47 * len(rows)), squeeze=False)
        for axes_row, (label, images) in zip(panels, rows.items()):
            for axes, (title, picture) in zip(axes_row, images):
                axes.imshow(picture.numpy(), **GREY)
                axes.set_title(title, fontsize=8)
                axes.set(xticks=[], yticks=[])
            axes_row[0].set_ylabel(label, fontsize=8)
        return as_png(figure)


def tuning(rungs, parts):
    """The search: relative distance against the critic's rate and the generator's ratio to it on the first rung, and
    against the compute of the rungs for those that went on. rungs: of tune.search; parts: the names of the rungs."""
    views = {"learning rate of the critic": lambda line: line["learning_rate"],
             "generator's rate / critic's": lambda line: line["generator_learning_rate"] / line["learning_rate"]}
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(WIDTH, 4.2), sharey=True)
        for (axes, (what, value)), (name, mine) in itertools.product(zip(panels, views.items()), rungs.items()):
            for marker, outcomes in (("o", ("converged", "far")), ("x", ("collapsed",))):
                points = [(value(line), line["relative_distance"]) for line in mine[0] if line["outcome"] in outcomes]
                if points:
                    axes.plot(*zip(*points), marker, color=COLOURS[name], markersize=4,
                              label=NAMES[name] if marker == "o" and axes is panels[0] else None)
            axes.set(xscale="log", yscale="log", xlabel=what, title=f"all draws, {parts[0]}")
        for name, mine in rungs.items():
            for number in {line["draw"] for lines in mine[1:] for line in lines}:
                course = [(rung, line["relative_distance"]) for rung, lines in enumerate(mine) for line in lines
                          if line["draw"] == number]
                panels[2].plot(*zip(*course), "o-", color=COLOURS[name], linewidth=1, markersize=3)
        panels[2].set_xticks(range(len(parts)), parts)
        panels[2].set(xlabel="of the comparison's compute", title="the draws that went on")
        panels[1].xaxis.set_major_formatter("{x:g}")
        panels[0].set_ylabel(f"{DISTANCE} (validation images)")
        log_ticks(panels[0].yaxis)
        if panels[0].get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4)
        draws = max(len(mine[0]) for mine in rungs.values())
        figure.suptitle(f"The search: {draws} draws of each, one run each; ×: collapsed")
        return as_png(figure)


def comparison(lines):
    """Curves of every training against compute, in both feature spaces, and against iterations.

    lines: {model: lines of its trainings}."""
    compute = "compute, thousand\niterations of DCGAN"
    views = ((jobs.cost, compute, "relative_distance", "classifier's features"),
             (jobs.cost, compute, "relative_distance_pixels", "pixels' components"),
             (lambda line: 1, "thousand\niterations", "relative_distance", "classifier's features"))
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(WIDTH, 3.6))
        for axes, (unit, xlabel, y, space) in zip(panels, views):
            for model, line in ((model, line) for model, mine in lines.items() for line in mine):
                label = COMPARED[model] if axes is panels[0] and line is lines[model][0] else None
                axes.plot([point["iteration"] * unit(line) / 1000 for point in line["curve"]],
                          [point[y] for point in line["curve"]], ".-", markersize=3, color=COLOURS[model], alpha=0.7,
                          linewidth=1, label=label)
            axes.set(yscale="log", xlabel=xlabel, title=space)
            log_ticks(axes.yaxis)
        panels[0].set_ylabel(DISTANCE)
        if panels[0].get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4)
        figure.suptitle("Distance to the validation images at equal compute: every training a line")
        return as_png(figure)


def stability(result):
    """Outcome of every run by objective, learning rate and setting; distances; the pairs beside the paper's table 2."""
    with style():
        figure = plt.figure(figsize=(WIDTH, 8.8))
        above, below = figure.subfigures(2, 1, height_ratios=(1.7, 1))
        heat, (left, middle, right) = above.subplots(), below.subplots(1, 3)
        outcome_table(heat, result["cells"])

        objectives = list(dict.fromkeys(cell["objective"] for cell in result["cells"]))
        for number, objective in enumerate(objectives):
            distances = sorted(distance for cell in result["cells"] if cell["objective"] == objective
                               for distance in cell["relative_distances"] if distance is not None)
            left.plot(number + np.linspace(-0.3, 0.3, len(distances)), distances, "o", markersize=3,
                      color=COLOURS[objective])
        left.axhline(100, color="grey", linewidth=0.8)
        left.set_xticks(range(len(objectives)), [NAMES[objective].replace(" ", "\n") for objective in objectives])
        left.set(title="All runs", yscale="log", ylabel=DISTANCE)
        log_ticks(left.yaxis)

        ours = [result["only_dcgan_or_wgan_gp"], result["only_dcgan_or_wgan_gp_within_100"]]
        bars(middle, ours, ["ten classes", "within 100"])
        middle.set(title="Same setting, rate, seed", ylabel="pairs of runs",
                   ylim=(0, 1.45 * max(1, sum(ours[0].values()))))
        middle.legend(ncols=1, loc="upper center")
        theirs = [dict(zip((part for part, _, _ in PAIRS), row[1:])) for row in TABLE_2]
        bars(right, theirs, [f"{row[0]:g}" for row in TABLE_2])
        right.set(title="The paper's table 2", ylabel="architectures", xlabel="least Inception score")
        return as_png(figure)


def outcome_table(axes, cells):
    settings = list(dict.fromkeys(cell["setting"] for cell in cells))
    rows = list(dict.fromkeys((cell["objective"], cell["rate"], cell["learning_rate"]) for cell in cells))
    colours = np.ones((len(rows), len(settings), 4))
    for cell in cells:
        row = rows.index((cell["objective"], cell["rate"], cell["learning_rate"]))
        column = settings.index(cell["setting"])
        if cell["outcomes"]:
            colours[row, column] = np.mean([to_rgba(OUTCOMES[outcome], 0.35) for outcome in cell["outcomes"]], axis=0)
        axes.text(column, row, "\n".join("NaN" if d is None else f"{d:.0f}" + "×" * (outcome == "collapsed")
                                         for d, outcome in zip(cell["relative_distances"], cell["outcomes"])),
                  ha="center", va="center")
    axes.imshow(colours, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(settings)), [textwrap.fill(setting, 11) for setting in settings], fontsize=8)
    labels = [f"{NAMES[objective]}\n{RATES[rate]}: {value:g}" for objective, rate, value in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.grid(False)
    axes.set_title("Relative Fréchet distances. Green: converged; yellow: all ten classes, but above 100;\n"
                   "red, ×: collapsed; mixed: one run of each. On the left the learning rate of the critic")


def bars(axes, rows, labels):
    """A bar per row of counts {part of PAIRS: count}."""
    height = np.zeros(len(rows))
    for part, name, colour in PAIRS:
        values = np.array([row[part] for row in rows])
        axes.bar(range(len(rows)), values, 0.6, bottom=height, color=colour, label=name)
        height += values
    axes.set_xticks(range(len(rows)), labels)
    axes.set_xlim(-0.8, len(rows) - 0.2)
