"""Trains a generator on images without labels: --model dcgan, wgan (gradient penalty) or wgan-clip (weight clipping).

One loop for all objectives, so that the comparison is fair: the same generator, batch, seeds, schedule and EMA. A run
is a folder, results/runs/NAME: samples.png and losses.png are renewed as it trains, and generate.py draws from it at
any time. Ctrl-C or a kill loses nothing older than a minute: the same command goes on. At its end it says whether it
converged, by a rule fixed before the first training.
"""

import contextlib
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, files, images
from q4_wgan.command import (
    Parser,
    UserError,
    add_folders,
    name,
    number,
    positive,
    read_json,
    run_main,
    seed,
    shown,
    typed,
)
from q4_wgan.run import World, run
from q4_wgan.training import BATCH, MODELS, defaults

EXAMPLES = """examples:
  python q4_wgan/train.py --model wgan                 WGAN-GP, an hour or so of 2 cores; killed, the same goes on
  python q4_wgan/train.py --model dcgan                DCGAN, as long
  python q4_wgan/train.py --model wgan --iterations 2000             minutes, to see how it goes
  python q4_wgan/train.py --model wgan --quick         a test of the installation: trains a little, keeps nothing
  python q4_wgan/train.py --model wgan --paper --device cuda         the paper's size, length and rates
  python q4_wgan/train.py --model wgan --dataset kmnist    your own images: four idx files in data/kmnist/raw"""


def arguments():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add, rate = parser.add_argument, number(float, 1e-9, 10)
    add("--model", choices=MODELS, required=True)
    images.add_dataset(parser)
    add("--paper", action="store_true", help="the paper's settings for what follows, not those of a short training")
    add("--dim", type=number(int, 1, 1024), help="width D of the networks (default: 32; --paper 128)")
    add("--iterations", type=positive, help="of the generator (default: dcgan 30000, wgan 25000, "
        "wgan-clip 9400, an hour or so of 2 CPU cores; --paper 200000)")
    add("--batch", type=number(int, 2, 10_000), default=BATCH, help=f"images per step (default: {BATCH})")
    add("--arch", choices=("conv", "resnet"), default="conv", help="plain, or residual of appendix F (default: conv)")
    add("--learning-rate", type=rate, metavar="RATE", help="of the critic, decayed linearly to 0 (default: "
        "dcgan 3.5e-3, wgan 1.5e-3, wgan-clip 8.3e-4, above D = 32 times 32 / D; --paper 2e-4, clip 5e-5)")
    add("--generator-learning-rate", type=rate, metavar="RATE",
        help="of the generator (default: --learning-rate; without that, dcgan 2.4e-3, wgan 7.4e-3, wgan-clip 9.1e-3, "
        "above D = 32 times 32 / D)")
    add("--beta1", type=number(float, 0, 0.999), help="of Adam (default: 0.5; wgan 0, --paper 0.5)")
    add("--critic-steps", type=number(int, 1, 100), metavar="N",
        help="of the critic in an iteration (default: 1; wgan-clip and --paper 5)")
    add("--penalty-images", type=positive, metavar="N",
        help="of each batch that the gradient penalty is taken on (default: 32; --paper 64)")
    add("--seed", type=seed, default=0, help="of all randomness (default: 0)")
    add("--name", type=name, help="of the run folder (default: one that tells the options)")
    add("--quick", action="store_true", help="train a little on few images, and keep nothing")
    files.add_device(parser)
    add_folders(parser)
    return parser.parse_args()


def options_of(args):
    """All that decides which generator comes out, the machine aside: what was given, else the table's defaults."""
    objective = MODELS[args.model]
    usual = defaults(objective, args.paper, args.dim)
    keys = ("dataset", "arch", "dim", "iterations", "batch", "learning_rate", "generator_learning_rate", "beta1",
            "critic_steps", "penalty_images", "seed")
    given = {key: getattr(args, key) for key in keys if getattr(args, key) is not None}
    for key in given.keys() & {"beta1", "critic_steps", "penalty_images"} - usual.keys():
        raise UserError(f"--{key.replace('_', '-')}: --model {args.model} has none")
    if "learning_rate" in given:
        usual.pop("generator_learning_rate", None)  # one rate given: for both networks
    options = {"objective": objective, **usual, **given}
    options.setdefault("generator_learning_rate", options["learning_rate"])
    if "penalty_images" in options:
        options["penalty_images"] = min(options.pop("penalty_images"), options["batch"])  # after what it follows from
    return options


def usual_name(args):
    """Of the folder of a run: it tells what was given."""
    model = args.model if args.arch == "conv" else f"{args.model}-{args.arch}"
    given = "_paper" * args.paper + f"_batch{args.batch}" * (args.batch != BATCH)
    for key in ("dim", "iterations", "learning_rate", "generator_learning_rate", "beta1", "critic_steps",
                "penalty_images"):
        if getattr(args, key) is not None:
            given += f"_{key}{getattr(args, key)}"
    return f"q4_{model}_{args.dataset}{given}_seed{args.seed}"


def moments(n):
    """When the distance is measured: early, for a first look, then forty times or every 500 iterations."""
    return {100, 200, 400, *range(max(500, n // 40), n, max(500, n // 40))}


def signals():
    """A list that gets the signal which asks for an end, to be acted on between two iterations; a second one kills."""
    stop = []

    def handler(sign, frame):
        stop.append(sign)
        signal.signal(sign, signal.SIG_DFL)

    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, handler)
    return stop


def train(args, folder, part=None):
    """The exit status of a training in its folder. part: how many images of each kind are used; None: all."""
    # A new run has its folder once nothing can be wrong with what was given.
    data = images.Images(*(tensor[:part] for tensor in images.load(args.dataset, args.data_dir)))
    network = classifier.load(args.dataset, args.results_dir)
    if args.batch > len(data.validation):
        raise UserError(f"--batch: at most the {len(data.validation)} validation images")
    options = files.open_run(folder, options_of(args), args)
    draws = f"python q4_wgan/generate.py --run {typed(folder)}"
    if (folder / "outcome.json").exists():
        ended = read_json(folder / "outcome.json")
        print(f"this training has ended, {ended.get('outcome')}: {ended.get('reason')}\n{draws}")
        return 0
    print(f"{options['precision']} on {options['device']}; look at {shown(folder / 'samples.png')} and losses.png as "
          "it trains, the first time within a minute or two", flush=True)
    world = World(data, network, files.pick_device(options["device"]))
    stop = signals()
    result = run(options, world, folder, moments(options["iterations"]), stop, keep=True)
    if result is None:
        print(f"stopped; the same command goes on. What there is draws images:\n{draws}")
        return 128 + stop[0]
    print(f"{result['outcome']}: {result['reason']}\n{draws}")
    return 0


def main():
    args = arguments()
    if not args.quick:
        return train(args, args.results_dir / "runs" / (args.name or usual_name(args)))
    args.iterations, args.dim = 30, min(args.dim or 16, 16)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(None):
        status = train(args, Path(scratch) / "quick", part=1000)
    print("interrupted" if status else "trained 30 iterations on 1,000 images: all works, and nothing of it was kept")
    return status


if __name__ == "__main__":
    run_main(main)
