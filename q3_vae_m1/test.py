"""Test error of trained classifiers, in all and per class, on the test images. Writes nothing but the picture of --out.

No option describes a network or a kernel: the files in weights/ do. The options only pick the files.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, files, images, m1, plots, vae
from q3_vae_m1.command import Parser, UserError, add_folders, check_writable, number, path, run_main, write
from q3_vae_m1.features import posterior_means

EXAMPLES = """examples:
  python q3_vae_m1/test.py --labels 100
  python q3_vae_m1/test.py --dataset mnist --classifier transductive
  python q3_vae_m1/test.py --labels 600 1000 --out confusion.png"""


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--labels", type=number(int, 10, 10**6), nargs="+", metavar="N",
        help="numbers of labels (default: those of 100 600 1000 3000 that were trained)")
    add("--dataset", type=images.dataset_name, default="fashion", help="(default: fashion)")
    add("--classifier", choices=classifiers.CLASSIFIERS, default="svm", help="(default: svm)")
    add("--likelihood", choices=m1.LIKELIHOODS, default="gaussian", help="of the VAE (default: gaussian)")
    add("--out", type=path, metavar="PNG", help="a picture of the confusion matrices")
    files.add_device(parser)
    add_folders(parser, "data", "weights")
    o = parser.parse_args()
    device = files.pick_device(o.device)
    if o.out:
        if o.out.suffix.lower() != ".png":
            raise UserError(f"--out {o.out}: must end in .png")
        check_writable(o.out.parent)

    model, trained = vae.load_vae(o.weights_dir, o.dataset, o.likelihood, device)
    which = {"dataset": o.dataset, "likelihood": o.likelihood, "classifier": o.classifier}
    of_vae = {"vae_sha256": trained["sha256"], "vae_options": vae.as_options(trained["settings"])}
    counts = o.labels or [n for n in classifiers.COUNTS if classifiers.classifier_path(
        o.weights_dir, labels=n, **which).exists()] or classifiers.COUNTS[:1]
    fitted = {n: classifiers.load_classifier(o.weights_dir, labels=n, **which, **of_vae)["svm"]
              for n in sorted(set(counts))}
    data = images.load(o.dataset, o.data_dir)
    features, reports = posterior_means(model, data.test), {}
    for n, svm in fitted.items():
        reports[n] = classifiers.report(svm, features, data.test_labels.numpy())
        print(f"{images.title(o.dataset)}, {n} labels, {classifiers.describe(svm, o.classifier)}: test error "
              f"{reports[n]['error']:.2f} % of {reports[n]['images']:,} images")
        for label, error in zip(images.class_names(o.dataset), reports[n]["error_per_class"]):
            print(f"  {label:<10} {error:6.2f} %")
    if o.out:
        write(o.out, plots.confusion({o.classifier: reports}, o.dataset))
        print(f"saved {o.out}")


if __name__ == "__main__":
    run_main(main)
