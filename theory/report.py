"""results/report.pdf, the written answer to all four questions, from theory/report.typ and the files in results/.

Every measured number in it is read from a file that one of the scripts wrote. Where such a file is missing, one line
names it with the command that makes it. Takes seconds.
"""
import hashlib
import json
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import typst

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from theory.command import Parser, UserError, add_folders, path, put, read, read_json, run_main, write

NEEDED = {  # by the command that makes it
    "python theory/q1_distances.py": ["q1/distances.json", "q1/distances.png"],
    "python theory/q2_gan_lab.py --publish NAME": [
        "q2/gan_lab.json", "q2/gan_lab.png", "q2/gan_lab_graphs.png", "q2/gan_lab_stages.png", "q2/gan_lab_hard.png",
        "q2/gan_lab_failed.png", "q2/gan_lab_histories.png"],
    "python q3_vae_m1/train.py": [
        "q3/vae_fashion.json", "q3/vae_fashion_bernoulli.json", "q3/vae_fashion_reconstructions.png",
        "q3/vae_fashion_samples.png", "q3/vae_fashion_bernoulli_samples.png", "q3/vae_fashion_latent.png"],
    "python q3_vae_m1/table.py": ["q3/table_fashion.json", "q3/table_mnist.json", "q3/table.png"],
    "python q3_vae_m1/latent_map.py": ["q3/latent_map_mnist.png"],
    "python q4_wgan/train_classifier.py": ["q4/classifier.json"],
    "python q4_wgan/evaluate.py": ["q4/scores.json"],
    "python q4_wgan/figures.py": ["q4/losses.png", "q4/images.png", "q4/dcgan_samples.png", "q4/wgan_samples.png"],
}
# Used where they are there; without them the report says what is not yet measured.
OPTIONAL = ("q3/differences.json", "q4/tuning.json", "q4/comparison.json", "q4/comparison.png", "q4/stability.json",
            "q4/stability.png", "q4/benchmark.json")
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib", "typst")


def stage(results, folder):
    """Lay report.typ, the results and what.json into `folder` for typst. Raises UserError where some are missing.

    Returns the SHA-256 of all but what.json, which the PDF has as its keyword: it tells what the PDF was made of.
    """
    missing = {command: [name for name in names if not (results / name).is_file()] for command, names in NEEDED.items()}
    if any(missing.values()):
        raise UserError(f"missing in {results}: " + "; ".join(
            f"{', '.join(names)} ({command})" for command, names in missing.items() if names))
    present = [name for names in (*NEEDED.values(), OPTIONAL) for name in names if (results / name).is_file()]
    for name in present:
        if name.endswith(".json"):
            read_json(results / name, (dict, list))  # a damaged one is named
        (folder / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        put(folder / "results" / name, read(results / name))
    put(folder / "report.typ", read(Path(__file__).with_name("report.typ")))
    made_of = hashlib.sha256(b"".join(read(path) for path in sorted(folder.rglob("*")) if path.is_file())).hexdigest()
    versions = {"Python": platform.python_version(), **{package: metadata.version(package) for package in PACKAGES}}
    put(folder / "what.json", json.dumps({"present": present, "versions": versions, "made_of": made_of}))
    return made_of


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python theory/report.py
  python theory/report.py --out copy.pdf""")
    add_folders(parser, "results")
    parser.add_argument("--out", type=path, help="the PDF (default: report.pdf in the results folder)")
    args = parser.parse_args()
    out = args.out or args.results_dir / "report.pdf"
    with tempfile.TemporaryDirectory() as folder:
        stage(args.results_dir, Path(folder))
        try:
            pdf = typst.compile(str(Path(folder) / "report.typ"), root=folder)
        except Exception as error:  # the package raises its own kinds; a wrong key in a result ends here
            message = " ".join(str(error).split())[:400]
            raise UserError(f"typst, on the results in {args.results_dir}: {message}") from None
    write(out, pdf)
    print(f"saved {out}")


if __name__ == "__main__":
    run_main(main)
