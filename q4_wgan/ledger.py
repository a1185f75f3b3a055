"""The ledger of trainings, results/q4/attempts.jsonl: a line when a training starts and a line when it stops.

A line has the attempt's name, the model, the options of the run with the git commit, and `outcome`: started,
interrupted (--resume goes on), converged, failed (the rule of metrics.py) or given up (stopped by hand because it got
worse), with `reason`. `reached`: iterations; `seconds`: of the training; `relative_distance` to the validation images,
in the unit `real_distance`; relative_distance_first, _best and _last: when first and last measured, and the least. In
older lines `start` is the iteration at which a training went on from the one that it `continues`, and `critic_alone`
for how many its generator then stood still.
"""

from . import files
from .summary import NAMES, table

TRIAL = 2_000  # a training of fewer iterations is a trial and no attempt


def record(results_dir, options, **result):
    """Add a line, unless the training is a trial."""
    if options["iterations"] >= TRIAL:
        files.append_line(results_dir / "q4" / "attempts.jsonl", {**options, **result})


def attempts(path):
    """The attempts in the order of their start, each as its last line leaves it; other lines are passed over."""
    found = {}
    for line in files.read_lines(path):
        if {"attempt", "model", "outcome"} <= line.keys():
            found.setdefault(line["attempt"], {}).update(with_new_keys(line))
    return list(found.values())


def with_new_keys(content):
    """Of the generators q4_dcgan.pt and q4_wgan.pt of November 2026, and of the ledger's lines of that time."""
    if "distance" not in content:
        return content
    return {**content, "real_distance": content["floor"], "class_frequencies": content["shares"],
            "relative_distance": content["distance"] / content["floor"]}


def counts(attempts, model):
    """How the trainings of a model ended: by the rule, or given up by hand because the distance rose."""
    mine = [attempt for attempt in attempts if attempt["model"] == model]
    outcomes = [attempt["outcome"] for attempt in mine]
    before = outcomes[:outcomes.index("converged")] if "converged" in outcomes else None
    return {"attempts": len(mine), **{outcome.replace(" ", "_"): outcomes.count(outcome)
                                      for outcome in ("converged", "failed", "given up", "interrupted")},
            "failed_before_first_success": None if before is None else before.count("failed")}


def markdown(attempts):
    """Every attempt as the table in EXPERIMENTS.md, with the relative distances at its start, its best and its end."""
    rows = []
    for attempt in attempts:
        rate = attempt["learning_rate"]
        distances = (attempt.get("relative_distance_first"), attempt.get("relative_distance_best"),
                     attempt.get("relative_distance_last", attempt.get("relative_distance")))
        rows.append((NAMES[attempt["objective"]], f"{rate:g}", f"{attempt.get('generator_learning_rate', rate):g}",
                     f"{attempt.get('start', 0):,} to {attempt.get('reached', 0):,} of {attempt['iterations']:,}",
                     attempt["outcome"], *("" if distance is None else f"{distance:.1f}" for distance in distances)))
    return table(("", "critic's rate", "generator's rate", "iterations", "outcome", "start", "best", "end"), rows)
