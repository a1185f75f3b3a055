"""Why unlabelled images help: a 2-D map of M1's features with the labelled images, the graph, and both classifiers' decisions.

The map is a t-SNE of 3,000 training images that includes the labelled ones; graph and classifiers work in all 50 dimensions. Writes
results/q3_transductive_DATASET_map.png and, beside it, the numbers in its titles as JSON.
"""
import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from sklearn.manifold import TSNE

import classify
import images as data
import pictures
import store
from m1 import latents

SHOWN = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="examples:\n  python q3_vae_m1/explain.py\n  python q3_vae_m1/explain.py --dataset fashion --labels 600",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", choices=data.FOLDERS, default="mnist")
    add("--labels", type=int, default=100)
    add("--seed", type=int, default=0)
    add("--data-dir", type=Path, default=store.ROOT / "data")
    add("--weights-dir", type=Path, default=store.ROOT / "weights")
    add("--results-dir", type=Path, default=store.ROOT / "results")
    o = parser.parse_args()
    store.check_writable(o.results_dir)
    model, _ = store.load_vae(store.vae_path(o.weights_dir, o.dataset, "gaussian"), f"python q3_vae_m1/train.py --dataset {o.dataset} --retrain")
    images = data.load(o.dataset, o.data_dir)
    split = images.validation
    labels = images.train_y[:split].numpy()
    drawn = data.labelled_draw(images.train_y[:split], o.labels, o.seed)
    print("features, graph and classifiers", flush=True)
    features = latents(model, images.train_x[:split]).numpy()
    graph = classify.neighbour_graph(features)
    machines = {"SVM on the labelled images": classify.fit_svm(features[drawn], labels[drawn], **classify.SVM[o.dataset, "M1"]),
                "SVM and graph in turns": classify.fit_transductive(features, drawn, labels[drawn], graph, o.dataset)}
    others = np.random.default_rng(o.seed).permutation(np.setdiff1d(np.arange(split), drawn))[:SHOWN - len(drawn)]
    shown = np.concatenate([drawn, others])
    print("t-SNE map", flush=True)
    places = TSNE(2, init="pca", random_state=0, n_jobs=-1).fit_transform(features[shown])

    figure, axes = plt.subplots(1, 3, figsize=(17, 6.2))
    local = graph[shown][:, shown].tocoo()
    axes[0].add_collection(LineCollection(np.stack([places[local.row], places[local.col]], 1), colors="0.75", linewidths=0.4))
    axes[0].scatter(*places[len(drawn):].T, s=2, color="0.5")
    axes[0].set_title(f"{o.labels} labelled of {split:,} training images\nand the graph's edges between the {len(shown):,} shown")
    errors = {}
    for axis, (name, machine) in zip(axes[1:], machines.items()):
        found = classify.predict(machine, features)
        wrong = found != labels
        unseen = np.setdiff1d(np.arange(split), drawn)
        errors[name] = round(100 * float(wrong[unseen].mean()), 2)
        axis.scatter(*places.T, s=4, color=[pictures.COLOURS[c] for c in found[shown]])
        axis.scatter(*places[wrong[shown]].T, s=26, marker="x", linewidths=0.8, color="black", label="wrong")
        axis.set_title(f"{name}: its decisions\n{errors[name]:.2f} % wrong of the {len(unseen):,} unlabelled training images")
    for c, name in enumerate(data.CLASSES[o.dataset]):
        own = labels[drawn] == c
        axes[0].scatter(*places[:len(drawn)][own].T, s=45, color=pictures.COLOURS[c], edgecolor="black", linewidths=0.6, label=name, zorder=3)
    axes[0].legend(fontsize=8, loc="lower left", ncols=2, markerscale=0.8)
    axes[1].legend(fontsize=8, loc="lower left")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"{pictures.NAMES[o.dataset]}: M1's features on a t-SNE map; colours are classes")
    figure.tight_layout()
    path = o.results_dir / f"q3_transductive_{o.dataset}_map.png"
    pictures.save(figure, path)
    store.save_json(path.with_suffix(".json"), {"dataset": o.dataset, "labels": o.labels, "seed": o.seed, "error_on_unlabelled_training_images": errors})
    print(f"{errors} -> {path}")


if __name__ == "__main__":
    try:
        main()
    except (data.ImagesError, store.StoreError, ValueError) as error:
        sys.exit(classify.fail(error))
