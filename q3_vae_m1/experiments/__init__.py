"""What the numbers of question 3 come from: the record over label draws and trainings, its tables, the searches."""

from q3_vae_m1.command import ROOT

DATASETS = ("fashion", "mnist")
RECORD = ROOT / "results/q3/errors.jsonl"  # the one that git tracks; scripts add to that of --out
