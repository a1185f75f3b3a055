"""Trains a generator: --model dcgan or --model wgan (gradient penalty, or --penalty clip).

One loop for all objectives, so that the comparison is fair: the same generator, batch, seeds, schedule and EMA.
A run lives in results/runs/NAME/: options.json, metrics.csv and checkpoint.pt, renewed together, and at the end
generator.pt and outcome.json. A training of 2,000 iterations or more has lines in results/q4/attempts.jsonl. What
converged ships to weights/ and results/q4/, unless what ships has a smaller relative Frechet distance.
"""

import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, command, files, images, ledger, metrics, sampling
from q4_wgan.command import UserError, as_json, write
from q4_wgan.objectives import OBJECTIVES
from q4_wgan.run_folder import Run
from q4_wgan.training import BATCH, EMA

# Without CUDA: hours, not days, and so other settings than for the paper's 200,000 iterations. [4], [12]
SHORT, LONG = 22_000, 200_000
SHORT_SETTINGS = {"dcgan": {"learning_rate": 2e-3}, "wgan-clip": {},
                  "wgan-gp": {"learning_rate": 8e-4, "generator_learning_rate": 3e-3, "beta1": 0.0,
                              "penalty_images": 16}}
GIVEN = ("model", "dataset", "objective", "arch", "dim", "iterations", "batch", "penalty_images", "learning_rate",
         "generator_learning_rate", "beta1", "seed", "precision", "device")  # options of the command line, recorded
EXAMPLES = """examples:
  python q4_wgan/train.py --model wgan                 WGAN-GP, hours on 2 CPU cores
  python q4_wgan/train.py --model dcgan                DCGAN, an hour and more
  python q4_wgan/train.py --model wgan --resume        go on after Ctrl-C, a kill or a power cut
  python q4_wgan/train.py --model wgan --quick         a test of the installation: trains a little, keeps nothing
  python q4_wgan/train.py --model wgan --penalty clip  weight clipping instead of the gradient penalty
  python q4_wgan/train.py --model wgan --dim 128 --device cuda --iterations 200000   the paper's size and length
  python q4_wgan/train.py --model wgan --dataset kmnist    your own images: four idx files in data/kmnist/raw"""


# ---- options -------------------------------------------------------------------------------------

def arguments():
    parser = command.Parser(description=__doc__, epilog=EXAMPLES)
    number, positive, rate = command.number, command.positive, command.number(float, above=0, high=10)
    add = parser.add_argument_group("what to train").add_argument
    add("--model", choices=sampling.MODELS, required=True)
    add("--dataset", type=images.dataset_name, help="fashion, mnist, or NAME of data/NAME/raw (default: fashion)")
    add("--penalty", choices=("gp", "clip"), help="of the WGAN: gradient penalty or weight clipping (default: gp)")
    add("--arch", choices=("conv", "resnet"), help="plain, or residual as in appendix F (default: conv)")
    add("--dim", type=number(int, 1, 1024), help="width D of the networks (default: 64; resnet 128)")
    add = parser.add_argument_group("how").add_argument
    add("--iterations", type=positive, help="generator iterations (default: 22000; with CUDA 200000, the paper's)")
    add("--batch", type=number(int, 2, 10_000), help="images per step (default: 64, the paper's)")
    add("--penalty-images", type=number(int, 1, 10_000), metavar="N",
        help="of each batch that the gradient penalty is taken on (default: 16; with CUDA all)")
    add("--lr", type=rate, dest="learning_rate", metavar="RATE", help="learning rate, decayed linearly to 0 (default: "
        "dcgan 2e-3, WGAN-GP 8e-4, with CUDA 2e-4; clip 5e-5)")
    add("--generator-lr", type=rate, dest="generator_learning_rate", metavar="RATE",
        help="of the generator (default: --lr; without that, WGAN-GP 3e-3, with CUDA 2e-4)")
    add("--beta1", type=number(float, 0, below=1), help="of Adam (default: 0.5; WGAN-GP 0, with CUDA 0.5)")
    add("--seed", type=command.seed, help="seed of all randomness (default: 0)")
    add("--precision", choices=("auto", "bfloat16", "float32"), default="auto",
        help="of convolutions (default: what computes faster here)")
    group = parser.add_argument_group("the run")
    files.add_device(group)
    group.add_argument("--name", type=command.name, help="of the run folder (default: model and seed)")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true", help="go on with the run of that name, with its options")
    either.add_argument("--quick", action="store_true", help="train a little on few images, and keep nothing")
    command.add_folders(group, "data", "weights", "results")
    args = parser.parse_args()

    if args.penalty and args.model == "dcgan":
        raise UserError("--penalty belongs to --model wgan; the DCGAN has none")
    args.objective = "dcgan" if args.model == "dcgan" else f"wgan-{args.penalty}" if args.penalty else None
    if args.penalty_images and (args.objective or "wgan-gp") != "wgan-gp":
        raise UserError("--penalty-images belongs to the gradient penalty")
    if args.beta1 is not None and args.objective == "wgan-clip":
        raise UserError("--beta1 is Adam's; weight clipping has RMSProp")
    if args.quick:
        args.iterations, args.dim, args.name = 30, min(args.dim or 16, 16), "quick"
    return args


def new_options(args, device):
    """The whole options of a new run: those given, and for the others the papers', but without CUDA SHORT_SETTINGS."""
    objective, arch = args.objective or "wgan-gp", args.arch or "conv"
    short = SHORT_SETTINGS[objective] if device.type != "cuda" else {}
    options = {"dataset": "fashion", "objective": objective, "arch": arch, "dim": {"conv": 64, "resnet": 128}[arch],
               "iterations": LONG if device.type == "cuda" else SHORT, "batch": BATCH, "seed": 0,
               "learning_rate": OBJECTIVES[objective].learning_rate, **short}
    if args.learning_rate:
        options.pop("generator_learning_rate", None)  # one rate given: for both networks
    options |= {key: getattr(args, key) for key in GIVEN if getattr(args, key) is not None}
    if args.penalty_images and args.penalty_images > options["batch"]:
        raise UserError(f"--penalty-images: at most the {options['batch']} of the batch")
    if "penalty_images" in options:
        options["penalty_images"] = min(options["penalty_images"], options["batch"])
    return {**options, "precision": files.pick_precision(args.precision, device), "device": device.type,
            "threads": torch.get_num_threads(), "torch": str(torch.__version__), "commit": files.commit()}


def recorded_options(folder, args):
    """The options of the run in `folder`, which those given on the command line must not contradict."""
    path = folder / "options.json"
    if not path.exists():
        raise UserError(f"{folder}: there is no run to go on with")
    options = command.read_json(path)
    if not {"attempt", "model", "objective", "iterations", "device", "threads"} <= options.keys():
        raise UserError(f"{path}: damaged, not the options of a training; move its folder away")
    for key in GIVEN:
        given, had = getattr(args, key), options.get(key)
        if given not in (None, "auto", had):
            option = key.replace("learning_rate", "lr").replace("objective", "penalty").replace("_", "-")
            raise UserError(f"--{option}: the run in {folder} has {had}, and keeps it")
    return options


def base_name(options):
    """q4_dcgan, q4_wgan; what is not the default is named, and never replaces them: q4_wgan_clip_resnet_kmnist."""
    words = ["q4", *options["objective"].removesuffix("-gp").split("-"),
             *(options[key] for key, default in (("arch", "conv"), ("dataset", "fashion")) if options[key] != default)]
    return "_".join(words)


# ---- a run ---------------------------------------------------------------------------------------

def ship(args, run, content):
    """Ship generator, losses and grids of a converged run, all or none, unless those that ship are better."""
    base = base_name(run.options)
    path, stem = args.weights_dir / f"{base}.pt", args.results_dir / "q4" / base.removeprefix("q4_")
    try:
        shipped = sampling.load_generator(path, run.options["model"])[1]  # finishes a shipping that was killed
        before = ledger.with_new_keys(shipped)["relative_distance"]
        if (shipped.get("attempt") != content["attempt"] and before <= content["relative_distance"]
                and ledger.same_unit(shipped, content["real_distance"])):
            return (f"kept {path}, whose relative distance is {before:.2f}; this run's weights are "
                    f"{run.folder / 'generator.pt'}")
    except (UserError, KeyError, TypeError):
        pass  # none ships, or it is damaged
    files.ship(args.weights_dir, {path.name: files.as_torch(content)},
               {f"{stem}_losses.csv": run.metrics(), f"{stem}_grids.npz": run.grids_npz()})
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
    return 0 if args.quick else report(result, where)


def report(result, where):
    print(f"{result['outcome']}: {result['reason']}; {where}")
    return 0 if result["outcome"] == "converged" else 1


def start(args):
    """Open the run of `args`, new or with --resume, and train it: its exit status."""
    device = files.pick_device(args.device)
    options = new_options(args, device)
    folder = args.results_dir / "runs" / (args.name or f"{base_name(options)}_seed{options['seed']}")
    if args.resume:
        options = recorded_options(folder, args)
        device = files.pick_device(options["device"])
        if (folder / "outcome.json").exists():
            ended = command.read_json(folder / "outcome.json")
            if not {"outcome", "reason"} <= ended.keys():
                raise UserError(f"{folder / 'outcome.json'}: damaged, not the outcome of a training; remove it")
            return report(ended, "ended already")
    elif (folder / "options.json").exists():
        raise UserError(f"{folder} exists: --resume goes on with it, --name NAME starts another")
    else:
        options = {"attempt": f"{folder.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}", **options}
    data = images.load(options["dataset"], args.data_dir)
    if args.quick:
        data = images.Images(*(part[:1000] for part in data))
    if options["batch"] > len(data.validation):
        raise UserError(f"--batch: at most the {len(data.validation)} validation images")
    torch.set_num_threads(options["threads"])  # sums depend on how they are split
    network = classifier.load(args.weights_dir, options["dataset"], device)
    run = Run(options, data, metrics.Metrics(network, data.train, data.validation, device), folder, device)
    with files.locked(folder, busy=f"{folder}: another process is training it"):
        if args.resume and (folder / "checkpoint.pt").exists():
            run.restore()
        else:
            write(folder / "options.json", as_json(options))  # from here on the run exists
        return train(args, run)


def main():
    args = arguments()
    if not args.quick:
        command.check_writable(args.weights_dir, args.results_dir / "q4", args.results_dir / "runs")
        return start(args)
    with tempfile.TemporaryDirectory() as scratch:
        args.results_dir = Path(scratch)
        status = start(args)
    print("interrupted" if status > 1 else "all works; nothing of this was kept")
    return status if status > 1 else 0


if __name__ == "__main__":
    command.run_main(main)
