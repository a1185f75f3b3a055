"""Which learning rate? Short trainings of every objective with several, judged on the held-out images.

The learning rate is not the papers': their trainings are ten times longer. Three settings that go with it can be tried too: the
generator's rate, Adam's first beta, and on how many images the penalty is taken. Every run is a line of
results/q4_tries.jsonl, and a table of the distances of the runs asked for is printed. Stopped, the same command goes on.
"""

import math
import statistics

from joblib import parallel_config

import files
import trial
from stability import BATCH, DIM, NAMES, key, run_all
from train import momentum, rate

OBJECTIVES = tuple(NAMES)
RATES = (5e-4, 1e-3, 2e-3, 5e-3, 1e-2)


def markdown(tries, dim, iterations):
    """The median distance in floors for every objective, setting and learning rate, of the runs of one width and length, as the
    table in README.md."""
    cells = {}
    for run in tries:
        if (run["dim"], run["iterations"]) == (dim, iterations):
            ratio = run.get("generator_learning_rate", run["learning_rate"]) / run["learning_rate"]
            row = (OBJECTIVES.index(run["objective"]), round(ratio, 6), run.get("penalty_images", math.inf), run.get("beta1", math.inf))
            floors = math.inf if run["distance"] is None else run["distance"] / run["floor"]
            cells.setdefault(row, {}).setdefault(run["learning_rate"], []).append(floors)
    rates = sorted({value for row in cells.values() for value in row})
    lines = ["| learning rate | " + " | ".join(f"{value:g}" for value in rates) + " |", "|---" * (len(rates) + 1) + "|"]
    for (objective, ratio, penalised, beta1), row in sorted(cells.items()):
        title = NAMES[OBJECTIVES[objective]] + (f", generator x {ratio:g}" if ratio != 1 else "")
        title += (f", penalty on {penalised}" if penalised < math.inf else "") + (f", beta1 {beta1:g}" if beta1 < math.inf else "")
        medians = (f"{statistics.median(row[value]):.0f}" if value in row else "" for value in rates)
        lines.append(f"| {title} | {' | '.join(medians)} |")
    return "\n".join(lines)


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/tune.py                       15 runs, ten minutes on 2 CPU cores
  python q4_wgan/tune.py --objectives dcgan --rates 1e-3 2e-3 5e-3 --dim 64 --iterations 1000
  python q4_wgan/tune.py --objectives wgan-gp --rates 1e-3 2e-3 --ratio 5 --beta1 0 --penalty-images 16""")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=OBJECTIVES, help="(default: all)")
    parser.add_argument("--rates", nargs="+", type=rate, default=RATES, help=f"learning rates (default: {' '.join(map(str, RATES))})")
    parser.add_argument("--ratio", type=rate, default=1.0, help="learning rate of the generator over the critic's (default: 1)")
    parser.add_argument("--beta1", type=momentum, help="of Adam (default: the objective's)")
    parser.add_argument("--penalty-images", type=files.positive, help="of each batch that the gradient penalty is taken on (default: all)")
    parser.add_argument("--dim", type=files.positive, default=DIM, help=f"width D (default: {DIM})")
    parser.add_argument("--iterations", type=files.positive, default=1000, help="generator iterations of a run (default: 1000)")
    parser.add_argument("--seeds", type=files.positive, default=1, help="runs of every rate (default: 1)")
    parser.add_argument("--jobs", type=files.positive, default=-1, help="runs at once (default: one per core)")
    files.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    changes = {name: getattr(args, name) for name in ("beta1", "penalty_images") if getattr(args, name) is not None}
    work = [{"objective": objective, "arch": "conv", "dim": args.dim, "batch": BATCH, "iterations": args.iterations,
             "learning_rate": learning_rate, "seed": seed,
             **({} if args.ratio == 1 else {"generator_learning_rate": learning_rate * args.ratio}), **changes}
            for seed in range(args.seeds) for objective in args.objectives for learning_rate in args.rates]
    trial.ground(args.data_dir, args.weights_dir)  # missing images or weights: say so now
    path = args.results_dir / "q4_tries.jsonl"
    with parallel_config("loky", inner_max_num_threads=1):
        done = run_all(work, path, (args.data_dir.resolve(), args.weights_dir.resolve()), args.jobs)
    print(f"median Frechet distance in floors after {args.iterations:,} iterations at D = {args.dim}")
    print(markdown([done[key(options)] for options in work], args.dim, args.iterations))
    print(f"saved {path}")
    return 0


if __name__ == "__main__":
    files.run_main(main)
