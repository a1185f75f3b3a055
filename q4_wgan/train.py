"""Trains a generator: --model dcgan or --model wgan (gradient penalty, or --penalty clip).

One loop for all objectives, so that the comparison is fair: the same generator, batch, seeds, schedule and EMA.
A run lives in results/runs/NAME/: options.json, metrics.csv and checkpoint.pt, renewed together, and at the end
generator.pt and outcome.json. A training of 2,000 iterations or more has lines in results/q4/attempts.jsonl. What
converged ships to weights/ and results/q4/, unless what ships has a smaller relative Frechet distance.
"""

import csv
import io
import math
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, files, images, ledger, metrics, sampling
from q4_wgan.command import (
    Parser,
    UserError,
    add_folders,
    as_json,
    check_writable,
    name,
    number,
    positive,
    read,
    read_json,
    run_main,
    seed,
    write,
)
from q4_wgan.objectives import OBJECTIVES
from q4_wgan.training import EMA, LOSSES, Training

# On a CPU: hours, not days, and so other settings than for the paper's 200,000 iterations. [4], [13]
SHORT, LONG = 22_000, 200_000
SHORT_SETTINGS = {"dcgan": {"learning_rate": 2e-3},
                  "wgan-gp": {"learning_rate": 8e-4, "generator_learning_rate": 3e-3, "beta1": 0.0,
                              "penalty_images": 16}}
BATCH = 64  # Algorithm 1
GRID_SEEDS = range(10)
GRIDS = tuple(100 * 2**k for k in range(12))  # iterations whose images ship, besides the last
COLUMNS = ("iteration", "seconds", *LOSSES, "validation_critic_loss", "validation_wasserstein", "distance")
RECORDED = {"attempt": str, "model": str, "dataset": str, "objective": str, "arch": str, "dim": int, "iterations": int,
            "batch": int, "learning_rate": float, "seed": int, "precision": str, "device": str, "threads": int,
            "log_every": int, "sample_every": int, "checkpoint_every": int}  # what options.json must have
OPTION_OF = {"lr": "learning_rate", "generator_lr": "generator_learning_rate", "penalty": "objective"}
EXAMPLES = """examples:
  python q4_wgan/train.py --model wgan                 WGAN-GP, two hours to five on 2 CPU cores
  python q4_wgan/train.py --model dcgan                DCGAN, half an hour and more
  python q4_wgan/train.py --model wgan --resume        go on after Ctrl-C, a kill or a power cut
  python q4_wgan/train.py --model wgan --quick         a test of the installation: trains a little, keeps nothing
  python q4_wgan/train.py --model wgan --penalty clip  weight clipping instead of the gradient penalty
  python q4_wgan/train.py --model wgan --dim 128 --device cuda --iterations 200000   the paper's size and length
  python q4_wgan/train.py --model wgan --dataset kmnist    your own images: four idx files in data/kmnist/raw"""


def arguments():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument_group("what to train").add_argument
    add("--model", choices=sampling.MODELS, required=True)
    add("--dataset", type=name, help="fashion, mnist, or NAME of data/NAME/raw (default: fashion)")
    add("--penalty", choices=("gp", "clip"), help="of the WGAN: gradient penalty or weight clipping (default: gp)")
    add("--arch", choices=("conv", "resnet"), help="plain, or residual as in appendix F (default: conv)")
    add("--dim", type=number(int, 1, 1024), help="width D of the networks (default: 64; resnet 128)")
    add = parser.add_argument_group("how").add_argument
    add("--iterations", type=positive, help="generator iterations (default: 22000; on a GPU 200000, the paper's)")
    add("--batch", type=number(int, 2, 10_000), help="images per step (default: 64, the paper's)")
    add("--penalty-images", type=number(int, 1, 10_000), metavar="N",
        help="of each batch that the gradient penalty is taken on (default: on a CPU 16, else all)")
    add("--lr", type=number(float, above=0, high=1e30), help="learning rate, decayed linearly to 0 (default: on a CPU "
        "dcgan 2e-3, WGAN-GP 8e-4; else 2e-4; clip 5e-5)")
    add("--generator-lr", type=number(float, above=0, high=1e30),
        help="of the generator (default: --lr; without that, WGAN-GP on a CPU: 3e-3)")
    add("--beta1", type=number(float, 0, below=1), help="of Adam (default: 0.5; WGAN-GP on a CPU: 0)")
    add("--seed", type=seed, help="seed of all randomness (default: 0)")
    add("--precision", choices=("auto", "bfloat16", "float32"), default="auto",
        help="of convolutions (default: what computes faster here)")
    group = parser.add_argument_group("the run")
    files.add_device(group)
    add = group.add_argument
    add("--name", type=name, help="of the run folder (default: model and seed)")
    add("--log-every", type=positive, metavar="N", help="iterations per line of metrics.csv (default: 10)")
    add("--sample-every", type=positive, metavar="N",
        help="iterations between relative Frechet distances (default: 500; dcgan 1000)")
    add("--checkpoint-every", type=positive, metavar="N",
        help="iterations between checkpoints, the most that a kill loses (default: 250)")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true", help="go on with the run of that name, with its options")
    either.add_argument("--quick", action="store_true", help="train a little on few images, and keep nothing")
    add_folders(group, "data", "weights", "results")
    return parser.parse_args()


# ---- options -------------------------------------------------------------------------------------

def default_settings(objective, device):
    """Learning rates, and where not the objective's own, beta1 and images of the penalty: the papers', but on a CPU."""
    return {"learning_rate": OBJECTIVES[objective].learning_rate,
            **(SHORT_SETTINGS.get(objective, {}) if device.type == "cpu" else {})}


def settings(args, objective, device, batch):
    """The same where the command line says otherwise."""
    given = {"learning_rate": args.lr, "generator_learning_rate": args.generator_lr, "beta1": args.beta1,
             "penalty_images": args.penalty_images}
    default = default_settings(objective, device)
    if args.lr:
        default.pop("generator_learning_rate", None)  # one rate given: for both networks
    if "penalty_images" in default:
        default["penalty_images"] = min(default["penalty_images"], batch)
    return default | {key: value for key, value in given.items() if value is not None}


def new_options(args, device):
    """The whole options of a new run."""
    if args.penalty and args.model == "dcgan":
        raise UserError("--penalty belongs to --model wgan; the DCGAN has none")
    objective = args.model if args.model == "dcgan" else f"wgan-{args.penalty or 'gp'}"
    arch, batch, on_gpu = args.arch or "conv", args.batch or BATCH, device.type == "cuda"
    if args.penalty_images and objective != "wgan-gp":
        raise UserError("--penalty-images belongs to the gradient penalty")
    if args.penalty_images and args.penalty_images > batch:
        raise UserError(f"--penalty-images: at most the {batch} of the batch")
    if args.beta1 is not None and objective == "wgan-clip":
        raise UserError("--beta1 is Adam's; weight clipping has RMSProp")
    return {"model": args.model, "dataset": args.dataset or "fashion", "objective": objective, "arch": arch,
            "dim": args.dim or {"conv": 64, "resnet": 128}[arch],
            "iterations": args.iterations or (LONG if on_gpu else SHORT), "batch": batch,
            **settings(args, objective, device, batch), "seed": args.seed or 0,
            "precision": files.pick_precision(args.precision, device), "device": device.type,
            "threads": torch.get_num_threads(), "torch": str(torch.__version__), "log_every": args.log_every or 10,
            "sample_every": args.sample_every or {"dcgan": 1000, "wgan": 500}[args.model],
            "checkpoint_every": args.checkpoint_every or 250, "commit": files.commit()}


def base_name(options):
    """q4_dcgan, q4_wgan; what is not the default is named, and never replaces them: q4_wgan_clip_resnet_kmnist."""
    words = ["q4", *options["objective"].removesuffix("-gp").split("-"),
             *(options[key] for key, default in (("arch", "conv"), ("dataset", "fashion")) if options[key] != default)]
    return "_".join(words)


def recorded_options(folder, args):
    """The options of the run in `folder`, which those given on the command line must not contradict."""
    path = folder / "options.json"
    if not path.exists():
        raise UserError(f"{folder}: there is no run to go on with")
    options = read_json(path)
    if not all(isinstance(options.get(key), kind) for key, kind in RECORDED.items()):
        raise UserError(f"{path}: damaged, not the options of a training; move its folder away")
    if args.penalty:
        args.penalty = f"wgan-{args.penalty}"
    for option in ("model", "dataset", "penalty", "arch", "dim", "iterations", "batch", "penalty_images", "lr",
                   "generator_lr", "beta1", "seed", "precision", "device", "log_every", "sample_every",
                   "checkpoint_every"):
        given, had = getattr(args, option), options.get(OPTION_OF.get(option, option))
        if given not in (None, "auto", had):
            raise UserError(f"--{option.replace('_', '-')}: the run in {folder} has {had}, and keeps it")
    return options


# ---- a run ---------------------------------------------------------------------------------------

class Run:
    """A training with its measurements in a folder: rows of metrics.csv, grids of images, checkpoint."""

    def __init__(self, options, data, measure, folder, device):
        self.options, self.measure, self.folder = options, measure, folder
        self.training = Training(options, data.train, data.validation, device)
        self.rows, self.grids, self.finite, self.generator, self.found = [], {}, True, None, None

    def restore(self):
        path = self.folder / "checkpoint.pt"
        state = files.from_torch(read(path), path)
        try:
            if state["training"]["options"] != self.options:
                raise UserError(f"{path}: of a run with other options; move its folder away")
            self.training.restore(state["training"])
            self.rows, self.grids = list(state["rows"]), dict(state["grids"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):
            raise UserError(f"{path}: damaged, or not a checkpoint of this training; move its folder away") from None

    def save(self):
        write(self.folder / "metrics.csv", self.metrics())
        write(self.folder / "checkpoint.pt", files.as_torch(
            {"training": self.training.state(), "rows": self.rows, "grids": self.grids}))

    def metrics(self):
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def grids_npz(self):
        """iterations (n,), images uint8 (n, 10, 28, 28) of the EMA's seeds 0 to 9."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, iterations=np.array(list(self.grids)), seeds=np.array(GRID_SEEDS),
                            images=np.stack([grid.numpy() for grid in self.grids.values()]))
        return buffer.getvalue()

    def evaluate(self):
        """Relative distance and class frequencies of the EMA against the validation images, as many as these."""
        self.generator = self.training.ema_generator()
        self.found = self.measure(sampling.sample(self.generator, len(self.training.validation), self.options["seed"],
                                                  self.training.device))
        return {"distance": self.found["relative_distance"] * self.measure.real_distance}

    def go_on(self, stop):
        """Train to the end, a loss that is not finite, or a signal in `stop`."""
        options, training = self.options, self.training
        progress = tqdm(total=options["iterations"], initial=training.iteration, unit="it", desc=self.folder.name,
                        mininterval=0.5 if sys.stderr.isatty() else 30)
        while training.iteration < options["iterations"] and self.finite and not stop:
            training.step()
            progress.update()
            at, last = training.iteration, training.iteration == options["iterations"]
            sampled = last or at % options["sample_every"] == 0
            if sampled or at % options["log_every"] == 0:
                row = training.take_losses()
                self.finite = all(map(math.isfinite, row.values()))
                if sampled and self.finite:
                    row |= training.validation_losses() | self.evaluate()
                self.rows.append({"iteration": at, "seconds": round(training.seconds, 2), **row})
                progress.set_postfix_str(f"critic {row['critic_loss']:.3f}", refresh=False)
            if self.finite and (last or at in GRIDS):
                generator = training.ema_generator()
                z = sampling.latents(GRID_SEEDS).to(training.device)
                self.grids[at] = sampling.draw(generator, z).cpu()
            if self.finite and (last or at % options["checkpoint_every"] == 0):
                self.save()
        progress.close()

    def course(self):
        """The relative distances of the ledger: the first, the least and the last."""
        found = [row["distance"] / self.measure.real_distance for row in self.rows if "distance" in row]
        return {f"relative_distance_{which}": value for which, value in
                zip(("first", "best", "last"), (found[0], min(found), found[-1]) if found else ())}

    def result(self):
        """What outcome.json says."""
        if self.finite and self.found is None:  # resumed at its end
            self.evaluate()
        found = self.found if self.finite else {}
        outcome, reason = metrics.verdict(self.finite, found.get("class_frequencies"), found.get("relative_distance"))
        return {"outcome": outcome, "reason": reason, "reached": self.training.iteration,
                "seconds": round(self.training.seconds), "real_distance": self.measure.real_distance, **found}


def ship(args, run, content):
    """Ship generator, losses and grids of a converged run, all or none, unless those that ship are better."""
    base = base_name(run.options)
    path = args.weights_dir / f"{base}.pt"
    try:
        shipped = sampling.load_generator(path, run.options["model"])[1]  # finishes a shipping that was killed
        if shipped.get("attempt") == content["attempt"]:
            return f"shipped {path}"
        before = ledger.with_new_keys(shipped)["relative_distance"]
        if before <= content["relative_distance"]:
            return (f"kept {path}, whose relative distance is {before:.2f}; this run's weights are "
                    f"{run.folder / 'generator.pt'}")
    except (UserError, KeyError, TypeError):
        pass  # none ships, or it is damaged
    stem = args.results_dir / "q4" / base.removeprefix("q4_")
    files.ship(args.weights_dir, {path.name: files.as_torch(content)},
               {stem.with_name(f"{stem.name}_losses.csv"): run.metrics(),
                stem.with_name(f"{stem.name}_grids.npz"): run.grids_npz()})
    return f"shipped {path}"


def train(args, run):
    """Train `run` to its end, and ship it: its exit status."""
    options, stop = run.options, []  # the signal that asked for an end, acted on between two iterations
    ledger.record(args.results_dir, options, outcome="started")
    handlers = {sign: signal.signal(sign, lambda sign, frame: stop.append(sign))
                for sign in (signal.SIGINT, signal.SIGTERM)}
    run.go_on(stop)
    for sign, handler in handlers.items():
        signal.signal(sign, handler)
    if stop and run.finite and run.training.iteration < options["iterations"]:
        run.save()
        ledger.record(args.results_dir, options, outcome="interrupted", reached=run.training.iteration)
        print(f"stopped at iteration {run.training.iteration}, checkpoint saved; --resume goes on")
        return 128 + stop[0]
    result = run.result()
    write(run.folder / "metrics.csv", run.metrics())
    where = "nothing ships"
    if run.finite:
        state = {key: value.cpu().contiguous() for key, value in run.generator.state_dict().items()}
        content = {**options, "ema": EMA, **result, "state": state}
        write(run.folder / "generator.pt", files.as_torch(content))
        if result["outcome"] == "converged" and not args.quick:
            where = ship(args, run, content)
    ledger.record(args.results_dir, options, **result, **run.course())
    write(run.folder / "outcome.json", as_json(result))
    print(f"{result['outcome']}: {result['reason']}; {where}")
    return 0 if result["outcome"] == "converged" else 1


def quick(args):
    """A little of everything on few images, in a folder that is thrown away."""
    args.iterations, args.dim, args.name = 30, min(args.dim or 16, 16), "quick"
    args.log_every, args.sample_every, args.checkpoint_every = 10, 15, 15
    with tempfile.TemporaryDirectory() as scratch:
        args.results_dir = Path(scratch)
        start(args, images.Images(*(part[:n] for part, n in zip(
            images.load(args.dataset or "fashion", args.data_dir), (5000, 5000, 500, 500, 500, 500)))))
    print("all works; nothing of this was kept")


def start(args, data=None):
    """Open the run of `args`, new or with --resume, and train it: its exit status."""
    device = files.pick_device(args.device)
    options = new_options(args, device)
    folder = args.results_dir / "runs" / (args.name or f"{base_name(options)}_seed{options['seed']}")
    if args.resume:
        options = recorded_options(folder, args)
        device = files.pick_device(options["device"])
        if (folder / "outcome.json").exists():
            ended = read_json(folder / "outcome.json")
            if ended.get("outcome") not in ("converged", "failed"):
                raise UserError(f"{folder / 'outcome.json'}: damaged, not the outcome of a training; remove it")
            print(f"{folder.name} has ended already: {ended['outcome']} ({ended.get('reason')})")
            return 0 if ended["outcome"] == "converged" else 1
    elif (folder / "options.json").exists():
        raise UserError(f"{folder} exists: --resume goes on with it, --name NAME starts another")
    else:
        options = {"attempt": f"{folder.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}", **options}
    data = data or images.load(options["dataset"], args.data_dir)
    if options["batch"] > min(len(data.train), len(data.validation)):
        raise UserError(f"--batch: at most the {len(data.validation)} validation images")
    torch.set_num_threads(options["threads"])  # sums depend on how they are split
    network = classifier.load(args.weights_dir, options["dataset"], device)
    run = Run(options, data, metrics.Metrics(network, data.train, data.validation, device), folder, device)
    with files.locked(folder, busy=f"{folder}: another process is training it"):
        if args.resume and (folder / "checkpoint.pt").exists():
            run.restore()
        elif not args.resume and (folder / "options.json").exists():
            raise UserError(f"{folder} exists: --resume goes on with it, --name NAME starts another")
        else:
            write(folder / "options.json", as_json(options))  # from here on the run exists
        return train(args, run)


def main():
    args = arguments()
    if args.quick:
        return quick(args)
    check_writable(args.weights_dir, args.results_dir / "q4", args.results_dir / "runs")
    return start(args)


if __name__ == "__main__":
    run_main(main)
