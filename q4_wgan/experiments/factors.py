"""One setting at a time, on top of the best settings of tune.py: Adam's beta2, schedule, batch, critic steps, width.

A training has the compute of 3,000 iterations of DCGAN at D = 32, on one thread, and is compared with the unchanged
settings of the same seed by the relative distance to the validation images. The learning rates are not searched anew.
What gains is tried again with another seed and more --compute. A run is a line of factors.jsonl as it ends; killed, the
same command goes on. Prints the table. Takes four hours of a core.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan.command import Parser, run_main
from q4_wgan.experiments import jobs
from q4_wgan.metrics import table
from q4_wgan.plots import NAMES
from q4_wgan.training import BATCH

DIM, COMPUTE = 32, 3_000
LISTS = {"dcgan": "dcgan", "wgan-gp": "wgan-gp-steps"}  # of tune.py, by objective
COMMON = {"schedule": "cosine"}, {"batch": 32}, {"batch": 128}, {"dim": 48}, {"dim": 64}
FACTORS = {"dcgan": ({"beta2": 0.9}, {"beta2": 0.99}, {"critic_steps": 2}, *COMMON),
           "wgan-gp": ({"beta2": 0.99}, {"beta2": 0.999}, {"penalty_images": 16}, *COMMON)}
WIDTH_COST = {32: 1, 48: 2.05, 64: 3.4}  # of an iteration, in iterations at D = 32, in float32


def options_of(objective, base, factor, seed, compute):
    options = {"objective": objective, "arch": "conv", "dim": DIM, "batch": BATCH, **base}
    compute /= WIDTH_COST[factor.get("dim", DIM)] * factor.get("batch", BATCH) / BATCH
    if objective == "dcgan" and factor.get("critic_steps") == 2:
        compute /= 1.6  # as WGAN-GP's second step
    changed = {**options, **factor}
    count = jobs.iterations(changed, compute)
    if "batch" in factor and "penalty_images" in base:  # of the same part of a batch
        changed["penalty_images"] = base["penalty_images"] * factor["batch"] // BATCH
    return {**changed, "iterations": count, "seed": seed}


def main():
    parser = Parser(description=__doc__)
    parser.add_argument("--objective", choices=FACTORS, action="append", help="only this one")
    parser.add_argument("--only", type=json.loads, action="append", help="of the list, beside the unchanged settings")
    parser.add_argument("--seed", type=int, action="append", help="(default: 0)")
    args = jobs.parse(parser, DIM, COMPUTE)
    wanted = [(objective, factor, seed) for seed in args.seed or [0] for objective in args.objective or FACTORS
              for factor in ({}, *FACTORS[objective]) if not (factor and args.only) or factor in args.only]
    work = [options_of(objective, jobs.tuned(LISTS[objective]), factor, seed, args.compute)
            for objective, factor, seed in wanted]
    rows = [(NAMES[objective], ", ".join(f"{name} {value}" for name, value in factor.items()) or "unchanged", seed,
             line["iterations"], *(f"{line[name]:.1f}" for name in ("relative_distance", "relative_distance_pixels")))
            for (objective, factor, seed), line in zip(wanted, jobs.run_missing(work, "factors", args)) if line]
    print(table(("", "changed", "seed", "iterations", "distance", "in pixels"), rows))


if __name__ == "__main__":
    run_main(main)
