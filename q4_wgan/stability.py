"""How often does each GAN fail? DCGAN, WGAN-GP and WGAN with clipping, each in eight settings, with several seeds each.

After table 2 and figure 2 of Gulrajani et al. 2017, on Fashion-MNIST: short trainings of the same number of generator
iterations at a small width, judged by the criterion of train.py (measures.py) and by others around it. Every run is a line of
results/q4_stability.jsonl, written as the run ends: stopped or killed, the same command goes on where it was. At the end
results/q4_stability.json and results/q4_stability.png.

The runs are independent. They go through joblib, one thread each: on the cores of this machine or, with --scheduler, on a
Dask cluster whose workers have this repository and its data.
"""

import collections
import json
import math
import statistics

import matplotlib
import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

import files
import measures
import trial
from files import UserError
from objectives import OBJECTIVES

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of a backend without a screen)

NAMES = {"dcgan": "DCGAN", "wgan-gp": "WGAN-GP", "wgan-clip": "WGAN, clipping"}
BUDGET = 120  # minutes on 2 CPU cores that ITERATIONS take
ITERATIONS, DIM, BATCH = 1200, 16, 64
RATES = {"dcgan": 5e-3, "wgan-gp": 5e-3, "wgan-clip": 2e-3}  # tune.py at this width; DCGAN has a little less at 1e-2
NO_NORM, TANH = {"norm": False}, {"activation": "tanh"}
SETTINGS = {  # what differs from train.py's networks and settings
    "baseline": {},
    "no batch norm\nin G": {"generator_variant": NO_NORM},
    "tanh in\nG and D": {"generator_variant": TANH, "critic_variant": TANH},
    "MLP generator\n(4 ReLU layers)": {"generator_arch": "mlp"},
    "no batch norm\nin G and D": {"generator_variant": NO_NORM, "critic_norm": False},
    "learning rate\nx 10": {"learning_rate": 10},
    "half width": {"dim": 0.5},
    "double width": {"dim": 2},
}
THRESHOLDS = (50, 100, 200, 400, 800)  # of the distance, in floors; 100 is the criterion
# Gulrajani et al. 2017, table 2: (least Inception score, only GAN, only WGAN-GP, both, neither) of 200 architectures.
PAPER = ((1.0, 0, 8, 192, 0), (3.0, 1, 88, 110, 1), (5.0, 0, 147, 42, 11), (7.0, 1, 104, 5, 90), (9.0, 0, 0, 0, 200))


def cell_options(objective, setting, iterations, dim):
    """The options of trial.run for a cell of the table, without the seed."""
    change = dict(SETTINGS[setting])
    if change.get("critic_norm") == OBJECTIVES[objective].critic_norm:
        del change["critic_norm"]  # WGAN-GP has none anyway: the cell shows the runs of another
    return {"objective": objective, "arch": "conv", "batch": BATCH, "iterations": iterations, **change,
            "dim": int(dim * change.get("dim", 1)),
            "learning_rate": RATES[objective] * change.get("learning_rate", 1)}


def key(options):
    """What tells one run from another, as text: its options."""
    names = ("objective", "arch", "dim", "batch", "iterations", "learning_rate", "generator_learning_rate", "beta1", "penalty_images",
             "seed", "generator_arch", "generator_variant", "critic_norm", "critic_variant")
    return json.dumps({name: options.get(name) for name in names})


# ---- running ----------------------------------------------------------------------------------------------------------

def in_parallel(work, folders, jobs):
    """The results of the runs of `work`, as they end."""
    # Never more tasks sent than there are workers: a worker's death can only be the doing of those in flight.
    parallel = Parallel(jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
    return parallel(delayed(trial.run)(options, *folders) for options in work)


def run_all(work, path, folders, jobs):
    """Run what is not yet in the record `path` and add it there; {key: line of the record} of all."""
    wanted = {key(options): options for options in work}
    done = {key(line): line for line in reversed(files.read_lines(path)) if key(line) in wanted}  # the first counts

    def collect(work):
        for line in in_parallel(work, folders, jobs):
            if "error" in line:
                raise UserError(line["error"])
            files.append_line(path, line)
            done[key(line)] = line
            progress.update()
            progress.set_postfix_str(f"{sum(run['outcome'] == 'converged' for run in done.values())} converged")

    with tqdm(total=len(wanted), initial=len(done), unit="run", desc=path.stem) as progress:
        while missing := [options for name, options in wanted.items() if name not in done]:
            try:
                collect(missing)
            except TerminatedWorkerError:  # a process died: by itself, or killed, or for want of memory
                for options in [o for o in missing if key(o) not in done][:jobs]:  # those in flight, one by one
                    try:
                        collect([options])
                    except TerminatedWorkerError:
                        line = {**options, "outcome": "crashed", "reason": "its process died, twice", "distance": None}
                        files.append_line(path, line)
                        done[key(line)] = line
                        progress.update()
    return done


def connect(address):
    """A client of the Dask cluster at `address`, tcp://host:port."""
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--scheduler: needs Dask, pip install 'dask[distributed]'") from None
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {address}: no Dask scheduler answers there ({type(error).__name__})") from None


# ---- what came out ----------------------------------------------------------------------------------------------------

def converged(run, multiple=measures.FLOOR_MULTIPLE):
    """Whether a run passes the criterion with a threshold of `multiple` floors."""
    if run["distance"] is None:
        return False
    return measures.verdict(True, run["shares"], run["distance"], run["floor"], multiple)[0] == "converged"


def summarise(cells, thresholds):
    """cells: {(objective, setting): runs in the order of their seeds} -> the content of q4_stability.json."""
    table = []
    for (objective, setting), runs in cells.items():
        floors = [math.inf if run["distance"] is None else run["distance"] / run["floor"] for run in runs]
        def finite(value):
            return value if math.isfinite(value) else None
        table.append({"objective": objective, "setting": setting.replace("\n", " "), "runs": len(runs),
                      "converged": sum(map(converged, runs)), "crashed": sum(run["outcome"] == "crashed" for run in runs),
                      "not_finite": sum(run["distance"] is None and run["outcome"] == "failed" for run in runs),
                      "lost_a_class": sum(run.get("modes", 10) < 10 for run in runs),
                      "median_floors": finite(statistics.median(floors)), "least_floors": finite(min(floors)),
                      "most_floors": finite(max(floors)), "seconds": sum(run.get("seconds", 0) for run in runs)})
    sweep = []
    for multiple in thresholds:
        counts = {name: sum(converged(run, multiple) for (objective, _), runs in cells.items() if objective == name for run in runs)
                  for name in NAMES}
        pairs = [(converged(a, multiple), converged(b, multiple)) for (objective, setting), runs in cells.items()
                 if objective == "dcgan" for a, b in zip(runs, cells["wgan-gp", setting])]
        sweep.append({"floors": multiple, "converged": counts, "only_dcgan": pairs.count((True, False)),
                      "only_wgan_gp": pairs.count((False, True)), "both": pairs.count((True, True)),
                      "neither": pairs.count((False, False))})
    totals = {name: {"runs": sum(row["runs"] for row in table if row["objective"] == name),
                     "converged": sum(row["converged"] for row in table if row["objective"] == name)} for name in NAMES}
    return {"criterion_floors": measures.FLOOR_MULTIPLE, "smallest_share": measures.SMALLEST_SHARE, "totals": totals,
            "cells": table, "sweep": sweep}


def markdown(result):
    """(runs converged and the median distance of every cell, the counts by threshold): the tables in README.md."""
    cells = {(cell["objective"], cell["setting"]): cell for cell in result["cells"]}
    settings = list(dict.fromkeys(setting for _, setting in cells))
    lines = ["| | " + " | ".join(NAMES.values()) + " |", "|---" * (len(NAMES) + 1) + "|"]
    for setting in settings:
        row = [cells[objective, setting] for objective in NAMES]
        texts = [f"{c['converged']} of {c['runs']} ({'not finite' if c['median_floors'] is None else format(c['median_floors'], '.0f')})"
                 for c in row]
        lines.append(f"| {setting} | {' | '.join(texts)} |")
    totals = [f"**{result['totals'][name]['converged']} of {result['totals'][name]['runs']}**" for name in NAMES]
    lines.append(f"| all | {' | '.join(totals)} |")
    sweep = ["| threshold, floors | " + " | ".join(NAMES.values()) + " | only DCGAN | only WGAN-GP | both | neither |", "|---" * 8 + "|"]
    for row in result["sweep"]:
        counts = [*row["converged"].values(), row["only_dcgan"], row["only_wgan_gp"], row["both"], row["neither"]]
        sweep.append(f"| {row['floors']} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines), "\n".join(sweep)


def draw(result, path):
    figure = plt.figure(figsize=(13, 8.4), layout="constrained")
    above, below = figure.subfigures(2, 1)
    heat, (left, middle, right) = above.subplots(), below.subplots(1, 3)
    fraction = np.array([cell["converged"] / cell["runs"] for cell in result["cells"]]).reshape(len(NAMES), len(SETTINGS))
    image = heat.imshow(fraction, cmap="YlGn", vmin=0, vmax=1.4, aspect="auto")
    for number, cell in enumerate(result["cells"]):
        median = "not finite" if cell["median_floors"] is None else f"{cell['median_floors']:,.0f} floors"
        heat.text(number % len(SETTINGS), number // len(SETTINGS), f"{cell['converged']} of {cell['runs']}\n{median}",
                  ha="center", va="center", fontsize=9)
    heat.set_xticks(range(len(SETTINGS)), SETTINGS, fontsize=9)
    heat.set_yticks(range(len(NAMES)), NAMES.values())
    heat.set_title(f"Trainings that converged, and the median Fréchet distance, after {result['iterations']:,} generator iterations "
                   f"at D = {result['dim']}")
    above.colorbar(image, ax=heat, label="fraction converged", pad=0.01, boundaries=np.linspace(0, 1, 101), ticks=(0, 0.5, 1))

    floors = [row["floors"] for row in result["sweep"]]
    for (name, label), colour in zip(NAMES.items(), ("tab:blue", "tab:orange", "tab:green")):
        left.plot(floors, [row["converged"][name] for row in result["sweep"]], "o-", color=colour, label=label)
    left.axvline(result["criterion_floors"], color="grey", linestyle=":", label="the criterion")
    left.set(xscale="log", xlabel="threshold (floors)", title="By threshold of the distance",
             ylabel=f"converged, of {result['totals']['dcgan']['runs']} runs each")
    left.set_xticks(floors, floors)
    left.minorticks_off()
    left.legend(fontsize=8)
    left.grid(alpha=0.3)

    parts = (("only_dcgan", "only DCGAN", "tab:blue"), ("only_wgan_gp", "only WGAN-GP", "tab:orange"),
             ("both", "both", "tab:olive"), ("neither", "neither", "lightgrey"))
    paper = [dict(zip(("floors", *(part for part, _, _ in parts)), row)) for row in PAPER]
    for axes, rows, title, label, unit in (
            (middle, result["sweep"][::-1], "Pairs of the same setting and seed", "threshold (floors), stricter to the right", "pairs"),
            (right, paper, "The paper's table 2 (32x32 ImageNet)", "least Inception score, stricter to the right", "architectures")):
        height = np.zeros(len(rows))
        for part, name, colour in parts:
            values = np.array([row[part] for row in rows])
            axes.bar(range(len(rows)), values, bottom=height, color=colour, label=name)
            height += values
        axes.set_xticks(range(len(rows)), [row["floors"] for row in rows])
        axes.set(title=title, xlabel=label, ylabel=unit)
    middle.set_ylim(0, 1.2 * result["totals"]["dcgan"]["runs"])  # room for the legend
    middle.legend(fontsize=8, ncols=2, loc="upper center")
    files.write_atomic(path, lambda file: figure.savefig(file, dpi=150, format="png"))
    plt.close(figure)


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/stability.py                       the study: 115 runs, two to three hours on 2 CPU cores
  python q4_wgan/stability.py --quick               all of it in a few minutes, to see that it works: proves nothing
  python q4_wgan/stability.py --scheduler tcp://host:8786   on a Dask cluster; each worker started in a copy of this repository:
                                                    PYTHONPATH=q4_wgan dask worker tcp://host:8786 --nthreads 1""")
    parser.add_argument("--budget", type=files.positive, default=BUDGET, metavar="MINUTES",
                        help=f"on 2 CPU cores; sets the iterations of every run (default: {BUDGET}, {ITERATIONS} iterations)")
    parser.add_argument("--seeds", type=files.positive, help="runs of every cell (default: 5; with --quick 2)")
    parser.add_argument("--quick", action="store_true", help="10 iterations at D = 4; writes results/q4_stability_quick.*")
    parser.add_argument("--jobs", type=files.positive, help="runs at once on this machine (default: one per core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="run on the Dask cluster of this address (tcp://host:8786)")
    files.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()
    if args.scheduler and args.jobs:
        raise UserError("--jobs is for this machine; a cluster's workers are as many as were started")

    iterations, dim, seeds, name = max(1, round(ITERATIONS * args.budget / BUDGET)), DIM, args.seeds or 5, "q4_stability"
    if args.quick:
        iterations, dim, seeds, name = 10, 4, args.seeds or 2, "q4_stability_quick"
    cells = {(objective, setting): [{**cell_options(objective, setting, iterations, dim), "seed": seed}
                                    for seed in range(seeds)] for objective in NAMES for setting in SETTINGS}
    # Seeds first: a study that is stopped early has some runs of every cell.
    work = sorted((options for runs in cells.values() for options in runs), key=lambda options: options["seed"])
    trial.ground(args.data_dir, args.weights_dir)  # missing images or weights: say so now
    # A worker on another machine takes those of its own copy of the repository, unless told where.
    folders = [None if getattr(args, folder) == parser.get_default(folder) else getattr(args, folder).resolve()
               for folder in ("data_dir", "weights_dir")]
    path = args.results_dir / f"{name}.jsonl"
    try:
        if args.scheduler:
            with connect(args.scheduler) as client, parallel_config("dask", client=client, wait_for_workers_timeout=60):
                done = run_all(work, path, folders, -1)
        else:
            with parallel_config("loky", inner_max_num_threads=1):
                done = run_all(work, path, folders, args.jobs or -1)
    except KeyboardInterrupt:
        raise UserError(f"interrupted; what has ended is in {path}, and the same command goes on") from None

    runs = {cell: [done[key(options)] for options in wanted] for cell, wanted in cells.items()}
    precisions = collections.Counter(run["precision"] for run in done.values() if "precision" in run)
    result = {"iterations": iterations, "dim": dim, "batch": BATCH, "seeds": seeds, "precisions": precisions,
              **summarise(runs, THRESHOLDS)}
    files.save_json(args.results_dir / f"{name}.json", result)
    draw(result, args.results_dir / f"{name}.png")
    for objective, total in result["totals"].items():
        print(f"{NAMES[objective]:15} {total['converged']} of {total['runs']} runs converged")
    print(f"saved {args.results_dir / name}.json and .png")
    return 0


if __name__ == "__main__":
    files.run_main(main)
