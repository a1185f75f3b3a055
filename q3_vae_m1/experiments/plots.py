"""Pictures of the experiments, as the bytes of PNG files."""

import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection

from q3_vae_m1.images import class_names, title
from q3_vae_m1.plots import COLOURS, WIDTH, picture


@picture
def table(tables, paper):
    """Test error against the number of labels, a panel per data set.

    tables: {data set: rows of table_DATASET.json}. paper: {method: {label count: error in %}}, drawn beside MNIST.
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 3.8), squeeze=False, layout="constrained")
    for axis, (dataset, rows) in zip(axes[0], tables.items()):
        for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
            own = [row for row in rows if row["method"] == method]
            labels, means, deviations = zip(*((r["labels"], r["error_mean"], r["error_std"] or 0) for r in own))
            axis.errorbar(labels, means, deviations, marker="o", ms=3, capsize=2, color=COLOURS[i], label=method)
        for style, (method, errors) in zip(("--", ":", "-."), paper.items() if dataset == "mnist" else ()):
            axis.plot(list(errors), list(errors.values()), style, color="0.35", label=f"paper: {method}")
        counts = sorted({row["labels"] for row in rows})
        axis.set(xscale="log", yscale="log", xlabel="labelled images", ylabel="test error [%]", title=title(dataset))
        axis.minorticks_off()
        low, high = axis.get_ylim()
        axis.set_xticks(counts, map(str, counts))
        axis.set_yticks(*zip(*[(t, str(t)) for t in (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50) if low <= t <= high]))
        axis.grid(alpha=0.3)
    known = {}
    for axis in axes[0]:  # the methods of all panels, each once
        known |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(known.values(), known, loc="outside lower center", ncols=3, frameon=False)
    return figure


@picture
def latent_map(places, drawn, labels, edges, decisions, dataset):
    """The labelled images among others, and which classes the classifiers give them.

    places: (n, 2), the `drawn` labelled images first; labels: (n,); edges: (m, 2) pairs of rows; decisions: {title:
    classes (n,)}.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6.2), layout="constrained")
    truth, graph, *others = axes.flat
    truth.scatter(*places.T, s=2, color=[COLOURS[c] for c in labels])
    truth.set_title(f"{len(places):,} images, coloured by their true class")
    graph.add_collection(LineCollection(places[edges], colors="0.75", linewidths=0.4))
    graph.scatter(*places[drawn:].T, s=1, color="0.5")
    graph.set_title(f"{drawn} labelled images, and the neighbour graph")
    for c, name in enumerate(class_names(dataset)):
        own = places[:drawn][labels[:drawn] == c]
        graph.scatter(*own.T, s=25, color=COLOURS[c], edgecolor="black", linewidths=0.5, label=name, zorder=3)
    figure.legend(*graph.get_legend_handles_labels(), loc="outside lower center", ncols=10 if dataset == "mnist" else 5)
    for axis, (heading, found) in zip(others, decisions.items()):
        axis.scatter(*places.T, s=2, color=[COLOURS[c] for c in found])
        axis.scatter(*places[found != labels].T, s=14, marker="x", linewidths=0.7, color="black", label="wrong")
        axis.set_title(heading)
        axis.legend(loc="lower left")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"{title(dataset)}: M1's features on a t-SNE map; colours are classes")
    return figure
