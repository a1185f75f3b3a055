"""Test error of a saved model over the 10,000 test images: in all, per class, and as a picture of the confusion matrix.

No option describes the network: the weights do. The options only pick the files.
"""
import argparse
import sys
from pathlib import Path

import classify
import images as data
import pictures
import store
from m1 import LIKELIHOODS, latents

EXAMPLES = """examples:
  python q3_vae_m1/test.py --labels 100
  python q3_vae_m1/test.py --labels 100 600 1000 3000 --dataset mnist
  python q3_vae_m1/test.py --labels 100 --classifier transductive
"""


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--labels", type=int, nargs="+", default=[100, 600, 1000, 3000], metavar="N", help="label counts (default: all four)")
    add("--dataset", choices=data.FOLDERS, default="fashion")
    add("--classifier", choices=classify.CLASSIFIERS, default="svm")
    add("--likelihood", choices=LIKELIHOODS, default="gaussian", help="which of the saved VAEs")
    add("--data-dir", type=Path, default=store.ROOT / "data")
    add("--weights-dir", type=Path, default=store.ROOT / "weights")
    add("--results-dir", type=Path, default=store.ROOT / "results")
    o = parser.parse_args(argv)
    for n in o.labels:
        data.check_labels(n)
    store.check_writable(o.results_dir)
    command = f"python q3_vae_m1/train.py --dataset {o.dataset} --likelihood {o.likelihood}"
    model, vae = store.load_vae(store.vae_path(o.weights_dir, o.dataset, o.likelihood), f"{command} --retrain")
    paths = {n: store.classifier_path(o.weights_dir, o.dataset, o.likelihood, n, o.classifier) for n in o.labels}
    fitted = {n: store.load_classifier(path, vae, f"{command} --labels {n} --classifier {o.classifier}") for n, path in paths.items()}

    images = data.load(o.dataset, o.data_dir)
    features = latents(model, images.test_x).numpy()
    for n, content in fitted.items():
        report = classify.report(content["svm"], features, images.test_y.numpy())
        store.save_json(o.results_dir / f"{paths[n].stem}.json", report)
        picture = o.results_dir / f"{paths[n].stem}_confusion.png"
        pictures.confusion(picture, report, o.dataset, f"M1 + {o.classifier}, {n} labels: {report['error']:.2f} % test error")
        print(f"{o.dataset}, {n} labels, {classify.describe(content['svm'])}: test error {report['error']:.2f} % of {report['images']:,} images")
        for name, error in zip(data.CLASSES[o.dataset], report["error_per_class"]):
            print(f"  {name:<10} {error:6.2f} %")
        print(f"  confusion matrix -> {picture}")


if __name__ == "__main__":
    try:
        main()
    except (data.ImagesError, store.StoreError, ValueError) as error:
        sys.exit(classify.fail(error))
