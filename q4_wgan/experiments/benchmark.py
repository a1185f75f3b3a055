"""Times one generator iteration of every objective and of the textbook loop, side by side on the same machine.

Networks, batch and images are the same; the loops take turns, so that all see the same state of the machine, and the
median counts. On one thread, as compare.py trains. WGAN-GP is timed with the gradient penalty on the first 16 images of
a batch, as it ships on a CPU, on 32, on all 64, and on all 64 in float32, as the textbook loop is. Writes
results/q4/benchmark.json: seconds, how many times as long the textbook loop takes as the shipped iteration, and the
cost in iterations of DCGAN (runs.COST has these constants).
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import files, images, textbook
from q4_wgan.command import Parser, UserError, add_folders, as_json, number, run_main, seed, write
from q4_wgan.summary import table
from q4_wgan.training import BATCH, Training

WARM_UP = 2  # rounds
SHIPPED = "wgan-gp 16"
LOOPS = {"dcgan": {"objective": "dcgan"}, "wgan-clip": {"objective": "wgan-clip"},
         **{f"wgan-gp {n}": {"objective": "wgan-gp", "penalty_images": n} for n in (16, 32, 64)},
         "wgan-gp 64 float32": {"objective": "wgan-gp", "precision": "float32"}, "textbook": {"objective": "textbook"}}
TITLES = {"dcgan": "DCGAN", "wgan-clip": "WGAN, clipping", "wgan-gp 16": "WGAN-GP, penalty on 16",
          "wgan-gp 32": "WGAN-GP, penalty on 32", "wgan-gp 64": "WGAN-GP, penalty on 64",
          "wgan-gp 64 float32": "the same in float32", "textbook": "WGAN-GP, textbook loop"}


def make(loop, dim, precision, first_seed, data, device):
    kind = textbook.Textbook if loop == "textbook" else Training
    options = {"arch": "conv", "dim": dim, "batch": BATCH, "iterations": 10**6, "learning_rate": 2e-4,
               "seed": first_seed, "precision": precision, **LOOPS[loop]}
    return kind(options, data.train, data.validation, device)


def timed(function, device):
    def finish():
        if device.type == "cuda":
            torch.cuda.synchronize()
    finish()
    start = time.perf_counter()
    function()
    finish()
    return time.perf_counter() - start


def processor():
    """Its name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


def markdown(result):
    """Seconds per iteration by width, as the table in EXPERIMENTS.md."""
    dims = result["dims"]
    return table(("", *(f"D = {dim}" for dim in dims)), (
        (title, *(f"{entry['seconds_per_iteration'][loop]['median']:.3f}" for entry in dims.values()))
        for loop, title in TITLES.items()))


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/benchmark.py                        on an otherwise idle machine, some minutes
  python q4_wgan/benchmark.py --dims 32 --rounds 3
  python q4_wgan/benchmark.py --threads 2""")
    parser.add_argument("--dims", type=number(int, 1, 1024), nargs="+", default=[64, 32, 16],
                        help="widths D (default: 64 32 16)")
    parser.add_argument("--rounds", type=number(int, 1, 10_000), default=15,
                        help="timed iterations of each (default: 15)")
    parser.add_argument("--threads", type=number(int, 1, 1024), default=1, help="of the processor (default: 1)")
    parser.add_argument("--dataset", type=images.dataset_name, default="fashion", help="(default: fashion)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of all randomness (default: 0)")
    files.add_device(parser)
    add_folders(parser, "data", "results")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    device = files.pick_device(args.device)
    precision = files.pick_precision("auto", device)
    data = images.load(args.dataset, args.data_dir)
    if min(len(data.train), len(data.validation)) < BATCH:
        raise UserError(f"--dataset {args.dataset}: fewer images than a batch of {BATCH}")
    dims = {}
    for dim in args.dims:
        loops = {loop: make(loop, dim, precision, args.seed, data, device) for loop in LOOPS}
        seconds = {loop: [] for loop in loops}
        for turn in tqdm(range(args.rounds + WARM_UP), unit="round", desc=f"D = {dim}"):
            for loop, training in loops.items():
                taken = timed(training.step, device)
                if turn >= WARM_UP:
                    seconds[loop].append(taken)
        median = {loop: statistics.median(values) for loop, values in seconds.items()}
        dims[str(dim)] = {
            "seconds_per_iteration": {loop: {"median": median[loop], "min": min(values), "max": max(values),
                                             "n": len(values)} for loop, values in seconds.items()},
            "textbook_over_shipped": median["textbook"] / median[SHIPPED],
            "cost": {loop: median[loop] / median["dcgan"] for loop in loops}}
    result = {"threads": args.threads, "precision": precision, "batch": BATCH, "device": device.type,
              "processor": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
              "torch": str(torch.__version__), "dims": dims}
    path = args.results_dir / "q4" / ("benchmark.json" if device.type == "cpu" else f"benchmark_{device.type}.json")
    write(path, as_json(result))
    print(markdown(result))
    print(f"saved {path}")


if __name__ == "__main__":
    run_main(main)
