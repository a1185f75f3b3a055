"""Test error of trained classifiers, in all and per class, on the test images: of a run of your own, or of what ships.

No option describes a network or a kernel: the files do. Writes nothing; confusion matrices lie beside the classifiers.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import classifiers, images, m1, vae
from q3_vae_m1.command import ROOT, Parser, UserError, number, path, run_main, shown
from q3_vae_m1.features import posterior_means, shipped

EXAMPLES = """examples:
  python q3_vae_m1/test.py --labels 100                           what ships, on Fashion-MNIST
  python q3_vae_m1/test.py --dataset mnist --classifier transductive
  python q3_vae_m1/test.py --run results/runs/mine                a run of your own, as train.py's last line says"""


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--run", type=path, metavar="FOLDER", help="a folder that train.py wrote (default: what ships)")
    add("--labels", type=number(int, 2, 10**6), nargs="+", metavar="N", help="numbers of labels (default: all there)")
    images.add_dataset(parser)
    add("--likelihood", choices=m1.LIKELIHOODS, default="gaussian", help="of the VAE that ships (default: gaussian)")
    add("--classifier", choices=classifiers.CLASSIFIERS, default="svm", help="(default: svm)")
    add("--data-dir", type=path, default=ROOT / "data", metavar="DIR", help="of the images (default: the repository's)")
    parser.set_defaults(dataset=None)
    o = parser.parse_args()

    folder = o.run or shipped(o.dataset or "fashion", o.likelihood)
    model, trained = vae.load(folder)
    dataset = trained["settings"]["dataset"]
    if o.dataset not in (None, dataset):
        raise UserError(f"--dataset {o.dataset}: {shown(folder)} is of {dataset}")
    there = sorted(int(file.stem.split("_")[1]) for file in folder.glob(f"{o.classifier}_*.joblib"))
    counts = sorted(set(o.labels or there))
    if not there or not set(counts) <= set(there):
        raise UserError(f"{shown(folder)}: its classifiers {o.classifier} are of {', '.join(map(str, there)) or 'no'} "
                        "labels; train.py with --labels and --classifier fits others")
    fitted = {n: classifiers.load(folder / f"{o.classifier}_{n}.joblib") for n in counts}
    data = images.load(dataset, o.data_dir)
    features = posterior_means(model, data.test)
    for n, svm in fitted.items():
        report = classifiers.report(svm, features, data.test_labels.numpy())
        print(f"{images.title(dataset)}, {n} labels, {classifiers.describe(svm, o.classifier)}: test error "
              f"{report['error']:.2f} % of {report['images']:,} images")
        for label, error in zip(images.class_names(dataset), report["error_per_class"]):
            if error is not None:
                print(f"  {label:<10} {error:6.2f} %")


if __name__ == "__main__":
    run_main(main)
