"""Builds results/report.pdf, the written answer to all four questions, from theory/report.typ and the files in results/.

Every number in the report is read from a file that one of the scripts wrote. A missing file is named together with
the command that makes it, and nothing is built; --draft builds with a marked box in its place. Needs the Python
package `typst` (pip install typst) and takes a few seconds.
"""
import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Q2 = "python theory/q2_gan_lab.py (see theory/README.md)"
FIGURES4 = "python q4_wgan/figures.py"
# What the report cannot do without, and the command that makes it.
REQUIRED = {
    "q1_distances.json": "python theory/q1_distances.py", "q1_distances.png": "python theory/q1_distances.py",
    "q2_gan_lab.json": Q2, "q2_gan_lab.png": Q2, "q2_gan_lab_stages.png": Q2, "q2_gan_lab_failed.png": Q2, "q2_gan_lab_histories.png": Q2,
    "q3_table_fashion.json": "python q3_vae_m1/table.py", "q3_table_mnist.json": "python q3_vae_m1/table.py",
    "q3_table.png": "python q3_vae_m1/table.py",
    "q4_losses.png": FIGURES4, "q4_comparison.png": FIGURES4, "q4_dcgan_samples.png": FIGURES4, "q4_wgan_samples.png": FIGURES4,
    "q4_dcgan_losses.csv": "python q4_wgan/train.py --model dcgan", "q4_wgan_losses.csv": "python q4_wgan/train.py --model wgan",
    "q4_attempts.jsonl": "python q4_wgan/train.py", "q4_scores.json": "python q4_wgan/evaluate.py",
    "q4_stability.json": "python q4_wgan/stability.py", "q4_stability.png": "python q4_wgan/stability.py",
    "q4_race.json": "python q4_wgan/race.py", "q4_race.png": "python q4_wgan/race.py",
}
# Shown where they are there.
OPTIONAL = ("q3_vae_fashion_reconstructions.png", "q3_vae_fashion_latent.png", "q3_vae_fashion_loss.png", "q3_vae_fashion_samples.png",
            "q3_transductive_mnist_map.png")
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib", "typst")


class ReportError(Exception):
    """One line for the user."""


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"cannot read {path}: {error}") from None


def read_attempts(path):
    """The ledger's attempts in order of their start, each with its latest outcome, and per model the failures before success."""
    attempts = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
            attempts.setdefault(entry["attempt"], {}).update(entry)
        except (ValueError, KeyError, TypeError):
            raise ReportError(f"{path}: line {number} is not an attempt") from None
    summary = {}
    for model in ("dcgan", "wgan"):
        mine = [a for a in attempts.values() if a.get("model") == model]
        outcomes = [a.get("outcome") for a in mine]
        first = outcomes.index("converged") if "converged" in outcomes else None
        summary[model] = {
            "attempts": len(mine), "failed": outcomes.count("failed"), "converged": outcomes.count("converged"),
            "failed_before": outcomes[:first].count("failed"), "succeeded": first is not None,
            "interrupted": outcomes.count("interrupted"),
            "reasons": [a["reason"] for a in mine if a.get("outcome") == "failed" and "reason" in a],
        }
    return summary, attempts


def parts(attempts, name):
    """The trainings that led to attempt `name`, first to last: it may continue another, which may continue another."""
    found = []
    while name in attempts:
        found.insert(0, {key: attempts[name].get(key) for key in ("start", "iterations", "learning_rate", "generator_learning_rate")})
        name = attempts[name].get("continues")
    return found


def read_losses(path, last=1000):
    """Two moments of a losses.csv, the first evaluation and the end: means of the losses over the iterations up to there (at
    most `last`), the held-out cost and the Frechet distance there."""
    try:
        with open(path, newline="") as file:
            rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
        evaluated = [row for row in rows if "distance" in row]
        moments = {}
        for name, row in (("early", evaluated[0]), ("end", evaluated[-1])):
            part = [r for r in rows if row["iteration"] - last < r["iteration"] <= row["iteration"]]
            moments[name] = {"iteration": row["iteration"], "distance": row["distance"], "held_out": row["held_out_critic_loss"],
                             "critic": statistics.fmean(r["critic_loss"] for r in part),
                             "generator": statistics.fmean(r["generator_loss"] for r in part)}
        return moments
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ReportError(f"{path}: not the losses that train.py writes ({type(error).__name__}: {error})") from None


def versions():
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


def stage(results, folder, missing=()):
    """Lays everything report.typ reads into a folder: itself, the results and derived.json."""
    (folder / "results").mkdir()
    extra = [name for name in OPTIONAL if (results / name).is_file()]
    for name in [*REQUIRED, *extra]:
        if name not in missing:
            shutil.copyfile(results / name, folder / "results" / name)
            if name.endswith(".json"):
                read_json(results / name)  # a damaged one is named
    derived = {"missing": list(missing), "present": [*REQUIRED.keys() - set(missing), *extra], "commands": REQUIRED, "extra": extra, "versions": versions(), "attempts": None, "losses": {}, "parts": {}}
    if "q4_attempts.jsonl" not in missing:
        derived["attempts"], attempts = read_attempts(results / "q4_attempts.jsonl")
        if "q4_scores.json" not in missing:
            scores = read_json(results / "q4_scores.json")
            derived["parts"] = {model: parts(attempts, scores[model]["training"].get("attempt")) for model in ("dcgan", "wgan")}
    for model in ("dcgan", "wgan"):
        if f"q4_{model}_losses.csv" not in missing:
            derived["losses"][model] = read_losses(results / f"q4_{model}_losses.csv")
    (folder / "derived.json").write_text(json.dumps(derived))
    shutil.copyfile(Path(__file__).with_name("report.typ"), folder / "report.typ")


def build(results, output, draft=False):
    """Writes the PDF; raises ReportError with one line for anything the user can mend."""
    try:
        import typst
    except ImportError:
        raise ReportError("needs the package typst: pip install typst") from None
    missing = [name for name in REQUIRED if not (results / name).is_file()]
    if missing and not draft:
        commands = "; ".join(f"{command}: {', '.join(n for n in missing if REQUIRED[n] == command)}"
                             for command in dict.fromkeys(REQUIRED[n] for n in missing))
        raise ReportError(f"missing in {results} (--draft builds without them): {commands}")
    with tempfile.TemporaryDirectory() as folder:
        stage(results, Path(folder), missing)
        try:
            pdf = typst.compile(str(Path(folder) / "report.typ"), root=folder)
        except Exception as error:  # the package raises its own kinds; a wrong key in a result ends here
            raise ReportError("typst: " + " ".join(str(error).split())[:400]) from None
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".tmp")
    temporary.write_bytes(pdf)
    os.replace(temporary, output)
    return missing


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python theory/report.py\n  python theory/report.py --draft --out draft.pdf")
    parser.add_argument("--results-dir", type=Path, default=ROOT / "results", help="where the results are (default: results/)")
    parser.add_argument("--out", type=Path, help="the PDF (default: report.pdf in the results folder)")
    parser.add_argument("--draft", action="store_true", help="build although results are missing")
    args = parser.parse_args()
    output = args.out or args.results_dir / "report.pdf"
    try:
        missing = build(args.results_dir, output, args.draft)
    except ReportError as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"report.py: cannot write {output}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    print(f"saved {output}" + (f" (draft: {len(missing)} results missing)" if missing else ""))


if __name__ == "__main__":
    main()
