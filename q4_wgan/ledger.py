"""The ledger of trainings, results/q4/attempts.jsonl: a line when a training starts and a line when it stops.

A line has the attempt's name, the model, the options of the run with the git commit, and `outcome`: started,
interrupted (--resume goes on), converged, failed (the rule of metrics.py) or given up (stopped by hand because it got
worse), with `reason`. `reached`: iterations; `seconds`: of the training; `relative_distance` to the validation images,
in the unit `real_distance`; relative_distance_first, _best and _last: when first and last measured, and the least. In
older lines `start` is the iteration at which a training went on from the one that it `continues`, and `critic_alone`
for how many its generator then stood still.
"""

from . import files

TRIAL = 2_000  # a training of fewer iterations is a trial and no attempt
MODELS = {"dcgan": "DCGAN", "wgan": "WGAN-GP"}


def path(results_dir):
    return results_dir / "q4" / "attempts.jsonl"


def record(results_dir, options, **result):
    """Add a line, unless the training is a trial."""
    if options["iterations"] >= TRIAL:
        files.append_line(path(results_dir), {**options, **result})


def latest(lines):
    """The attempts in the order of their start, each as its last line leaves it; other lines are passed over."""
    attempts = {}
    for line in lines:
        if all(isinstance(line.get(key), str) for key in ("attempt", "model", "outcome")):
            attempts.setdefault(line["attempt"], {}).update(with_new_keys(line))
    return list(attempts.values())


def read_ledger(results_dir):
    return latest(files.read_lines(path(results_dir)))


def with_new_keys(content):
    """Of the generators q4_dcgan.pt and q4_wgan.pt of November 2026, and of the ledger's lines of that time."""
    if "floor" not in content:
        return content
    new = {"real_distance": content["floor"]}
    if "distance" in content:
        new |= {"relative_distance": content["distance"] / content["floor"], "class_frequencies": content["shares"]}
    return {**{key: value for key, value in content.items() if key not in ("floor", "distance", "shares")}, **new}


def failures_before_success(attempts, model, success=None):
    """{"failed" by the rule, "given_up" by hand} of `model` before it converged, in attempt `success` or the first
    time. None where it did not.
    """
    mine = [attempt for attempt in attempts if attempt["model"] == model]
    ends = [n for n, attempt in enumerate(mine) if attempt["attempt"] == (success or attempt["attempt"])
            and attempt["outcome"] == "converged"]
    if not ends:
        return None
    outcomes = [attempt["outcome"] for attempt in mine[:ends[0]]]
    return {"failed": outcomes.count("failed"), "given_up": outcomes.count("given up")}


def table(attempts):
    """Every attempt with its settings, how far it came and its distances, as Markdown."""
    lines = ["| | critic's rate | generator's rate | iterations | first | best | last | outcome |", "|---" * 8 + "|"]
    for attempt in attempts:
        rate, last = attempt.get("learning_rate", 0), attempt.get("relative_distance")
        distances = [attempt.get(f"relative_distance_{which}", last if which == "last" else None)
                     for which in ("first", "best", "last")]
        came = f"{attempt.get('start', 0):,} to {attempt.get('reached', 0):,} of {attempt.get('iterations', 0):,}"
        cells = (MODELS.get(attempt["model"], attempt["model"]), f"{rate:g}",
                 f"{attempt.get('generator_learning_rate', rate):g}", came,
                 *("" if distance is None else f"{distance:.1f}" for distance in distances), attempt["outcome"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
