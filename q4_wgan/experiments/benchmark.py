"""Seconds of one iteration: DCGAN, clipping, WGAN-GP by critic steps and images of the penalty, and the textbook loop.

Networks, batch and images are the same; the loops take turns, so that all see the same state of the machine, and the
median counts. On one thread, as compare.py trains, the defaults of train.py on two as well; in the precision that this
processor is quicker in and, if that is bfloat16, some in float32, too. Writes benchmark.json: seconds, and cost in
iterations of DCGAN on one thread (jobs.COST has such constants). Ten minutes.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))  # the repository, wherever the script is started
from q4_wgan import files, images
from q4_wgan.command import Parser, add_folders, as_json, number, path, run_main, shown, write
from q4_wgan.experiments import textbook
from q4_wgan.metrics import table
from q4_wgan.training import BATCH, Training

WARM_UP = 2  # rounds
LOOPS = {"dcgan": ("DCGAN", {}), "wgan-clip": ("WGAN, clipping", {}),
         **{f"wgan-gp {images}, {n} steps": (f"WGAN-GP, {n} critic step{'s' * (n > 1)}, penalty on {images}",
                                             {"critic_steps": n, "penalty_images": images})
            for n, images in ((1, 16), (1, 32), (2, 16), (3, 16))},
         **{f"wgan-gp {n}": (f"WGAN-GP, 5 critic steps, penalty on {n}", {"penalty_images": n}) for n in (16, 32, 64)},
         "textbook": ("WGAN-GP, textbook loop", {})}  # {name in the record: title, options}
DEFAULTS = "dcgan", "wgan-gp 32, 1 steps"  # of train.py


def make(loop, dim, precision, data, device):
    options = {"objective": loop.split()[0], "arch": "conv", "dim": dim, "batch": BATCH, "iterations": 10**6,
               "learning_rate": 2e-4, "seed": 0, "precision": precision, **LOOPS[loop][1]}
    return (textbook.Textbook if loop == "textbook" else Training)(options, data, device)


def timed(step, device, threads):
    torch.set_num_threads(threads)
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def processor():
    """Its name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


def markdown(result):
    """Seconds per iteration by width, as the table in README.md."""
    titles = {name: title for name, (title, _) in LOOPS.items()}
    titles |= {f"{name} float32": f"{title}, float32" for name, title in titles.items()}
    titles |= {f"{name}, 2 threads": f"{title}, two threads" for name, title in titles.items()}
    dims = result["dims"].values()
    return table(("", *(f"D = {dim}" for dim in result["dims"])), (
        (title, *(f"{entry['seconds_per_iteration'][loop]['median']:.3f}" for entry in dims))
        for loop, title in titles.items() if all(loop in entry["seconds_per_iteration"] for entry in dims)))


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/experiments/benchmark.py            on an otherwise idle machine, ten minutes
  python q4_wgan/experiments/benchmark.py --dims 32 --rounds 3""")
    add = parser.add_argument
    add("--dims", type=number(int, 1, 1024), nargs="+", default=[64, 32, 16], help="widths D (default: 64 32 16)")
    add("--rounds", type=number(int, 1, 10_000), default=15, help="timed iterations of each (default: 15)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    add("--out", type=path, metavar="FOLDER", help="for benchmark.json (default: results/runs/q4)")
    add_folders(parser)
    args = parser.parse_args()

    torch.set_num_threads(1)
    device = files.pick_device(args.device)
    quick = files.pick_precision("auto", device)
    kinds = {name: (name, quick, 1) for name in LOOPS}  # {name in the record: loop, precision, threads}
    if quick != "float32":
        kinds |= {f"{name} float32": (name, "float32", 1) for name in (*DEFAULTS, "wgan-gp 64")}
    kinds |= {f"{name}, 2 threads": (*kinds[name][:2], 2) for name in kinds if kinds[name][0] in DEFAULTS}
    data, dims = images.load("fashion", args.data_dir), {}
    for dim in args.dims:
        loops = {name: make(loop, dim, precision, data, device) for name, (loop, precision, _) in kinds.items()}
        seconds = {name: [] for name in loops}
        for turn in tqdm(range(args.rounds + WARM_UP), unit="round", desc=f"D = {dim}"):
            for name, training in loops.items():
                taken = timed(training.step, device, kinds[name][2])
                if turn >= WARM_UP:
                    seconds[name].append(taken)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        dims[str(dim)] = {"seconds_per_iteration": {name: {"median": median[name], "n": args.rounds} for name in loops},
                          "cost": {name: median[name] / median["dcgan"] for name in loops}}
    result = {"precision": quick, "batch": BATCH, "device": device.type, "torch": str(torch.__version__), "dims": dims,
              "processor": torch.cuda.get_device_name() if device.type == "cuda" else processor()}
    out = (args.out or args.results_dir / "runs/q4") / "benchmark.json"
    write(out, as_json(result))
    print(markdown(result))
    print(f"saved {shown(out)}")


if __name__ == "__main__":
    run_main(main)
