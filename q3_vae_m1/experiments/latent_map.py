"""Why unlabelled images help: M1's features on a map, with the labelled images and both classifiers' decisions.

The map is a t-SNE of 3,000 training images, the labelled ones among them. Classifiers and neighbour graph work in all
50 dimensions. Writes results/q3/latent_map_DATASET.png in about a minute.
"""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, images, plots, vae
from q3_vae_m1.command import Parser, add_folders, check_writable, number, run_main, seed, write
from q3_vae_m1.features import posterior_means

SHOWN = 3000
TITLES = {"svm": "SVM on the labelled images", "transductive": "SVM and label propagation in turns"}
EXAMPLES = """examples:
  python q3_vae_m1/latent_map.py
  python q3_vae_m1/latent_map.py --dataset fashion --labels 600"""


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--dataset", type=images.dataset_name, default="mnist", help="(default: mnist)")
    parser.add_argument("--labels", type=number(int, 10, SHOWN), default=100, help="(default: 100)")
    parser.add_argument("--seed", type=seed, default=0, help="of the draw of the labelled images (default: 0)")
    add_folders(parser, "data", "weights", "results")
    o = parser.parse_args()
    path = o.results_dir / "q3" / f"latent_map_{o.dataset}.png"
    check_writable(path.parent)

    model, _ = vae.load_vae(o.weights_dir, o.dataset)
    data = images.load(o.dataset, o.data_dir)
    labels = data.train_labels.numpy()
    drawn = classifiers.labelled_draw(data.train_labels, o.labels, o.seed)
    others = np.setdiff1d(np.arange(len(labels)), drawn)
    shown = np.concatenate([drawn, np.random.default_rng(o.seed).permutation(others)[:SHOWN - len(drawn)]])
    with tqdm(total=4, bar_format="{desc}{n_fmt} of {total_fmt}") as progress:
        progress.set_description("features and neighbour graph")
        features = posterior_means(model, data.train)
        graph = classifiers.neighbour_graph(features)
        decisions = {}
        for classifier, title in TITLES.items():
            progress.update()
            progress.set_description(title)
            svm = classifiers.fit(classifier, o.dataset, "M1", features, drawn, labels, graph)
            found = classifiers.predict(svm, features)
            wrong = 100 * float((found != labels)[others].mean())
            decisions[f"{title}:\n{wrong:.1f} % wrong of the {len(others):,} unlabelled images"] = found[shown]
        progress.update()
        progress.set_description("t-SNE map, half a minute")
        places = plots.t_sne(features[shown])
        progress.update()
    edges = np.stack(graph[shown][:, shown].nonzero(), 1)
    write(path, plots.latent_map(places, o.labels, labels[shown], edges, decisions, o.dataset))
    print(f"saved {path}")


if __name__ == "__main__":
    run_main(main)
