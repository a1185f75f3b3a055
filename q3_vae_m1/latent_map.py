"""Why unlabelled images help: M1's features on a map, with the labelled images and both classifiers' decisions.

The map is a t-SNE of 3,000 training images, the labelled ones among them. Classifiers and neighbour graph work in all
50 dimensions. Writes results/q3/latent_map_DATASET.png in about a minute.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, images, plots, vae
from q3_vae_m1.command import Parser, add_folders, check_writable, name, number, run_main, seed, write
from q3_vae_m1.features import posterior_means, train_command

SHOWN = 3000
EXAMPLES = """examples:
  python q3_vae_m1/latent_map.py
  python q3_vae_m1/latent_map.py --dataset fashion --labels 600"""


def draw(places, drawn, labels, edges, decisions, dataset):
    """The three panels. places: (n, 2), the labelled images first; labels: (n,); edges: pairs of rows; decisions:
    {title: classes (n,)}."""
    figure, axes = plots.plt.subplots(1, 3, figsize=(13, 5), layout="constrained")
    axes[0].add_collection(LineCollection(places[edges], colors="0.75", linewidths=0.4))
    axes[0].scatter(*places[drawn:].T, s=2, color="0.5")
    axes[0].set_title(f"{drawn} labelled images and the neighbour graph\nof the {len(places):,} images shown")
    for axis, (title, found) in zip(axes[1:], decisions.items()):
        wrong = found != labels
        axis.scatter(*places.T, s=4, color=[plots.COLOURS[c] for c in found])
        axis.scatter(*places[wrong].T, s=22, marker="x", linewidths=0.8, color="black", label="wrong")
        axis.set_title(title)
        axis.legend(loc="lower left")
    for c, label in enumerate(images.class_names(dataset)):
        own = places[:drawn][labels[:drawn] == c]
        axes[0].scatter(*own.T, s=40, color=plots.COLOURS[c], edgecolor="black", linewidths=0.6, label=label, zorder=3)
    axes[0].legend(loc="lower left", ncols=2, markerscale=0.8)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"{images.title(dataset)}: M1's features on a t-SNE map; colours are classes")
    return plots.png(figure)


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--dataset", type=name, default="mnist", help="(default: mnist)")
    parser.add_argument("--labels", type=number(int, 10, SHOWN), default=100, help="(default: 100)")
    parser.add_argument("--seed", type=seed, default=0, help="of the draw of the labelled images (default: 0)")
    add_folders(parser, "data", "weights", "results")
    o = parser.parse_args()
    path = o.results_dir / "q3" / f"latent_map_{o.dataset}.png"
    check_writable(path.parent)

    model, _ = vae.load_vae(vae.vae_path(o.weights_dir, o.dataset), train_command(o.dataset, "gaussian"))
    data = images.load(o.dataset, o.data_dir)
    labels = data.train_labels.numpy()
    drawn = classifiers.labelled_draw(data.train_labels, o.labels, o.seed)
    with tqdm(total=4, bar_format="{desc}: {n_fmt} of {total_fmt}") as progress:
        progress.set_description("features and neighbour graph")
        features = posterior_means(model, data.train).numpy()
        graph = classifiers.neighbour_graph(features)
        others = np.setdiff1d(np.arange(len(labels)), drawn)
        shown = np.concatenate([drawn, np.random.default_rng(o.seed).permutation(others)[:SHOWN - len(drawn)]])
        decisions = {}
        for title, fit in (
                ("SVM on the labelled images", lambda: classifiers.fit_svm(
                    features[drawn], labels[drawn], **classifiers.svm_settings(o.dataset))),
                ("SVM and label propagation in turns", lambda: classifiers.fit_transductive(
                    features, drawn, labels[drawn], graph, classifiers.transductive_settings(o.dataset, o.labels)))):
            progress.update()
            progress.set_description(title)
            found = classifiers.predict(fit(), features)
            wrong = 100 * float((found != labels)[others].mean())
            decisions[f"{title}:\n{wrong:.1f} % wrong of the {len(others):,} unlabelled images"] = found[shown]
        progress.update()
        progress.set_description("t-SNE map, half a minute")
        places = plots.t_sne(features[shown])
        progress.update()
    local = graph[shown][:, shown].tocoo()
    write(path, draw(places, o.labels, labels[shown], np.stack([local.row, local.col], 1), decisions, o.dataset))
    print(f"saved {path}")


if __name__ == "__main__":
    run_main(main)
