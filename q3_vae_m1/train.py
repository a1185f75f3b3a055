"""M1 on Fashion-MNIST or MNIST: a VAE, then an SVM on its features for each number of labels (Algorithm 1).

With 100 labels the test error is 25.56 % on Fashion-MNIST and 11.13 % on MNIST, in seconds, since the VAE that ships is
used. With an option of the VAE, or --retrain, one of your own is trained first: three to five minutes on two CPU cores
that are quick in bfloat16, up to half an hour on others.

A run is a folder, results/runs/NAME, complete in itself. Killed or interrupted, the same command goes on with it; more
--labels add classifiers. The last line printed is the command that tests it.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, m1, plots, vae
from q3_vae_m1.command import ROOT, Parser, add_folders, as_json, number, read_json, run_main, seed, shown, typed, write
from q3_vae_m1.command import name as name_type
from q3_vae_m1.features import VAES, encoder, shipped

VAE_OPTIONS = ("epochs", "kl_weight", "distort", "learning_rate", "vae_seed")
PICTURES_EVERY = 30  # seconds
EXAMPLES = """examples:
  python q3_vae_m1/train.py --labels 100            Fashion-MNIST: the shipped VAE, an SVM on 100 labels
  python q3_vae_m1/train.py --dataset mnist --classifier transductive
  python q3_vae_m1/train.py --retrain               a VAE of your own, with the settings of the one that ships
  python q3_vae_m1/train.py --epochs 10 --kl-weight 1 --labels 100 --name mine
  python q3_vae_m1/train.py --quick                 a test of the installation: trains a little, keeps nothing
  python q3_vae_m1/train.py --dataset kmnist        your own images: four idx files in data/kmnist/raw"""


def arguments():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--labels", type=number(int, 2, 10**6), nargs="+", metavar="N",
        help="numbers of labels, as many of each class (default: 100 600 1000 3000, as far as the images go)")
    images.add_dataset(parser)
    add("--classifier", choices=classifiers.CLASSIFIERS, default="svm",
        help="virtual: sees distorted copies, too; transductive: unlabelled images, too (default: svm)")
    add("--seed", type=seed, default=0, help="of the draw of the labelled images (default: 0)")
    add("--name", type=name_type, help="of the folder in results/runs (default: one that tells the options)")
    add("--quick", action="store_true", help="train a little on few images, and keep nothing")
    add("--likelihood", choices=m1.LIKELIHOODS, default="gaussian",
        help="of the VAE; bernoulli is the paper's, and ships, too (default: gaussian)")
    add = parser.add_argument_group("a VAE of your own, trained if one of these or --precision is given").add_argument
    add("--retrain", action="store_true", help="with the settings of the VAE that ships")
    add("--epochs", type=number(int, 1, 10**5), help="(default: 60; MNIST with the Gaussian likelihood 100)")
    add("--kl-weight", type=number(float, 0, 1000), help="after the warm-up (default: 0.02; MNIST 0.1; bernoulli 1)")
    add("--distort", type=number(float, 0, 10), help="strength of the affine maps that the encoder sees images through "
        "(default: 0.2; MNIST 1; bernoulli 0)")
    add("--learning-rate", type=number(float, 1e-9, 10), help="at its peak (default: 0.001)")
    add("--vae-seed", type=seed, help="of the VAE's training (default: 0)")
    files.add_device(parser)
    add_folders(parser)
    return parser.parse_args()


def describe_run(o):
    """(options that tell this run from another, default name of its folder)."""
    given = {key: value for key in VAE_OPTIONS if (value := getattr(o, key)) is not None}
    draw = f"_draw{o.seed}" if o.seed else ""
    if not (given or o.retrain or o.precision != "auto") and shipped(o.dataset, o.likelihood).exists():
        options = {"vae": "as shipped", "dataset": o.dataset, "likelihood": o.likelihood, "seed": o.seed}
        return options, f"q3_shipped_{o.likelihood}_{o.dataset}{draw}"
    usual, chosen = (vae.settings(o.dataset, o.likelihood, **changes) for changes in ({}, given))
    changed = "".join(f"_{key}{chosen[key]:g}" for key in VAE_OPTIONS[:-1] if chosen[key] != usual[key])
    options = {"vae": "trained here", **chosen, "seed": o.seed}
    return options, f"q3_{o.likelihood}_{o.dataset}{changed}_seed{chosen['vae_seed']}{draw}"


def obtain_vae(o, options, data, folder):
    """The model of the run folder: there already, copied from what ships, or trained."""
    if options["vae"] == "as shipped" and not (folder / "vae.pt").exists():
        source = shipped(o.dataset, o.likelihood)
        for file in ("loss.png", "reconstructions.png", "samples.png", "latent.png", "vae.json", "vae.pt"):
            write(folder / file, (source / file).read_bytes(), sync=False)
    if (folder / "vae.pt").exists():
        if o.retrain:
            print(f"the VAE of {shown(folder)} is trained already; another --name trains one anew")
        return vae.load(folder, options["device"])[0]

    drawn = float("-inf")

    def show(model, history):
        nonlocal drawn
        last = len(history) == options["epochs"]
        if last or time.perf_counter() - drawn > PICTURES_EVERY:
            pictures = {"loss": plots.loss(options, history), "samples": plots.samples(model, o.dataset),
                        "reconstructions": plots.reconstructions(model, data, o.dataset)}
            if last:
                tqdm.write("drawing the map of the latents, some ten seconds")
                pictures["latent"] = plots.latent(model, data, o.dataset)
            for what, picture in pictures.items():
                write(folder / f"{what}.png", picture, sync=False)
            drawn = time.perf_counter()

    where = "" if o.quick else f": loss.png, reconstructions.png and samples.png in {shown(folder)} show how it gets on"
    print(f"training a VAE in {options['precision']} on {options['device']}{where}", flush=True)
    model, trained = vae.obtain(folder, options, data, show)
    last = trained["last_epoch"]
    print(f"VAE: {last['seconds'] / 60:.1f} minutes, ELBO of the validation images {last['validation_elbo']:.1f} nats")
    return model


def run(o, data, folder, options):
    """The VAE and a classifier for each number of labels, in a run folder."""
    counts = sorted(set(o.labels or classifiers.default_counts(data.train_labels)[:1 if o.quick else None]))
    draws = {n: classifiers.labelled_draw(data.train_labels, n, o.seed) for n in counts}  # errors before the work
    options = files.open_run(folder, options, o)
    model = obtain_vae(o, options, data, folder)
    missing = {n: rows for n, rows in draws.items() if not (folder / f"{o.classifier}_{n}.json").exists()}
    if missing:
        name = next(name for name, likelihood in VAES.items() if likelihood == o.likelihood)
        encode = encoder(name, model=model)
        features, test = encode(data.train), encode(data.test)
        labels, truth, graph = data.train_labels.numpy(), data.test_labels.numpy(), None
        if o.classifier.startswith("transductive"):
            print(f"building the neighbour graph of {len(labels):,} images, some seconds", flush=True)
            graph = classifiers.neighbour_graph(features)
    for n in tqdm(counts, desc=o.classifier, unit="fit", leave=False):
        stem = f"{o.classifier}_{n}"
        if n in missing:
            rows = draws[n]
            copies = partial(classifiers.virtual_examples, data.train[rows], labels[rows], encode, o.seed)
            svm = classifiers.fit(o.classifier, o.dataset, name, features, rows, labels, graph, copies)
            told = {"dataset": o.dataset, "likelihood": o.likelihood, "classifier": o.classifier, "labels": n,
                    "seed": o.seed, "kernel": classifiers.describe(svm, o.classifier),
                    **classifiers.report(svm, test, truth)}
            write(folder / f"{stem}.joblib", classifiers.as_bytes(svm, told | {"commit": files.commit()}))
            write(folder / f"{stem}.png", plots.confusion(f"{o.classifier}, {n} labels", told, o.dataset), sync=False)
            write(folder / f"{stem}.json", as_json(told))  # last: what has it is complete
        told = read_json(folder / f"{stem}.json")
        tqdm.write(f"{images.title(o.dataset)}, {n} labels, {told['kernel']}: test error {told['error']:.2f} %"
                   f"{'' if n in missing else ', fitted before'}")


def main():
    o = arguments()
    if o.quick:
        o.epochs = o.epochs or 2
    options, usual_name = describe_run(o)
    data = images.load(o.dataset, o.data_dir)
    if o.quick:
        data = images.Images(*(part[:n] for part, n in zip(data, (5000, 5000, 500, 500, 1000, 1000))))
        with tempfile.TemporaryDirectory() as folder:
            run(o, data, Path(folder), options)
        print("all works: a VAE and a classifier were trained on a few images; nothing of this was kept")
        return
    folder = o.results_dir / "runs" / (o.name or usual_name)
    try:
        run(o, data, folder, options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on") from None
    words = ["python", "q3_vae_m1/test.py", "--run", typed(folder)]
    words += ["--classifier", o.classifier] if o.classifier != "svm" else []
    words += ["--data-dir", typed(o.data_dir)] if o.data_dir != ROOT / "data" else []
    print(*words)


if __name__ == "__main__":
    run_main(main)
