"""The ledger of trainings, results/q4/attempts.jsonl: a line when a training starts and a line when it stops.

A line has the attempt's name, the model, the options of the run with the git commit, and `outcome`: started,
interrupted (--resume goes on), converged, failed (the rule of metrics.py) or given up (stopped by hand because it got
worse), with `reason`. `reached`: iterations; `seconds`: of the training; `relative_distance` to the validation images,
in the unit `real_distance`; relative_distance_first, _best and _last: when first and last measured, and the least. In
older lines `start` is the iteration at which a training went on from the one that it `continues`, and `critic_alone`
for how many its generator then stood still.
"""

import math

from . import files
from .command import UserError
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


def same_unit(generator, unit):
    """Whether the dict of a weights file has this unit, or none; else another classifier measured its distances."""
    return math.isclose(with_new_keys(generator).get("real_distance", unit), unit, rel_tol=0.01)  # machines round


def check_units(generators, unit):
    """Raise UserError where one of `generators`, {model: dict of its weights file}, has another unit."""
    for model, generator in generators.items():
        if not same_unit(generator, unit):
            raise UserError(f"the distances of {model}'s training were measured with another classifier than the one "
                            "that is there: restore that one, or train the generator anew")


def kind(options):
    return options.get("objective"), options.get("arch", "conv"), options.get("dataset", "fashion")


def counts(attempts, generator):
    """How the trainings of a generator's kind ended: by the rule, or given up by hand because the distance rose.

    generator: options with its objective, arch and dataset, such as the dict of its weights file.
    """
    mine = [attempt for attempt in attempts if kind(attempt) == kind(generator)]
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
