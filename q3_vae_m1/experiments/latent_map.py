"""Why unlabelled images help: M1's features on a map, with the labelled images and both classifiers' decisions.

The map is a t-SNE of 3,000 training images of MNIST, 100 labelled ones among them. Classifiers and neighbour graph work
in all 50 dimensions. Writes latent_map_mnist.png into --out in about a minute.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, images, vae
from q3_vae_m1.command import ROOT, Parser, path, run_main, shown, write
from q3_vae_m1.experiments import plots
from q3_vae_m1.features import posterior_means, shipped
from q3_vae_m1.plots import t_sne

LABELS, SHOWN = 100, 3000
TITLES = {"svm": "SVM on the labelled images", "transductive": "SVM and label propagation in turns"}
EXAMPLES = """examples:
  python q3_vae_m1/experiments/latent_map.py
  python q3_vae_m1/experiments/latent_map.py --out results/q3"""


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--out", type=path, default=ROOT / "results/runs/q3_latent_map", metavar="FOLDER",
        help="(default: results/runs/q3_latent_map)")
    add("--data-dir", type=path, default=ROOT / "data", metavar="DIR", help="of the images (default: the repository's)")
    o = parser.parse_args()

    data, model = images.load("mnist", o.data_dir), vae.load(shipped("mnist"))[0]
    labels = data.train_labels.numpy()
    drawn = classifiers.labelled_draw(data.train_labels, LABELS, 0)
    others = np.setdiff1d(np.arange(len(labels)), drawn)
    rows = np.concatenate([drawn, np.random.default_rng(0).permutation(others)[:SHOWN - len(drawn)]])
    print("features and neighbour graph", flush=True)
    features, decisions = posterior_means(model, data.train), {}
    graph = classifiers.neighbour_graph(features)
    for classifier, title in TITLES.items():
        print(title, flush=True)
        svm = classifiers.fit(classifier, "mnist", "M1", features, drawn, labels, graph)
        found = classifiers.predict(svm, features)
        wrong = 100 * float((found != labels)[others].mean())
        decisions[f"{title}:\n{wrong:.1f} % wrong of the {len(others):,} unlabelled images"] = found[rows]
    print("t-SNE map, half a minute", flush=True)
    places = t_sne(features[rows])
    edges = np.stack(graph[rows][:, rows].nonzero(), 1)
    picture = plots.latent_map(places, LABELS, labels[rows], edges, decisions, "mnist")
    write(o.out / "latent_map_mnist.png", picture, sync=False)
    print(f"saved {shown(o.out / 'latent_map_mnist.png')}")


if __name__ == "__main__":
    run_main(main)
