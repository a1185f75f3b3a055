"""Trains M1, the VAE of Kingma et al. 2014, and a classifier on its features for each number of labels (Algorithm 1).

The VAE that ships is used again where it has the settings asked for, so the first command below takes seconds. The
classifier is an SVM on the posterior means of the N labelled images, or, with --classifier transductive, one that also
learns from unlabelled images (the paper's setting). Weights, their SHA-256 and the test errors are written together or
not at all; a fit that equals what is there writes nothing.
"""

import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, m1, plots, vae
from q3_vae_m1.command import (
    Parser,
    UserError,
    add_folders,
    as_json,
    check_writable,
    name,
    number,
    read_json,
    run_main,
    seed,
    write,
)
from q3_vae_m1.features import VAES, posterior_means, train_command

EXAMPLES = """examples:
  python q3_vae_m1/train.py --labels 100            Fashion-MNIST: the shipped VAE, an SVM on 100 labels
  python q3_vae_m1/train.py --dataset mnist         MNIST: SVMs on 100, 600, 1000 and 3000 labels
  python q3_vae_m1/train.py --labels 100 --classifier transductive
  python q3_vae_m1/train.py --retrain               a new VAE first; after an interruption --resume goes on with it
  python q3_vae_m1/train.py --quick                 a test of the installation: trains a little, keeps nothing
  python q3_vae_m1/train.py --dataset kmnist        your own images: four idx files in data/kmnist/raw"""
SETTINGS = ("epochs", "kl_weight", "distort", "learning_rate", "batch_size", "vae_seed")  # given by an option each


def arguments():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--labels", type=number(int, 10, 10**6), nargs="+", metavar="N", default=classifiers.COUNTS,
        help="numbers of labels, multiples of 10 (default: 100 600 1000 3000)")
    add("--dataset", type=name, default="fashion", help="fashion, mnist, or NAME of data/NAME/raw (default: fashion)")
    add("--classifier", choices=classifiers.CLASSIFIERS, default="svm", help="(default: svm)")
    add("--seed", type=seed, default=0, help="of the draw of the labelled images (default: 0)")
    add = parser.add_argument_group("the VAE").add_argument
    add("--likelihood", choices=m1.LIKELIHOODS, default="gaussian", help="bernoulli is the paper's (default: gaussian)")
    add("--epochs", type=number(int, 1, 10**5), help="(default: 60; MNIST with the Gaussian likelihood 100)")
    add("--kl-weight", type=number(float, 0, 1000), help="after the warm-up (default: by data set, deviation 2)")
    add("--distort", type=number(float, 0, 10), help="strength of the affine maps that the encoder sees images through "
        "(default: by data set, deviation 3)")
    add("--learning-rate", type=number(float, above=0, high=10), help="at its peak (default: 0.001)")
    add("--batch-size", type=number(int, 1, 10**5), help="images per step (default: 200)")
    add("--vae-seed", type=seed, help="of the VAE's training (default: 0)")
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto",
        help="of the training's matrix products (default: what is faster here)")
    files.add_device(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--retrain", action="store_true", help="train a VAE even where one of these settings ships")
    group.add_argument("--resume", action="store_true", help="go on with the interrupted training of a VAE")
    group.add_argument("--quick", action="store_true", help="train a little on few images, and keep nothing")
    add_folders(parser, "data", "weights", "results")
    return parser.parse_args()


# ---- the VAE -------------------------------------------------------------------------------------

def obtain_vae(options, data, device):
    """(model, description) of the VAE asked for: the one that ships, or one trained here, which then ships."""
    path = vae.vae_path(options.weights_dir, options.dataset, options.likelihood)
    command = train_command(options.dataset, options.likelihood)
    given = {key: value for key in SETTINGS if (value := getattr(options, key)) is not None}
    wanted = vae.settings(options.dataset, options.likelihood, **given)
    folder = options.results_dir / "runs" / path.stem
    if path.exists() and not (options.retrain or options.resume):
        model, description = vae.load_vae(path, command, device)
        if description["settings"] == wanted:
            print(f"VAE: {path.name}, trained before with the same settings", flush=True)
            return model, description
    with files.locked(folder, busy=f"{folder}: another training is going on there"):
        wanted, precision = begin(options, folder, given, wanted, device)
        try:
            model, history = vae.train(wanted, data, device, folder, precision, options.resume)
        except KeyboardInterrupt:
            goes_on = "; --resume goes on from the last epoch" if (folder / "checkpoint.pt").exists() else ""
            raise KeyboardInterrupt(f"interrupted{goes_on}") from None
        description = {"dataset": options.dataset, "settings": wanted, "precision": precision,
                       "commit": files.commit(), "history": history[-1]}
        files.ship(options.weights_dir, {path.name: vae.as_bytes(model, description)},
                   vae_results(options.results_dir / "q3" / path.stem, model, data, description, history))
        (folder / "checkpoint.pt").unlink()  # last: until then --resume ships it again
    print(f"VAE: {history[-1]['seconds'] / 60:.1f} minutes, ELBO of the validation images "
          f"{history[-1]['validation_elbo']:.1f} nats -> {path}", flush=True)
    return vae.load_vae(path, command, device)  # float16 from here on, as every later run sees it


def begin(options, folder, given, wanted, device):
    """(settings, precision) of the training in `folder`: with --resume those of the one that is there."""
    checkpoint, record = folder / "checkpoint.pt", folder / "options.json"
    if options.resume:
        if not checkpoint.exists():
            raise UserError(f"--resume: no interrupted training in {folder}")
        started = read_json(record)
        if started.keys() != {*wanted, "precision"}:
            raise UserError(f"{record}: damaged, not the options of a training; --retrain starts anew")
        if options.precision != "auto":
            given = given | {"precision": options.precision}
        for key, value in given.items():
            if started[key] != value:
                raise UserError(f"--{key.replace('_', '-')}: the training in {folder} has {started[key]}, and keeps it")
        return {key: started[key] for key in wanted}, started["precision"]
    if checkpoint.exists() and not options.retrain:
        raise UserError(f"{folder}: an interrupted training is there; --resume goes on with it, --retrain starts anew")
    checkpoint.unlink(missing_ok=True)
    precision = files.pick_precision(options.precision, device)
    write(record, as_json(wanted | {"precision": precision}))
    return wanted, precision


def vae_results(stem, model, data, description, history):
    """{path: content} of a VAE's record and pictures, with names that begin with `stem`."""
    print("drawing the VAE's pictures, some ten seconds for the t-SNE map", flush=True)
    record = {key: description[key] for key in ("settings", "precision", "commit")} | {"last_epoch": history[-1]}
    dataset = description["dataset"]
    content = {".json": as_json(record), "_loss.png": plots.loss(description["settings"], history),
               "_reconstructions.png": plots.reconstructions(model, data, dataset),
               "_samples.png": plots.samples(model, dataset), "_latent.png": plots.latent(model, data, dataset)}
    return {stem.with_name(stem.name.removeprefix("q3_") + ending): made for ending, made in content.items()}


# ---- the classifiers -----------------------------------------------------------------------------

def fit(options, data, model, draws):
    """Yield (label count, SVC) for every draw, {label count: rows}."""
    labels, settings_of = data.train_labels.numpy(), {value: key for key, value in VAES.items()}
    features = settings_of[options.likelihood]
    everything = posterior_means(model, data.train).numpy()
    if options.classifier == "transductive":
        print(f"building the neighbour graph of {len(labels):,} images, some seconds", flush=True)
        graph = classifiers.neighbour_graph(everything)
    for n, rows in tqdm(draws.items(), desc=options.classifier, unit="fit", leave=False):
        if options.classifier == "svm":
            chosen = classifiers.svm_settings(options.dataset, features)
            yield n, classifiers.fit_svm(everything[rows], labels[rows], **chosen)
        else:
            chosen = classifiers.transductive_settings(options.dataset, n, features)
            yield n, classifiers.fit_transductive(everything, rows, labels[rows], graph, chosen)


def ship_classifier(options, n, svm, description, report):
    """Write the classifier, its SHA-256 and its line in results/q3, unless the same is there. Says which."""
    path = classifiers.classifier_path(options.weights_dir, options.dataset, options.likelihood, n, options.classifier)
    record = results_path(options)
    results = read_json(record) if record.exists() else {}
    old = results.get(options.classifier, {}).get(str(n))
    try:
        kept = classifiers.load_classifier(path, description, "")["report"] == report == old
    except (UserError, KeyError):
        kept = False
    if kept:
        return f"as {path} has it"
    results.setdefault(options.classifier, {})[str(n)] = report
    content = classifiers.as_bytes(svm, description | {"report": report, "commit": files.commit()})
    files.ship(options.weights_dir, {path.name: content}, {record: as_json(results)})
    return f"-> {path}"


def results_path(options):
    variant = "" if options.likelihood == "gaussian" else f"_{options.likelihood}"
    return options.results_dir / "q3" / f"classifiers_{options.dataset}{variant}.json"


def draw_confusion(options, picture):
    """The confusion matrices of the fewest and the most labels of each classifier."""
    results = read_json(results_path(options))
    shown = {classifier: {n: by_count[n] for n in dict.fromkeys((min(by_count, key=int), max(by_count, key=int)))}
             for classifier, by_count in sorted(results.items())}
    write(picture, plots.confusion(shown, options.dataset))


def main():
    options = arguments()
    device = files.pick_device(options.device)
    if options.quick:
        return quick(options, device)
    check_writable(options.weights_dir, options.results_dir / "q3", options.results_dir / "runs")
    return run(options, images.load(options.dataset, options.data_dir), device)


def quick(options, device):
    """Everything on few images, in a folder that is thrown away."""
    data = images.load(options.dataset, options.data_dir)
    data = images.Images(*(part[:n] for part, n in zip(data, (5000, 5000, 500, 500, 1000, 1000))))
    with tempfile.TemporaryDirectory() as scratch:
        options.weights_dir = options.results_dir = Path(scratch)
        options.labels, options.epochs = [100], 2
        run(options, data, device)
    print("all works; nothing of this was kept")


def run(options, data, device):
    draws = {n: classifiers.labelled_draw(data.train_labels, n, options.seed) for n in sorted(set(options.labels))}
    model, trained = obtain_vae(options, data, device)
    test, truth = posterior_means(model, data.test).numpy(), data.test_labels.numpy()
    before = results_path(options).read_bytes() if results_path(options).exists() else None
    for n, svm in fit(options, data, model, draws):
        report = classifiers.report(svm, test, truth)
        description = {"dataset": options.dataset, "labels": n, "classifier": options.classifier, "seed": options.seed,
                       "likelihood": options.likelihood, "vae_sha256": trained["sha256"]}
        where = ship_classifier(options, n, svm, description, report)
        tqdm.write(f"{images.title(options.dataset)}, {n} labels, {classifiers.describe(svm)}: "
                   f"test error {report['error']:.2f} % {where}")
    picture = results_path(options).with_name(f"{results_path(options).stem.replace('classifiers', 'confusion')}.png")
    if results_path(options).read_bytes() != before or not picture.exists():
        draw_confusion(options, picture)


if __name__ == "__main__":
    run_main(main)
