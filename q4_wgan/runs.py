"""Trainings as functions that any process or machine can run, and records of many of them.

tune.py, compare.py and stability.py are lists of runs. A run has one thread and a fixed number of iterations, so that
it gives the same on any machine that rounds alike. Every run that has ended is a line of a record.
"""

import contextlib
import functools
import importlib.util
import json
import math
import os
import shutil
import time

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from . import classifier, command, files, images, metrics, sampling
from .command import ROOT, UserError, write
from .summary import NAMES, shipped
from .textbook import Textbook
from .training import BATCH, Training

HERE = "fashion", None, None, "cpu"  # where a run is done, if nothing else is said
CHECK_EVERY = 50  # iterations between looks for NaN
SAVE_EVERY = 60  # seconds between the checkpoints of a run that has a folder
MEASURED = ("relative_distance", "relative_distance_pixels", "class_frequencies")
SETTINGS = ("learning_rate", "generator_learning_rate", "beta1", "penalty_images")
OPTIONS = ("objective", "arch", "dim", "batch", "iterations", *SETTINGS, "seed", "precision", "generator_arch",
           "generator_variant", "critic_norm", "critic_variant")  # what tells one run from another

# What an iteration costs, in iterations of DCGAN: medians of 10 in turns on one thread of an AMD EPYC at D = 32, in
# bfloat16 0.0690 s (DCGAN), 0.2409, 0.2707, 0.3230 (WGAN-GP, penalty on 16, 32, 64), 0.2236 (clipping), and in float32
# 0.6953 (textbook). Constants, so that the counts are the same on any machine; benchmark.py measures them anew.
COST = {"dcgan": 1.0, "wgan-gp": {16: 3.5, 32: 3.9, 64: 4.7}, "wgan-clip": 3.2, "textbook": 0.6953 / 0.0690}


def cost(options):
    """What an iteration of a run with `options` costs, in iterations of DCGAN of the same width."""
    value = COST[options["objective"]]
    return value[options.get("penalty_images", BATCH)] if isinstance(value, dict) else value


def iterations(options, compute):
    """The iterations, to two digits, that cost as much as `compute` iterations of DCGAN."""
    return int(float(f"{compute / cost(options):.2g}"))


# ---- one run -------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=1)
def ground(dataset, data_dir, weights_dir, device):
    """(Images, classifier, torch.device), read once per process: no task carries them. None: this repository's folder.
    """
    device = files.pick_device(device)
    return (images.load(dataset, data_dir or ROOT / "data"),
            classifier.load(weights_dir or ROOT / "weights", dataset, device), device)


@functools.lru_cache(maxsize=2)
def measure(part, *where):
    """The Metrics against the 'validation' or the 'test' images of `ground(*where)`."""
    data, network, device = ground(*where)
    return metrics.Metrics(network, data.train, getattr(data, part), device)


def measured(generator, part, where, seed):
    """The metrics of as many images of `generator` as the part has; of 'test' with precision and recall."""
    data, network, device = ground(*where)
    pixels = sampling.sample(generator, len(getattr(data, part)), seed, device)
    found = measure(part, *where)(pixels)
    line = {"relative_distance": round(found["relative_distance"], 3),
            "relative_distance_pixels": round(found["relative_distance_pixels"], 3),
            "class_frequencies": [round(f, 4) for f in found["class_frequencies"]]}
    if part == "test":
        both = metrics.precision_recall(*(classifier.classify(network, one)[0] for one in (data.test, pixels)))
        line |= {name: round(value, 4) for name, value in zip(("precision", "recall"), both)}
    return line


def outcome(finite, frequencies):
    """'diverged' (NaN), 'collapsed' (fewer than ten classes with 1 % each), else 'trained'."""
    if not finite:
        return "diverged"
    return "collapsed" if min(frequencies) < metrics.SMALLEST_FREQUENCY else "trained"


def run(options, points=(1.0,), folder=None, where=HERE, test=False, parent=None):
    """Train with `options` on one thread and measure the EMA of the generator against the validation images.

    options: those of training.Training, or with "objective": "textbook" those of textbook.Textbook.
    points: at which fractions of the iterations it is measured, the last one 1; several make a "curve".
    folder: of the run. It then keeps its checkpoint there, and goes on where it was killed.
    where: data set, data and weights folders (None: those of this repository, wherever the process is), device.
    test: whether the last generator is measured on the test images, too.
    parent: process id of the script that this one works for; where that has been killed, it ends as well.

    Returns a line of a record: options, outcome, reached, relative distances and class frequencies (None where it
    diverged), curve, core_seconds of training alone, test; and the device, if it is not the CPU.
    """
    torch.set_num_threads(1)
    data, _, device = ground(*where)
    kind = Textbook if options["objective"] == "textbook" else Training
    training = kind(options, data.train, data.validation, device)
    curve, core, finite, n = [], 0.0, True, options["iterations"]
    moments = sorted({max(1, round(n * fraction)) for fraction in points})
    with contextlib.ExitStack() as stack:
        if folder:
            path = folder / "checkpoint.pt"
            stack.enter_context(files.locked(folder))
            if path.exists():
                state = files.from_torch(command.read(path), path)
                if state.get("options") != options:
                    raise UserError(f"{path}: of a run with other options; move its folder away")
                training.restore(state["training"])
                curve, core = state["curve"], state["core_seconds"]
        progress = stack.enter_context(tqdm(total=n, initial=training.iteration, unit="it", mininterval=10,
                                            desc=folder.name if folder else None, disable=not folder))
        saved = time.monotonic()
        while finite and training.iteration < n:
            if parent not in (None, os.getppid(), os.getpid()):
                os._exit(1)  # nobody is left to tell
            began, here = time.process_time(), training.iteration
            stop = min(*(m for m in moments if m > here), here // CHECK_EVERY * CHECK_EVERY + CHECK_EVERY)
            while training.iteration < stop:
                training.step()
                progress.update()
            finite = all(map(math.isfinite, training.take_losses().values()))
            core += time.process_time() - began
            if finite and stop in moments:
                found = measured(training.ema_generator(), "validation", where, options["seed"])
                curve.append({"iteration": stop, "core_seconds": round(core, 1), **found})
            if folder and finite and (stop == n or time.monotonic() - saved > SAVE_EVERY):
                write(path, files.as_torch({"training": training.state(), "options": options, "curve": curve,
                                            "core_seconds": core}))
                saved = time.monotonic()
        last = curve[-1] if finite else dict.fromkeys(MEASURED)
        line = {**options, "outcome": outcome(finite, last["class_frequencies"]), "reached": training.iteration,
                **{name: last[name] for name in MEASURED}, "core_seconds": round(core, 1)}
        if device.type != "cpu":
            line["device"] = device.type
        if len(points) > 1:
            line["curve"] = [{name: value for name, value in point.items() if name != "class_frequencies"}
                             for point in curve]
        if test and finite:
            line["test"] = measured(training.ema_generator(), "test", where, options["seed"])
        return line


# ---- many runs -----------------------------------------------------------------------------------

def add_arguments(parser, dim, compute):
    """What tune.py, compare.py and stability.py have in common."""
    number = command.number
    parser.add_argument("--dim", type=number(int, 1, 1024), default=dim, help=f"width D (default: {dim})")
    parser.add_argument("--compute", type=command.positive, default=compute, metavar="N",
                        help=f"of a training, in iterations of DCGAN (default: {compute})")
    parser.add_argument("--dataset", type=images.dataset_name, default="fashion", help="(default: fashion)")
    parser.add_argument("--jobs", type=number(int, 1, 1024), help="runs at once (default: one per core)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of every run (default: cpu)")
    command.add_folders(parser, "data", "weights", "results")


def where(args):
    """The argument of `run`. A worker on another machine takes the folders of its own copy, unless told which."""
    folders = (None if folder == ROOT / name else folder.resolve()
               for name, folder in (("data", args.data_dir), ("weights", args.weights_dir)))
    return args.dataset, *folders, args.device


def key(options):
    """What tells one run from another, as text: its options."""
    return json.dumps({name: options[name] for name in OPTIONS if name in options})


def tuned(results_dir, dataset, objective, compute=None):
    """The settings of the best draw of tune.py's search, which tuning.json names.

    compute: what it must have had, where the search is one of --results-dir: else it has not ended.
    """
    path = shipped(results_dir, f"tuning{classifier.suffix(dataset)}.json")
    best = command.read_json(path)[objective]["best"] if path.exists() else None
    if not best:
        raise UserError(f"{path}: no run of {NAMES[objective]} that trained; first `python q4_wgan/tune.py`")
    if (compute and path.is_relative_to(results_dir) and "iterations" in best
            and best["iterations"] != iterations(best, compute)):
        raise UserError(f"{path}: the best run of {NAMES[objective]} is of another length than the comparison; first "
                        "end `python q4_wgan/tune.py`")
    return settings(best)


def settings(line):
    """The settings that tune.py searches, of a line of its record."""
    return {name: line[name] for name in SETTINGS if line.get(name) is not None}


def run_missing(work, path, jobs=None, client=None, folder=None, **how):
    """Run those of `work`, a list of options, that have no line in the record `path`, and add them there as they end.

    jobs: at once on this machine; None for one per core. client: of a Dask cluster, on whose workers they run instead.
    folder: a function from options to the folder of a run. how: the other arguments of `run`. Returns the lines of
    `work` in its order. Raises UserError where processes keep dying.
    """
    command.check_writable(path.parent)
    if not client:
        ground(*how["where"])  # missing images or weights: say so now
    lines = {key(line): line for line in reversed(files.read_lines(path))}  # the first one counts
    missing, deaths = [options for options in work if key(options) not in lines], 0
    for options in work:
        if folder and key(options) in lines:  # its script was killed between the line and this
            shutil.rmtree(folder(options), ignore_errors=True)
    with tqdm(total=len(work), initial=len(work) - len(missing), unit="run", desc=path.stem) as progress:
        while missing:
            tasks = [(options, {**how, "folder": folder(options) if folder else None}) for options in missing]
            try:
                for line in results(tasks, jobs, client):
                    lines[key(line)] = files.append_line(path, line)
                    if folder:
                        shutil.rmtree(folder(line), ignore_errors=True)
                    progress.update()
            except TerminatedWorkerError:  # killed, or for want of memory: its run is done again
                deaths += 1
                if deaths > 3:
                    raise UserError(f"processes keep dying; what has ended is in {path}, and the same command "
                                    "goes on") from None
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"interrupted; what has ended is in {path}, and the same command "
                                        "goes on") from None
            missing = [options for options in work if key(options) not in lines]
    return [lines[key(options)] for options in work]


def results(tasks, jobs, client):
    """The lines of the runs of `tasks`, pairs of options and the other arguments, as they end."""
    if client:
        from distributed import as_completed

        futures = [client.submit(run, options, **how, pure=False) for options, how in tasks]
        return (future.result() for future in as_completed(futures))
    with parallel_config("loky", inner_max_num_threads=1):
        # One task per worker at a time: a worker's death can only be the doing of those under way.
        parallel = Parallel(jobs or -1, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
    return parallel(delayed(run)(options, **how, parent=os.getpid()) for options, how in tasks)


def connect(address):
    """A client of the Dask cluster at `address`, tcp://host:port, whose scheduler and workers can import this room."""
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--scheduler: needs Dask, pip install 'dask[distributed]'") from None
    try:
        client = Client(address, timeout=10)
        client.wait_for_workers(1, timeout=60)
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {address}: no Dask scheduler with a worker answers there "
                        f"({type(error).__name__})") from None
    found = {"the scheduler": client.run_on_scheduler(importlib.util.find_spec, "q4_wgan"),
             **client.run(importlib.util.find_spec, "q4_wgan")}
    lacking = [name for name, spec in found.items() if spec is None]
    if lacking:
        client.close()
        raise UserError(f"--scheduler {address}: {', '.join(lacking)} cannot import q4_wgan; start scheduler and "
                        "workers in the root of a copy of this repository, with PYTHONPATH=.")
    return client
