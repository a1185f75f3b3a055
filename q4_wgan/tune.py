"""Which learning rate? Short trainings of DCGAN and WGAN-GP with several, judged on the held-out images.

The learning rate is the one setting that is not the papers': their trainings are ten times longer. Every run is a line of
results/q4_tries.jsonl, and a table of the median distances is printed. Stopped, the same command goes on.
"""

import statistics

from joblib import parallel_config

import files
import trial
from stability import BATCH, DIM, key, run_all
from train import pick_precision

OBJECTIVES = ("dcgan", "wgan-gp")
RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/tune.py                       24 runs, about 20 minutes on 2 CPU cores
  python q4_wgan/tune.py --iterations 100 --seeds 1 --results-dir /tmp/try""")
    parser.add_argument("--iterations", type=files.positive, default=1500, help="generator iterations of a run (default: 1500)")
    parser.add_argument("--seeds", type=files.positive, default=2, help="runs of every rate (default: 2)")
    parser.add_argument("--jobs", type=files.positive, default=-1, help="runs at once (default: one per core)")
    files.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    precision = pick_precision("auto", trial.CPU)
    work = [{"objective": objective, "arch": "conv", "dim": DIM, "batch": BATCH, "iterations": args.iterations,
             "learning_rate": learning_rate, "precision": precision, "seed": seed}
            for seed in range(args.seeds) for objective in OBJECTIVES for learning_rate in RATES]
    trial.ground(args.data_dir, args.weights_dir)  # missing images or weights: say so now
    path = args.results_dir / "q4_tries.jsonl"
    with parallel_config("loky", inner_max_num_threads=1):
        done = run_all(work, path, (args.data_dir.resolve(), args.weights_dir.resolve()), args.jobs)
    print(f"median Frechet distance in floors after {args.iterations:,} iterations at D = {DIM}, {args.seeds} seeds")
    print(f"{'learning rate':14}" + "".join(f"{rate:>9g}" for rate in RATES))
    for objective in OBJECTIVES:
        runs = [[done[key(options)] for options in work if (options["objective"], options["learning_rate"]) == (objective, rate)]
                for rate in RATES]
        floors = [statistics.median(float("inf") if run["distance"] is None else run["distance"] / run["floor"] for run in cell)
                  for cell in runs]
        print(f"{objective:14}" + "".join(f"{value:9.0f}" for value in floors))
    print(f"saved {path}")
    return 0


if __name__ == "__main__":
    files.run_main(main)
