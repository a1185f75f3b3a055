"""results/report.pdf, the written answer to all four questions, from theory/report.typ and the files in results/.

Every measured number in it is read from a file that one of the scripts wrote. Where a file is missing, nothing is
built and one line names it with the command that makes it; --draft builds with a marked box in its place. Takes a few
seconds and the Python package `typst` (pip install typst).
"""
import json
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from theory.command import Parser, UserError, add_folders, path, put, read, read_json, run_main, write

COMMANDS = {  # what the report cannot do without, by the command that makes it
    "python theory/q1_distances.py": ["q1/distances.json", "q1/distances.png"],
    "python theory/q2_gan_lab.py --publish NAME": [
        "q2/gan_lab.json", "q2/gan_lab.png", "q2/gan_lab_graphs.png", "q2/gan_lab_stages.png", "q2/gan_lab_hard.png",
        "q2/gan_lab_failed.png", "q2/gan_lab_histories.png"],
    "python q3_vae_m1/train.py": [
        "q3/vae_fashion.json", "q3/vae_fashion_bernoulli.json", "q3/vae_fashion_reconstructions.png",
        "q3/vae_fashion_samples.png", "q3/vae_fashion_bernoulli_samples.png", "q3/vae_fashion_latent.png"],
    "python q3_vae_m1/table.py": ["q3/table_fashion.json", "q3/table_mnist.json", "q3/table.png"],
    "python q4_wgan/evaluate.py": ["q4/scores.json"],
    "python q4_wgan/figures.py": ["q4/losses.png", "q4/images.png", "q4/dcgan_samples.png", "q4/wgan_samples.png"],
}
REQUIRED = {name: command for command, names in COMMANDS.items() for name in names}
# Used where they are there; without them the report says what is not yet measured.
OPTIONAL = ("q3/differences.json", "q3/transductive_mnist_map.png", "q4/comparison.json", "q4/comparison.png",
            "q4/stability.json", "q4/stability.png")
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib", "typst")


def versions():
    """{package: version} of Python and those packages that are installed."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


def stage(results, folder):
    """Lay report.typ, the results and what.json (present, missing, commands, versions) into `folder` for typst."""
    present = [name for name in (*REQUIRED, *OPTIONAL) if (results / name).is_file()]
    for name in present:
        if name.endswith(".json"):
            read_json(results / name, (dict, list))  # a damaged one is named
        (folder / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        put(folder / "results" / name, read(results / name))
    missing = [name for name in REQUIRED if name not in present]
    put(folder / "what.json", json.dumps(
        {"present": present, "missing": missing, "commands": REQUIRED, "versions": versions()}))
    put(folder / "report.typ", read(Path(__file__).with_name("report.typ")))
    return missing


def build(results, draft=False):
    """The PDF's bytes and the missing results. Raises UserError for anything the user can mend."""
    try:
        import typst
    except ImportError:
        raise UserError("needs the package typst: pip install typst") from None
    with tempfile.TemporaryDirectory() as folder:
        missing = stage(results, Path(folder))
        if missing and not draft:
            commands = "; ".join(f"{command}: {', '.join(n for n in missing if REQUIRED[n] == command)}"
                                 for command in dict.fromkeys(REQUIRED[n] for n in missing))
            raise UserError(f"missing in {results} (--draft builds without them): {commands}")
        try:
            return typst.compile(str(Path(folder) / "report.typ"), root=folder), missing
        except Exception as error:  # the package raises its own kinds; a wrong key in a result ends here
            raise UserError(f"typst, on the results in {results}: {' '.join(str(error).split())[:400]}") from None


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python theory/report.py
  python theory/report.py --draft --out draft.pdf""")
    add_folders(parser, "results")
    parser.add_argument("--out", type=path, help="the PDF (default: report.pdf in the results folder)")
    parser.add_argument("--draft", action="store_true", help="build although results are missing")
    args = parser.parse_args()
    out = args.out or args.results_dir / "report.pdf"
    pdf, missing = build(args.results_dir, args.draft)
    write(out, pdf)
    print(f"saved {out}" + (f" (draft: {len(missing)} results missing)" if missing else ""))


if __name__ == "__main__":
    run_main(main)
