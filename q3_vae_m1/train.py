"""Trains M1, the VAE of Kingma et al. 2014, and a classifier on its features for each number of labels (Algorithm 1).

The VAE that ships is used again where it has the settings asked for, so the first command below takes seconds. The
classifier is an SVM on the posterior means of the N labelled images, or, with --classifier transductive, one that also
learns from unlabelled images (the paper's setting). Weights, their SHA-256 and the test errors are written together or
not at all; a fit that equals what is there writes nothing.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, command, files, images, m1, plots, vae
from q3_vae_m1.command import UserError, as_json, name, number, read_json, seed
from q3_vae_m1.features import VAES, posterior_means, train_command

EXAMPLES = """examples:
  python q3_vae_m1/train.py --labels 100            Fashion-MNIST: the shipped VAE, an SVM on 100 labels
  python q3_vae_m1/train.py --dataset mnist         MNIST: SVMs on 100, 600, 1000 and 3000 labels
  python q3_vae_m1/train.py --labels 100 --classifier transductive
  python q3_vae_m1/train.py --retrain               a new VAE first; after an interruption --resume goes on with it
  python q3_vae_m1/train.py --quick                 a test of the installation: trains a little, keeps nothing
  python q3_vae_m1/train.py --dataset kmnist        your own images: four idx files in data/kmnist/raw"""
SETTINGS = ("epochs", "kl_weight", "distort", "learning_rate", "batch_size", "vae_seed")  # given by an option each
PRECISIONS = ("float32", "bfloat16")


def arguments():
    parser = command.Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--labels", type=number(int, 10, 10**6), nargs="+", metavar="N",
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
    add("--precision", choices=("auto", *PRECISIONS), default="auto",
        help="of the training's matrix products (default: what is faster here)")
    files.add_device(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--retrain", action="store_true", help="train a VAE even where one of these settings ships")
    group.add_argument("--resume", action="store_true", help="go on with the interrupted training of a VAE")
    group.add_argument("--quick", action="store_true", help="train a little on few images, and keep nothing")
    command.add_folders(parser, "data", "weights", "results")
    options = parser.parse_args()
    options.labels = sorted(set(options.labels or ([100] if options.quick else classifiers.COUNTS)))
    return options


# ---- the VAE -------------------------------------------------------------------------------------

def obtain_vae(options, data, device):
    """(model, description) of the VAE asked for: the one that ships, or one trained here, which then ships."""
    path = vae.vae_path(options.weights_dir, options.dataset, options.likelihood)
    remedy = train_command(options.dataset, options.likelihood)
    given = {key: value for key in SETTINGS if (value := getattr(options, key)) is not None}
    wanted = vae.settings(options.dataset, options.likelihood, **given)
    folder = run_folder(options)
    checkpoint = folder / "checkpoint.pt"
    if path.exists() and not (options.retrain or options.resume):
        model, description = vae.load_vae(path, remedy, device)
        if description["settings"] == wanted:
            print(f"VAE: {path.name}, trained before with the same settings", flush=True)
            return model, description
    with files.locked(folder, busy=f"{folder}: another training is going on there"):
        wanted, precision, resume = begin(options, folder, given, wanted, device)
        try:
            model, history = vae.train(wanted, data, device, folder, precision, resume)
        except KeyboardInterrupt:
            goes_on = "; --resume goes on from the last epoch" if checkpoint.exists() else ""
            raise KeyboardInterrupt(f"interrupted{goes_on}") from None
        description = {"dataset": options.dataset, "settings": wanted, "precision": precision,
                       "commit": files.commit(), "history": history[-1]}
        others = vae_results(options.results_dir / "q3" / path.stem, model, data, description, history)
        if results_path(options).exists():
            others[results_path(options)] = as_json({})  # of classifiers on the VAE that is replaced
        files.ship(options.weights_dir, {path.name: vae.as_bytes(model, description)}, others)
        checkpoint.unlink()  # last: until then the same command ships it again
    print(f"VAE: {history[-1]['seconds'] / 60:.1f} minutes, ELBO of the validation images "
          f"{history[-1]['validation_elbo']:.1f} nats -> {path}", flush=True)
    return vae.load_vae(path, remedy, device)  # float16 from here on, as every later run sees it


def run_folder(options):
    return options.results_dir / "runs" / vae.vae_path(options.weights_dir, options.dataset, options.likelihood).stem


def begin(options, folder, given, wanted, device):
    """(settings, precision, resume) of the training in `folder`: the one interrupted there if its options are those
    asked for, else a new one. --retrain discards another one, but never one that is finished and has not shipped."""
    checkpoint, record = folder / "checkpoint.pt", folder / "options.json"
    if checkpoint.exists():
        asked = (given if options.resume else wanted) | {"precision": options.precision}
        try:
            started, finished = interrupted(record, checkpoint, wanted)
        except UserError as error:
            if not options.retrain:
                raise UserError(f"{error}; --retrain starts anew") from None
            started, finished = {}, False
        other = [f"{key} {started.get(key)}, not {value}" for key, value in asked.items()
                 if value not in ("auto", started.get(key))]
        if not other:
            print(f"VAE: going on with the training in {folder}", flush=True)
            return {key: started[key] for key in wanted}, started["precision"], True
        if finished or not options.retrain:
            remedy = "ships it" if finished else "goes on with it, --retrain discards it"
            raise UserError(f"{folder}: the training interrupted there has {'; '.join(other)}: --resume alone {remedy}")
    checkpoint.unlink(missing_ok=True)
    precision = files.pick_precision(options.precision, device)
    command.write(record, as_json(wanted | {"precision": precision}))
    return wanted, precision, False


def interrupted(record, checkpoint, wanted):
    """(options, whether it is finished) of an interrupted training. Raises UserError where its files are damaged."""
    started, state = read_json(record), files.from_torch(command.read(checkpoint), checkpoint)
    settings, history = state.get("settings"), state.get("history")
    if not isinstance(settings, dict) or not isinstance(history, list) or settings.keys() != wanted.keys():
        raise UserError(f"{checkpoint}: damaged, not a checkpoint of a VAE")
    if started not in (settings | {"precision": precision} for precision in PRECISIONS):
        raise UserError(f"{record}: damaged, not the options of the checkpoint beside it")
    return started, len(history) >= started["epochs"]


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
    labels = data.train_labels.numpy()
    features = next(name for name, likelihood in VAES.items() if likelihood == options.likelihood)
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


def shipped(path, description, report):
    """The report of the classifier at `path` where it is this fit, else None. Machines round differently: that may
    move one test image in a thousand."""
    try:
        old = classifiers.load_classifier(path, description, "")["report"]
        moved = np.abs(np.subtract(old["confusion"], report["confusion"])).sum() / 2
        return old if moved <= 0.001 * report["images"] else None
    except (UserError, KeyError):
        return None


def results_path(options):
    variant = "" if options.likelihood == "gaussian" else f"_{options.likelihood}"
    return options.results_dir / "q3" / f"classifiers_{options.dataset}{variant}.json"


def read_results(path):
    """{classifier: {label count as text: report}}, empty where there is none. Raises UserError for anything else."""
    results = read_json(path) if path.exists() else {}
    try:
        [(int(n), report["confusion"]) for by_count in results.values() for n, report in by_count.items()]
        return results
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: damaged, not what the scripts write") from None


def ship_classifiers(options, weights, reports):
    """Write classifiers, {name: bytes}, the record of all reports and its picture, but for what is there already."""
    record = results_path(options)
    picture = record.with_name(f"{record.stem.replace('classifiers', 'confusion', 1)}.png")
    with files.locked(record.parent):  # another command may add to the record
        before = read_results(record)
        added = before.get(options.classifier, {}) | {str(n): report for n, report in reports.items()}
        results = before | {options.classifier: dict(sorted(added.items(), key=lambda item: int(item[0])))}
        if weights or results != before or not picture.exists():
            shown = {classifier: {n: by_count[n] for n in dict.fromkeys([*by_count][:1] + [*by_count][-1:])}
                     for classifier, by_count in sorted(results.items())}  # the fewest and the most labels
            others = {record: as_json(results), picture: plots.confusion(shown, options.dataset)}
            files.ship(options.weights_dir, weights, others)
    print(f"-> {options.weights_dir}, {record}" if weights else "nothing new: these classifiers are there")


def main():
    options = arguments()
    device = files.pick_device(options.device)
    data = images.load(options.dataset, options.data_dir)
    if not options.quick:
        return run(options, data, device)
    data = images.Images(*(part[:n] for part, n in zip(data, (5000, 5000, 500, 500, 1000, 1000))))
    with tempfile.TemporaryDirectory() as scratch:
        options.weights_dir = options.results_dir = Path(scratch)
        options.epochs = options.epochs or 2
        run(options, data, device)
    print("all works; nothing of this was kept")


def run(options, data, device):
    draws = {n: classifiers.labelled_draw(data.train_labels, n, options.seed) for n in options.labels}
    read_results(results_path(options))  # what is wrong is said before the work, and leaves nothing behind
    if options.resume and not (run_folder(options) / "checkpoint.pt").exists():
        raise UserError(f"--resume: no interrupted training in {run_folder(options)}")
    command.check_writable(options.weights_dir, options.results_dir / "q3", options.results_dir / "runs")
    model, trained = obtain_vae(options, data, device)
    test, truth = posterior_means(model, data.test).numpy(), data.test_labels.numpy()
    weights, reports = {}, {}
    for n, svm in fit(options, data, model, draws):
        report = classifiers.report(svm, test, truth)
        description = {"dataset": options.dataset, "labels": n, "classifier": options.classifier, "seed": options.seed,
                       "likelihood": options.likelihood, "vae_sha256": trained["sha256"]}
        path = classifiers.classifier_path(options.weights_dir, options.dataset, options.likelihood, n,
                                           options.classifier)
        reports[n] = shipped(path, description, report)
        if not reports[n]:
            reports[n], more = report, {"report": report, "commit": files.commit()}
            weights[path.name] = classifiers.as_bytes(svm, description | more)
        tqdm.write(f"{images.title(options.dataset)}, {n} labels, {classifiers.describe(svm)}: "
                   f"test error {report['error']:.2f} %")
    ship_classifiers(options, weights, reports)


if __name__ == "__main__":
    command.run_main(main)
