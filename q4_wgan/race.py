"""Time to quality: DCGAN, WGAN-GP and the textbook's WGAN-GP loop, each trained for the same minutes, one after the other.

All three have train.py's networks, batch and average; so the textbook loop (benchmark.py) differs from ours only in the way it
computes. At the default width, narrow enough for minutes to matter, the learning rates are those of stability.py, at others
those of train.py's critics, and they stay constant. The clock stands still while the Frechet distance to the held-out images is
taken. Writes results/q4_race.json and results/q4_race.png.
"""

import matplotlib
import torch
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import files
import images
from benchmark import Textbook, processor, timed
from stability import DIM, RATES
from train import default_settings, rate
from training import Judge, Training, move_average, pick_precision, shipping_generator

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (after the choice of a backend without a screen)

NAMES = {"dcgan": "DCGAN", "wgan-gp": "WGAN-GP", "textbook": "WGAN-GP, textbook loop"}
COLOURS = {"dcgan": "tab:blue", "wgan-gp": "tab:orange", "textbook": "tab:grey"}
POINTS = 12  # of every curve


class AveragedTextbook(Textbook):
    """The textbook loop with the average that ours has."""

    def __init__(self, options, pixels, device):
        super().__init__(options, pixels, device)
        self.average, self.iteration = AveragedModel(self.generator, multi_avg_fn=move_average), 0

    def step(self):
        self.generator.train()
        super().step()
        self.average.update_parameters(self.generator)
        self.iteration += 1


def race(training, judge, seconds, seed, device, label):
    """Train for `seconds`; POINTS times [{iteration, seconds, distance}], evenly spaced in time."""
    points, taken = [], 0.0
    with tqdm(total=round(seconds), unit="s", desc=label) as progress:
        for number in range(1, POINTS + 1):
            while taken < seconds * number / POINTS:
                taken += timed(training.step, device)
            distance, _ = judge(shipping_generator(training.average, seed, device), seed)
            points.append({"iteration": training.iteration, "seconds": round(taken, 1), "distance": distance})
            progress.update(round(taken) - progress.n)
            progress.set_postfix_str(f"{distance / judge.floor:.0f} floors")
    return points


def draw(result, path):
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for name, points in result["curves"].items():
        axes.plot([p["seconds"] / 60 for p in points], [p["distance"] / result["floor"] for p in points], ".-",
                  color=COLOURS[name], label=f"{NAMES[name]} ({points[-1]['iteration']:,} iterations)")
    axes.set(xlabel=f"minutes of training, {result['threads']} CPU threads" if result["device"] == "cpu" else "minutes of training",
             yscale="log", ylabel="Fréchet distance to the held-out images\n(times the real-vs-real floor)",
             title=f"Time to quality, D = {result['dim']}, one run each")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    files.write_atomic(path, lambda file: figure.savefig(file, dpi=150, format="png"))
    plt.close(figure)


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/race.py                  three times 4 minutes, on an otherwise idle machine
  python q4_wgan/race.py --minutes 0.5 --results-dir try
  python q4_wgan/race.py --dim 64         with the networks of train.py, which need hours""")
    parser.add_argument("--minutes", type=rate, default=4, help="of training for each (default: 4)")
    parser.add_argument("--dim", type=files.positive, default=DIM, help=f"width D (default: {DIM})")
    parser.add_argument("--seed", type=files.natural, default=0, help="seed of all randomness (default: 0)")
    files.add_device(parser)
    files.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    device = files.pick_device(args.device)
    pixels, held_out = images.split(images.load(args.data_dir)[0][0])
    judge, curves, rates = Judge(args.weights_dir, pixels, held_out, device), {}, {}
    for name in NAMES:
        objective = "wgan-gp" if name == "textbook" else name
        rates[name] = RATES[objective] if args.dim == DIM else default_settings(objective, device)["learning_rate"]
        options = {"objective": objective, "arch": "conv", "dim": args.dim, "batch": 64, "seed": args.seed,
                   "iterations": 10**9,  # far from its end the learning rate is constant
                   "learning_rate": rates[name], "precision": pick_precision("auto", device)}
        training = (AveragedTextbook(options, pixels, device) if name == "textbook"
                    else Training(options, pixels, held_out, device))
        curves[name] = race(training, judge, 60 * args.minutes, args.seed, device, NAMES[name])
    result = {"minutes": args.minutes, "dim": args.dim, "batch": 64, "seed": args.seed, "learning_rates": rates, "floor": judge.floor,
              "precision": options["precision"], "device": device.type, "threads": torch.get_num_threads(),
              "processor": torch.cuda.get_device_name() if device.type == "cuda" else processor(), "curves": curves}
    files.save_json(args.results_dir / "q4_race.json", result)
    draw(result, args.results_dir / "q4_race.png")
    for name, points in curves.items():
        print(f"{NAMES[name]:24} {points[-1]['iteration']:6,} iterations, {points[-1]['distance'] / judge.floor:.1f} floors")
    print(f"saved {args.results_dir / 'q4_race.json'} and .png")
    return 0


if __name__ == "__main__":
    files.run_main(main)
