"""What `train.py --dim 64` gives in an hour of two cores that are quick in bfloat16: three trainings each of DCGAN and
WGAN-GP. On one such core each takes 50 to 90 minutes, on others up to three times as long.

The learning rates are the search's at D = 32, halved (training.defaults). A training of DCGAN has 25,000 iterations,
one of WGAN-GP as many as cost the same (jobs.COST). The pair in weights/ is another: its WGAN-GP has the paper's
five critic steps.

A training is a line of recipe.jsonl as it ends; killed, the same command goes on. Writes recipe.json and prints the
table. The folders of the trainings stay in results/runs, as those of train.py. Took six hours of a core.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan.command import Parser, as_json, number, run_main, shown, write
from q4_wgan.experiments import jobs
from q4_wgan.metrics import mean_std, plus_minus, table
from q4_wgan.plots import NAMES
from q4_wgan.training import BATCH, defaults

DIM, COMPUTE, SEEDS = 64, 25_000, 3
MODELS = "dcgan", "wgan-gp"
POINTS = tuple(k / 20 for k in range(1, 21))


def options_of(objective, seed, dim=DIM, compute=COMPUTE):
    options = {"objective": objective, "dataset": "fashion", "arch": "conv", "batch": BATCH,
               **defaults(objective, dim=dim), "dim": dim}
    return {**options, "iterations": jobs.iterations(options, compute), "seed": seed}


def summarise(lines):
    """The content of recipe.json. lines: {objective: lines of its trainings}; those that diverged have no scores."""
    ended = {objective: [line["test"] for line in mine if "test" in line] for objective, mine in lines.items()}
    return {objective: {"iterations": mine[0]["iterations"], "runs": len(mine),
                        "test": {score: mean_std([test[score] for test in ended[objective]]) for score in jobs.SCORES}}
            for objective, mine in lines.items() if ended[objective]}


def markdown(result):
    rows = [(NAMES[objective], f"{found['iterations']:,}", found["runs"],
             *(plus_minus(found["test"][score], digits) for score, (_, digits) in jobs.SCORES.items()))
            for objective, found in result.items()]
    return table(("", "iterations", "trainings", *(title for title, _ in jobs.SCORES.values())), rows)


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/recipe.py --summary    the table of what is there, in seconds
  python q4_wgan/experiments/recipe.py              what is missing, one training per core""")
    parser.add_argument("--seeds", type=number(int, 1, 100), default=SEEDS, help=f"of each (default: {SEEDS})")
    args = jobs.parse(parser, DIM, COMPUTE)

    work = [(objective, seed) for seed in range(args.seeds) for objective in MODELS]
    found = jobs.run_missing([options_of(*one, args.dim, args.compute) for one in work], "recipe", args,
                             points=POINTS, test=True, keep=True)
    result = summarise({model: [line for (of, _), line in zip(work, found) if of == model and line]
                        for model in MODELS})
    write(args.out / "recipe.json", as_json(result))
    print(markdown(result), f"saved {shown(args.out / 'recipe.json')}", sep="\n\n")


if __name__ == "__main__":
    run_main(main)
