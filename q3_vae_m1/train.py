"""Trains M1, the VAE of Kingma et al. 2014, and a classifier on its features for each number of labels (Algorithm 1).

The VAE that ships is used again where it has the settings asked for, so the first command below takes seconds. The
classifier is an SVM on the posterior means of the N labelled images, or, with --classifier transductive, one that also
learns from unlabelled images (the paper's setting). Weights, their SHA-256 and the test errors are written together or
not at all; a fit that equals what is there writes nothing.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, command, files, images, m1, plots, vae
from q3_vae_m1.command import UserError, as_json, number, read_json, seed
from q3_vae_m1.features import VAES, posterior_means

EXAMPLES = """examples:
  python q3_vae_m1/train.py --labels 100            Fashion-MNIST: the shipped VAE, an SVM on 100 labels
  python q3_vae_m1/train.py --dataset mnist         MNIST: SVMs on 100, 600, 1000 and 3000 labels
  python q3_vae_m1/train.py --labels 100 --classifier transductive
  python q3_vae_m1/train.py --retrain               a new VAE first; after an interruption --resume goes on with it
  python q3_vae_m1/train.py --quick                 a test of the installation: trains a little, keeps nothing
  python q3_vae_m1/train.py --dataset kmnist        your own images: four idx files in data/kmnist/raw"""


def arguments():
    parser = command.Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--labels", type=number(int, 10, 10**6), nargs="+", metavar="N",
        help="numbers of labels, multiples of 10 (default: 100 600 1000 3000, as far as the images go)")
    add("--dataset", type=images.dataset_name, default="fashion",
        help="fashion, mnist, or NAME of data/NAME/raw (default: fashion)")
    add("--classifier", choices=classifiers.CLASSIFIERS, default="svm", help="(default: svm)")
    add("--seed", type=seed, default=0, help="of the draw of the labelled images (default: 0)")
    add = parser.add_argument_group("the VAE").add_argument
    add("--likelihood", choices=m1.LIKELIHOODS, default="gaussian", help="bernoulli is the paper's (default: gaussian)")
    add("--epochs", type=number(int, 1, 10**5), help="(default: 60; MNIST with the Gaussian likelihood 100)")
    add("--kl-weight", type=number(float, 0, 1000), help="after the warm-up (default: 0.02; MNIST 0.1; bernoulli 1)")
    add("--distort", type=number(float, 0, 10), help="strength of the affine maps that the encoder sees images through "
        "(default: 0.2; MNIST 1; bernoulli 0)")
    add("--learning-rate", type=number(float, above=0, high=10), help="at its peak (default: 0.001)")
    add("--vae-seed", type=seed, help="of the VAE's training (default: 0)")
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto",
        help="of the training's matrix products (default: what is faster here)")
    files.add_device(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--retrain", action="store_true", help="train a new VAE, whatever is there")
    group.add_argument("--resume", action="store_true",
                       help="go on with the interrupted training of a VAE; give --labels and --classifier again")
    group.add_argument("--quick", action="store_true", help="train a little on few images, and keep nothing")
    command.add_folders(parser, "data", "weights", "results")
    o = parser.parse_args()
    o.labels = [100] if o.quick and not o.labels else o.labels
    return o


# ---- the VAE -------------------------------------------------------------------------------------

def obtain_vae(o, data, device):
    """(model, what its file says) of the VAE asked for: the one that ships, or one trained here, which then ships."""
    path = vae.vae_path(o.weights_dir, o.dataset, o.likelihood)
    folder = o.results_dir / "runs" / path.stem
    checkpoint = folder / "checkpoint.pt"
    if o.resume and not checkpoint.exists():
        raise UserError(f"--resume: no interrupted training in {folder}")
    command.check_writable(o.weights_dir, o.results_dir / "q3", folder.parent)
    given = {key: value for key in vae.GIVEN if (value := getattr(o, key)) is not None}
    wanted = vae.settings(o.dataset, o.likelihood, **given)
    if path.exists() and not (o.retrain or o.resume):
        model, trained = vae.load_vae(o.weights_dir, o.dataset, o.likelihood, device)
        if trained["settings"] == wanted:
            print(f"VAE: {path.name}, trained before with the same settings", flush=True)
            return model, trained
    with files.locked(folder, busy=f"{folder}: another training is going on there"):
        if o.retrain:
            checkpoint.unlink(missing_ok=True)
        options = vae.interrupted(folder)
        if options:
            asked = (given if o.resume else wanted) | {"precision": o.precision}
            other = [f"{key} {options[key]}, not {value}" for key, value in asked.items()
                     if value not in ("auto", options[key])]
            if other:
                raise UserError(f"{folder}: the training interrupted there has {'; '.join(other)}: --resume alone goes "
                                "on with it, --retrain discards it")
            print(f"VAE: going on with the training in {folder}", flush=True)
        else:
            options = wanted | {"precision": files.pick_precision(o.precision, device)}
        try:
            model, history = vae.train(options, data, device, folder)
        except KeyboardInterrupt:
            goes_on = "; --resume goes on from the last epoch" if checkpoint.exists() else ""
            raise KeyboardInterrupt(f"interrupted{goes_on}") from None
        results = vae_results(o.results_dir / "q3" / path.stem.removeprefix("q3_"), model, data, options, history)
        if results_path(o).exists():
            results[results_path(o)] = as_json({})  # it is of classifiers on the VAE that is replaced
        files.ship(o.weights_dir, {path.name: vae.as_bytes(model, options, history)}, results)
        checkpoint.unlink()  # last: until then --resume ships it again
    print(f"VAE: {history[-1]['seconds'] / 60:.1f} minutes, ELBO of the validation images "
          f"{history[-1]['validation_elbo']:.1f} nats -> {path}", flush=True)
    return vae.load_vae(o.weights_dir, o.dataset, o.likelihood, device)  # float16, as every later run sees it


def vae_results(stem, model, data, options, history):
    """{path: content} of a VAE's record and pictures, with names that begin with `stem`."""
    print("drawing the VAE's pictures, some ten seconds for the t-SNE map", flush=True)
    dataset, precision = options["dataset"], options["precision"]
    record = {"settings": {key: value for key, value in options.items() if key != "precision"}, "precision": precision,
              "commit": files.commit(), "last_epoch": history[-1]}
    content = {".json": as_json(record), "_loss.png": plots.loss(options, history),
               "_reconstructions.png": plots.reconstructions(model, data, dataset),
               "_samples.png": plots.samples(model, dataset), "_latent.png": plots.latent(model, data, dataset)}
    return {stem.with_name(stem.name + ending): made for ending, made in content.items()}


# ---- the classifiers -----------------------------------------------------------------------------

def shipped(o, description, report):
    """The report of the classifier that is there where it is this fit, else None. Machines round differently: that may
    move one test image in a thousand."""
    try:
        old = classifiers.load_classifier(o.weights_dir, **description)["report"]
        moved = np.abs(np.subtract(old["confusion"], report["confusion"])).sum() / 2
        return old if moved <= 0.001 * report["images"] else None
    except (UserError, KeyError):
        return None


def results_path(o):
    variant = "" if o.likelihood == "gaussian" else f"_{o.likelihood}"
    return o.results_dir / "q3" / f"classifiers_{o.dataset}{variant}.json"


def ship_classifiers(o, weights, reports):
    """Write classifiers, {name: bytes}, the record of all reports and its picture, but for what is there already."""
    record = results_path(o)
    picture = record.with_name(f"{record.stem.replace('classifiers', 'confusion', 1)}.png")
    with files.locked(record.parent):  # another command may add to the record
        before = read_json(record) if record.exists() else {}
        added = before.get(o.classifier, {}) | {str(n): report for n, report in reports.items()}
        results = before | {o.classifier: dict(sorted(added.items(), key=lambda item: int(item[0])))}
        if weights or results != before or not picture.exists():
            shown = {classifier: {n: by_count[n] for n in dict.fromkeys([*by_count][:1] + [*by_count][-1:])}
                     for classifier, by_count in sorted(results.items())}  # the fewest and the most labels
            files.ship(o.weights_dir, weights, {record: as_json(results), picture: plots.confusion(shown, o.dataset)})
    print(f"-> {o.weights_dir}, {record}" if weights else "nothing new: these classifiers are there")


def run(o, data, device):
    fewest = int(data.train_labels.bincount(minlength=10).min())
    counts = o.labels or [n for n in classifiers.COUNTS if n <= 10 * fewest] or classifiers.COUNTS[:1]
    draws = {n: classifiers.labelled_draw(data.train_labels, n, o.seed) for n in sorted(set(counts))}
    if results_path(o).exists():
        read_json(results_path(o))  # if it is damaged, that is said before the work
    model, trained = obtain_vae(o, data, device)
    kind = next(features for features, likelihood in VAES.items() if likelihood == o.likelihood)
    features, test = posterior_means(model, data.train), posterior_means(model, data.test)
    labels, truth = data.train_labels.numpy(), data.test_labels.numpy()
    graph = None
    if o.classifier == "transductive":
        print(f"building the neighbour graph of {len(labels):,} images, some seconds", flush=True)
        graph = classifiers.neighbour_graph(features)
    weights, reports = {}, {}
    for n, rows in tqdm(draws.items(), desc=o.classifier, unit="fit", leave=False):
        svm = classifiers.fit(o.classifier, o.dataset, kind, features, rows, labels, graph)
        report = classifiers.report(svm, test, truth)
        description = {"dataset": o.dataset, "labels": n, "classifier": o.classifier, "seed": o.seed,
                       "likelihood": o.likelihood, "vae_sha256": trained["sha256"]}
        reports[n] = shipped(o, description, report)
        if not reports[n]:
            reports[n], more = report, {"report": report, "commit": files.commit()}
            path = classifiers.classifier_path(o.weights_dir, **description)
            weights[path.name] = classifiers.as_bytes(svm, description | more)
        tqdm.write(f"{images.title(o.dataset)}, {n} labels, {classifiers.describe(svm, o.classifier)}: "
                   f"test error {report['error']:.2f} %")
    ship_classifiers(o, weights, reports)


def main():
    o = arguments()
    device = files.pick_device(o.device)
    data = images.load(o.dataset, o.data_dir)
    with contextlib.ExitStack() as stack:
        if o.quick:
            data = images.Images(*(part[:n] for part, n in zip(data, (5000, 5000, 500, 500, 1000, 1000))))
            o.weights_dir = o.results_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            o.epochs = o.epochs or 2
        run(o, data, device)
    if o.quick:
        print("all works; nothing of this was kept")


if __name__ == "__main__":
    command.run_main(main)
