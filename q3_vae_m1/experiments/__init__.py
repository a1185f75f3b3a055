"""What the numbers of question 3 come from: the record over label draws and trainings, its tables, the searches."""

from q3_vae_m1 import files, vae
from q3_vae_m1.command import ROOT
from q3_vae_m1.features import shipped

DATASETS = ("fashion", "mnist")
RECORD = ROOT / "results/q3/errors.jsonl"  # the one that git tracks; scripts add to that of --out


def record_lines(out):
    """Lines of the tracked record and of the one in the folder `out`."""
    return [line for path in {RECORD, out.resolve() / RECORD.name} for line in files.read_lines(path)]


def varied(features):
    """The features that an ablation varies, whose kernel it has, too; others are their own."""
    return "raw pixels" if features == "binarised pixels" else features.split(",")[0]


def network(chosen, images, name, o):
    """(model, what its file says of it) of the VAE with the settings `chosen`: the one that ships, if it has them, or
    one trained in the run folder of that name. o: arguments of a script."""
    folder = shipped(chosen["dataset"], chosen["likelihood"])
    if folder.exists() and vae.load(folder)[1]["settings"] == chosen:
        return vae.load(folder, files.pick_device(o.device))
    folder = o.results_dir / "runs" / name
    return vae.obtain(folder, files.open_run(folder, chosen, o), images)
