"""Trains a generator on Fashion-MNIST: --model dcgan or --model wgan (gradient penalty, or --penalty clip).

One loop for all objectives, so that the comparison is fair: the same generator, batch, seeds, schedule and average.
A run lives in results/runs/NAME/: options.json, metrics.csv, checkpoint.pt, grids/ (the pictures of seeds 0 to 63 as
training goes), and at the end generator.pt and outcome.json. Every attempt is a line in results/q4_attempts.jsonl; what
converged is shipped to weights/ and results/, unless what is there has a smaller Frechet distance.
"""

import argparse
import csv
import io
import json
import math
import os
import re
import shutil
import signal
import sys
import time

import torch
from tqdm import tqdm

import files
import images
import measures
import pictures
from files import UserError
from objectives import OBJECTIVES
from training import AVERAGE, LOSSES, Judge, Training, pick_precision

# On a CPU: hours, not days, and so other settings than for the paper's 200,000 iterations. [4], [13]
SHORT, LONG = 22_000, 200_000
SHORT_SETTINGS = {"dcgan": {"learning_rate": 2e-3},
                  "wgan-gp": {"learning_rate": 8e-4, "generator_learning_rate": 3e-3, "beta1": 0.0, "penalty_images": 16}}
BATCH = 64  # Algorithm 1
SHIPPED = "shipped"  # to --continue, in the place of a run's name
LEDGER = ("attempt", "continues", "model", "objective", "arch", "dim", "start", "critic_alone", "iterations", "batch",
          "penalty_images", "learning_rate", "generator_learning_rate", "beta1", "seed", "precision",
          "device")  # options that a line of the ledger has
COLUMNS = ("iteration", "seconds", *LOSSES, "held_out_critic_loss", "held_out_wasserstein", "distance")


def default_settings(objective, device):
    """Learning rates, and where not the objective's, beta1 and images of the penalty: the papers', but for a CPU."""
    return {"learning_rate": OBJECTIVES[objective].learning_rate, **(SHORT_SETTINGS.get(objective, {}) if device.type == "cpu" else {})}


def settings(args, objective, device):
    """The same where the command line says otherwise. A training that goes on keeps its own."""
    given = {"learning_rate": args.lr, "generator_learning_rate": args.generator_lr, "beta1": args.beta1,
             "penalty_images": args.penalty_images}
    given = {key: value for key, value in given.items() if value is not None}
    if args.continue_run:
        return given
    default = default_settings(objective, device)
    if args.lr:
        default.pop("generator_learning_rate", None)  # one rate given: for both networks
    if "penalty_images" in default:
        default["penalty_images"] = min(default["penalty_images"], args.batch or BATCH)
    return {**default, **given}


def new_options(args, device):
    if args.penalty and args.model == "dcgan":
        raise UserError("--penalty belongs to --model wgan; the DCGAN has none")
    objective = args.model if args.model == "dcgan" else f"wgan-{args.penalty or 'gp'}"
    if args.penalty_images and objective != "wgan-gp":
        raise UserError("--penalty-images belongs to the gradient penalty")
    if args.penalty_images and args.penalty_images > (args.batch or BATCH):
        raise UserError(f"--penalty-images: at most the {args.batch or BATCH} of the batch")
    if args.beta1 is not None and objective == "wgan-clip":
        raise UserError("--beta1 is Adam's; weight clipping has RMSProp")
    arch, on_gpu = args.arch or "conv", device.type == "cuda"
    return {"model": args.model, "objective": objective, "arch": arch,
            "dim": args.dim or {"conv": 64, "resnet": 128}[arch], "iterations": args.iterations or (LONG if on_gpu else SHORT),
            "batch": args.batch or BATCH, **settings(args, objective, device),
            **({"critic_alone": args.critic_alone} if args.critic_alone else {}),
            "seed": args.seed or 0, "precision": pick_precision(args.precision or "auto", device),
            "device": device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__),
            "log_every": args.log_every or 10, "sample_every": args.sample_every or {"dcgan": 1000, "wgan": 500}[args.model],
            "checkpoint_every": args.checkpoint_every or 250}


def base_name(options):
    """q4_dcgan, q4_wgan; what is not the default is named, so that it never replaces them: q4_wgan_clip_resnet."""
    name = "q4_" + options["objective"].removesuffix("-gp").replace("-", "_")
    return name if options["arch"] == "conv" else f"{name}_{options['arch']}"


def rate(text):
    """argparse type: a learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above zero")
    return value


def momentum(text):
    """argparse type: a decay rate of Adam."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to below 1")
    return value


def write_metrics(path, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.save_text(path, text.getvalue())


def open_run(args, device):
    """(options, run folder, checkpoint or None) of a new run, of one that continues an ended one, or with --resume of the one
    in the folder."""
    options = new_options(args, device)
    for name in filter(None, (args.name, args.continue_run)):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UserError(f"{name!r} as the name of a run: letters, digits, '_', '-' and '.' only")
    before = f"{base_name(options)}_{SHIPPED}" if args.continue_run == SHIPPED else args.continue_run
    default = f"{before}_longer" if before else f"{base_name(options)}_seed{options['seed']}"
    folder = args.results_dir / "runs" / (args.name or default)
    if args.resume:
        recorded = recorded_options(folder)
        check_given(args, options, recorded, f"the run in {folder}")
        for leftover in folder.glob(".*.tmp"):  # of a kill in the middle of writing
            leftover.unlink()
        return recorded, folder, load_checkpoint(folder) if (folder / "checkpoint.pt").exists() else None
    if (folder / "options.json").exists():
        raise UserError(f"{folder} exists: --resume goes on with it, --name NAME starts another")
    options["attempt"] = f"{folder.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    checkpoint = None
    if args.continue_run:
        options, checkpoint = continue_run(args, options, folder)
    files.save_json(folder / "options.json", options)  # last: from here on the run exists
    return options, folder, checkpoint


def continue_run(args, options, folder):
    """(options, checkpoint or None) of a new run that goes on where another ended, or from what ships; `folder` gets what it
    needs of that: losses, pictures, checkpoint, or the weights to start from as start.pt."""
    shipped, source = args.continue_run == SHIPPED, args.results_dir / "runs" / args.continue_run
    if shipped:
        source = args.weights_dir / f"{base_name(options)}.pt"
        content = files.load_weights(source, args.model)
        recorded = {**options, **{key: content[key] for key in LEDGER if key in content and key != "precision"}}
    else:
        recorded = recorded_options(source)
        if not (source / "outcome.json").exists():
            raise UserError(f"{source} has not ended: --resume goes on with it")
    check_given(args, options, recorded, source, may_change=("iterations", "lr", "generator_lr", "critic_alone"))
    recorded.pop("critic_alone", None)
    if args.lr:
        recorded.pop("generator_learning_rate", None)
    new = {key: options[key] for key in ("attempt", "threads", "torch", "generator_learning_rate", "critic_alone") if key in options}
    if shipped:
        content["critic"] = shipped_critic(critic_path(source), content["attempt"])
        if content["critic"] is None and not args.critic_alone:
            new["critic_alone"] = options["iterations"] // 4  # [12]
    start = recorded["iterations"]
    options = {**recorded, **new, "continues": recorded["attempt"], "start": start, "iterations": start + options["iterations"],
               "learning_rate": args.lr or recorded["learning_rate"]}
    if not shipped:
        checkpoint = load_checkpoint(source)
        shutil.copytree(source, folder, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("options.json", "outcome.json", "generator.pt", "start.pt", ".*.tmp"))
        return options, checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    files.save_torch(folder / "start.pt", content)
    shutil.copyfile(args.results_dir / f"{source.stem}_losses.csv", folder / "metrics.csv")
    return options, None


def critic_path(path):
    """Of the shipped generator in `path`."""
    return path.with_name(f"{path.stem}_critic.pt")


def shipped_critic(path, attempt):
    """The state of the critic that `attempt` trained together with the shipped generator; None if it is not there."""
    if not path.exists():
        return None
    content = files.load_weights(path, "critic")
    return content["state"] if content["attempt"] == attempt else None


def recorded_options(folder):
    if not (folder / "options.json").exists():
        raise UserError(f"{folder}: there is no run to go on with")
    return json.loads((folder / "options.json").read_text())


def check_given(args, options, recorded, where, may_change=()):
    """An option given on the command line must be the one that the training in `where` had."""
    for option in ("model", "penalty", "arch", "dim", "iterations", "batch", "penalty_images", "lr", "generator_lr", "beta1",
                   "critic_alone", "seed", "precision", "device", "log_every", "sample_every", "checkpoint_every"):
        key = {"penalty": "objective", "lr": "learning_rate", "generator_lr": "generator_learning_rate"}.get(option, option)
        given = option == "device" or getattr(args, option) not in (None, "auto")
        if given and option not in may_change and options[key] != recorded.get(key):
            raise UserError(f"--{option.replace('_', '-')}: {where} has {recorded.get(key)}, and keeps it")


def load_checkpoint(folder):
    try:
        return torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    except Exception:
        raise UserError(f"{folder / 'checkpoint.pt'}: not a readable checkpoint") from None


def describe(generator, options, result):
    """What is shipped: a plain dict that rebuilds its generator without any flag."""
    kept = [key for key in LEDGER if key in options and key != "device"]
    return {**{key: options[key] for key in kept}, "dataset": "fashion", "average": AVERAGE, **result, "state": plain_state(generator)}


def plain_state(network):
    """Its state_dict as plain tensors on the CPU."""
    return {name: value.cpu().contiguous() for name, value in network.state_dict().items()}


def ship(args, options, folder, content, critic):
    """Ship generator, critic (to go on from) and losses of a converged run, unless those that are there have a smaller Frechet
    distance."""
    name = base_name(options)
    path = args.weights_dir / f"{name}.pt"
    try:
        shipped = files.load_weights(path, options["model"])["distance"]
    except (UserError, KeyError):
        shipped = math.inf
    if shipped <= content["distance"]:
        return f"kept {path}, whose Frechet distance is {shipped:.2f}; this run's weights are {folder / 'generator.pt'}"
    files.ship(args.weights_dir, path.name, content)
    files.ship(args.weights_dir, critic_path(path).name,
               {"model": "critic", **{key: options[key] for key in ("attempt", "objective", "arch", "dim")}, "state": plain_state(critic)})
    files.save_text(args.results_dir / f"{name}_losses.csv", (folder / "metrics.csv").read_text())
    return f"shipped {path}"


def evaluate(training, judge, folder):
    """Held-out losses, distance and the grid of seeds 0 to 63: (row for metrics.csv, shares, generator)."""
    generator = training.shipping_generator()
    distance, shares = judge(generator, training.options["seed"])
    with torch.no_grad():
        pixels = images.to_pixels(generator(pictures.latents(range(64)).to(training.device))).cpu()
    pictures.save_png(folder / "grids" / f"{training.iteration:06d}.png", pictures.grid(pixels, columns=8))
    return {**training.held_out_losses(), "distance": distance}, shares, generator


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/train.py --model wgan                      WGAN-GP, two hours to five on 2 CPU cores
  python q4_wgan/train.py --model dcgan                     DCGAN, half an hour and more
  python q4_wgan/train.py --model wgan --resume             go on after Ctrl-C, a kill or a power cut
  python q4_wgan/train.py --model wgan --continue q4_wgan_seed0 --iterations 8000 --lr 6e-4 --generator-lr 2e-3
                                                            longer, once it has ended
  python q4_wgan/train.py --model wgan --continue shipped   from the weights that ship
  python q4_wgan/train.py --model wgan --penalty clip       weight clipping instead of the gradient penalty
  python q4_wgan/train.py --model wgan --dim 128 --device cuda --iterations 200000    the paper's size and length""")
    group = parser.add_argument_group("what to train")
    group.add_argument("--model", choices=files.MODELS, required=True)
    group.add_argument("--penalty", choices=("gp", "clip"), help="of the WGAN: gradient penalty or weight clipping (default: gp)")
    group.add_argument("--arch", choices=("conv", "resnet"), help="plain, or residual as in appendix F (default: conv)")
    group.add_argument("--dim", type=files.positive, help="width D of the networks (default: 64; resnet 128)")
    group = parser.add_argument_group("how")
    group.add_argument("--iterations", type=files.positive,
                       help="generator iterations (default: 22000; on a GPU 200000, the paper's)")
    group.add_argument("--batch", type=files.positive, help="images per step (default: 64, the paper's)")
    group.add_argument("--penalty-images", type=files.positive, metavar="N", help="of each batch that the gradient penalty is "
                            "taken on; fewer are quicker (default: on a CPU 16, else all)")
    group.add_argument("--lr", type=rate, help="learning rate, decayed linearly to 0 (default: on a CPU dcgan 2e-3, WGAN-GP 8e-4; "
                            "else 2e-4; clip 5e-5)")
    group.add_argument("--generator-lr", type=rate, help="of the generator (default: --lr; without that, WGAN-GP on a CPU: 3e-3)")
    group.add_argument("--beta1", type=momentum, help="of Adam (default: 0.5; WGAN-GP on a CPU: 0)")
    group.add_argument("--critic-alone", type=files.positive, metavar="N", help="iterations at the start in which the generator "
                            "stands still (default: 0; a quarter where --continue shipped finds no critic)")
    group.add_argument("--seed", type=files.natural, help="seed of all randomness (default: 0)")
    group.add_argument("--precision", choices=("auto", "bfloat16", "float32"),
                       help="of convolutions (default: auto, what computes faster here)")
    files.add_device(group)
    group = parser.add_argument_group("the run")
    group.add_argument("--name", help="of the run folder (default: model and seed)")
    group.add_argument("--resume", action="store_true", help="go on with the run of that name, with its options")
    group.add_argument("--log-every", type=files.positive, metavar="N",
                       help="iterations per line of metrics.csv (default: 10)")
    group.add_argument("--sample-every", type=files.positive, metavar="N",
                       help="iterations between pictures, held-out cost and Frechet distance (default: 500; dcgan 1000)")
    group.add_argument("--checkpoint-every", type=files.positive, metavar="N",
                       help="iterations between checkpoints, the most that a kill loses (default: 250)")
    group.add_argument("--continue", dest="continue_run", metavar="RUN",
                       help="train the ended run of that name for --iterations more, as a new run; the learning rate starts anew. "
                            "'shipped': the weights that ship; where they have no critic, a new one learns alone at first")
    files.add_folders(group, "data", "weights", "results")
    args = parser.parse_args()
    if args.resume and args.continue_run:
        raise UserError("--continue starts a new run, which --resume --name NAME then goes on with")

    device = files.pick_device(args.device)
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    (pixels, _), _ = images.load(args.data_dir)
    pixels, held_out = images.split(pixels)
    if args.batch and not 2 <= args.batch <= len(held_out):
        raise UserError(f"--batch: from 2 (batch norm) to the {len(held_out)} held-out images")
    judge = Judge(args.weights_dir, pixels, held_out, device)
    options, folder, checkpoint = open_run(args, device)
    if (folder / "outcome.json").exists():
        outcome = json.loads((folder / "outcome.json").read_text())
        print(f"{folder.name} has ended already: {outcome['outcome']} ({outcome['reason']})")
        return 0 if outcome["outcome"] == "converged" else 1
    torch.set_num_threads(options["threads"])  # sums depend on how they are split
    training = Training(options, pixels, held_out, device)
    rows = []
    if checkpoint:
        training.restore(checkpoint)
    elif (folder / "start.pt").exists():
        start = files.load_weights(folder / "start.pt", options["model"])
        files.load_state(training.generator, start["state"], folder / "start.pt")
        if start["critic"]:
            files.load_state(training.critic, start["critic"], folder / "start.pt")
        training.iteration, training.seconds = options["start"], start["seconds"]
    if training.iteration:
        with open(folder / "metrics.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file)  # a line that a kill cut short lacks its last columns
                    if None not in row.values() and int(row["iteration"]) <= training.iteration]
    entry = {key: options[key] for key in LEDGER if key in options}
    files.append_ledger(args.results_dir, {**entry, "outcome": "started"})

    stop = []  # the signal that asked for an end, acted on between two iterations
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.append(number))
    write_metrics(folder / "metrics.csv", rows)
    log = open(folder / "metrics.csv", "a", newline="")
    writer = csv.DictWriter(log, COLUMNS, lineterminator="\n")
    progress = tqdm(total=options["iterations"], initial=training.iteration, unit="it", desc=folder.name,
                    mininterval=0.5 if sys.stderr.isatty() else 30)
    began, finite, shares = time.monotonic() - training.seconds, True, None
    while training.iteration < options["iterations"] and finite and not stop:
        training.step()
        progress.update()
        at, last = training.iteration, training.iteration == options["iterations"]
        training.seconds = time.monotonic() - began
        sampling = last or at % options["sample_every"] == 0
        if sampling or at % options["log_every"] == 0:
            row = training.take_losses()
            finite = all(map(math.isfinite, row.values()))
            progress.set_postfix_str(f"critic {row['critic_loss']:.3f} generator {row['generator_loss']:.3f}", refresh=False)
            if sampling and finite:
                more, shares, generator = evaluate(training, judge, folder)
                row.update(more)
            writer.writerow({"iteration": at, "seconds": round(training.seconds, 2), **row})
            log.flush()
        if finite and (last or at % options["checkpoint_every"] == 0):
            os.fsync(log.fileno())  # no line that the checkpoint counts as written may get lost
            files.save_torch(folder / "checkpoint.pt", training.state())
    progress.close()
    log.close()

    if stop and finite and training.iteration < options["iterations"]:
        files.save_torch(folder / "checkpoint.pt", training.state())
        files.append_ledger(args.results_dir, {**entry, "outcome": "interrupted", "reached": training.iteration})
        print(f"stopped at iteration {training.iteration}, checkpoint saved; the same command with --resume goes on")
        return 128 + stop[0]
    distance = math.inf
    if finite:
        if shares is None:  # killed after the last checkpoint
            more, shares, generator = evaluate(training, judge, folder)
            row = more
        distance = row["distance"]
    outcome, reason = measures.verdict(finite, shares, distance, judge.floor)
    result = {"outcome": outcome, "reason": reason, "reached": training.iteration, "seconds": round(training.seconds),
              "floor": judge.floor}
    if finite:
        result.update(distance=distance, shares=shares)
        content = describe(generator, options, result)
        files.save_torch(folder / "generator.pt", content)
    shipped = ship(args, options, folder, content, training.critic) if outcome == "converged" else "nothing is shipped"
    files.append_ledger(args.results_dir, {**entry, **result})
    files.save_json(folder / "outcome.json", result)
    print(f"{outcome}: {reason}; {shipped}")
    return 0 if outcome == "converged" else 1


if __name__ == "__main__":
    files.run_main(main)
