"""Trainings as functions that any process or machine can run, and records of many of them.

tune.py, compare.py and stability.py are lists of runs. A run has one thread and a fixed number of iterations, so that
it gives the same on any machine that rounds alike. Every run that has ended is a line of a record.
"""

import contextlib
import functools
import importlib.util
import json
import math
import time

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from . import classifier, files, images, metrics, sampling
from .command import ROOT, UserError, check_writable, read, write
from .summary import NAMES
from .textbook import Textbook
from .training import Training

CPU = torch.device("cpu")
CHECK_EVERY = 50  # iterations between looks for NaN
SAVE_EVERY = 60  # seconds between the checkpoints of a run that has a folder
BATCH = 64  # Algorithm 1
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
def ground(dataset, data_dir, weights_dir):
    """(Images, classifier), read once per process: no task carries them. None: the folder of this repository."""
    return (images.load(dataset, data_dir or ROOT / "data"),
            classifier.load(weights_dir or ROOT / "weights", dataset, CPU))


@functools.lru_cache(maxsize=2)
def measure(part, *where):
    """The Metrics against the 'validation' or the 'test' images of `ground(*where)`."""
    data, network = ground(*where)
    return metrics.Metrics(network, data.train, getattr(data, part), CPU)


def measured(generator, part, where, seed):
    """(metrics of as many images of `generator` as the part has, those images)."""
    pixels = sampling.sample(generator, len(getattr(ground(*where)[0], part)), seed, CPU)
    found = measure(part, *where)(pixels)
    digits = {"relative_distance": 3, "relative_distance_pixels": 3}
    return {**{name: round(found[name], n) for name, n in digits.items()},
            "class_frequencies": [round(f, 4) for f in found["class_frequencies"]]}, pixels


def outcome(finite, frequencies):
    """'diverged' (NaN), 'collapsed' (fewer than ten classes with 1 % each), else 'trained'."""
    if not finite:
        return "diverged"
    return "collapsed" if min(frequencies) < metrics.SMALLEST_FREQUENCY else "trained"


def run(options, points=(1.0,), folder=None, where=("fashion", None, None)):
    """Train with `options` on one thread and measure the EMA of the generator against the validation images.

    options: those of training.Training, or with "objective": "textbook" those of textbook.Textbook.
    points: at which fractions of the iterations it is measured, the last one 1; several make a "curve".
    folder: of run folders. The run then keeps its checkpoint and its last generator there, goes on where it was killed,
        and is measured on the test images too, when it has ended.
    where: data set, data and weights folders (None: those of this repository, wherever the process is).

    Returns a line of a record: options, outcome, reached, relative distances and class frequencies (None where it
    diverged), curve, core_seconds of training alone, test.
    """
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if folder:
            folder = folder / folder_name(options)
            stack.enter_context(files.locked(folder, busy=f"{folder}: another process is training it"))
        data, _ = ground(*where)
        kind = Textbook if options["objective"] == "textbook" else Training
        training = kind(options, data.train, data.validation, CPU)
        curve, core, finite = [], 0.0, True
        if folder and (folder / "checkpoint.pt").exists():
            curve, core = restore(training, folder / "checkpoint.pt", options)
        n, saved = options["iterations"], time.monotonic()
        moments = sorted({max(1, round(n * fraction)) for fraction in points})
        progress = stack.enter_context(tqdm(total=n, initial=training.iteration, unit="it", mininterval=10,
                                            desc=folder.name if folder else None, disable=not folder))
        while finite and training.iteration < n:
            began, stop = time.process_time(), min([m for m in moments if m > training.iteration][0],
                                                   training.iteration // CHECK_EVERY * CHECK_EVERY + CHECK_EVERY)
            while training.iteration < stop:
                training.step()
                progress.update()
            finite = all(map(math.isfinite, training.take_losses().values()))
            core += time.process_time() - began
            if finite and stop in moments:
                found, _ = measured(training.ema_generator(), "validation", where, options["seed"])
                curve.append({"iteration": stop, "core_seconds": round(core, 1), **found})
            if folder and finite and (stop == n or time.monotonic() - saved > SAVE_EVERY):
                write(folder / "checkpoint.pt", files.as_torch(
                    {"training": training.state(), "options": options, "curve": curve, "core_seconds": core}))
                saved = time.monotonic()
        last = curve[-1] if finite else dict.fromkeys(MEASURED)
        line = {**options, "outcome": outcome(finite, last["class_frequencies"]), "reached": training.iteration,
                **{name: last[name] for name in MEASURED}, "core_seconds": round(core, 1)}
        if len(points) > 1:
            line["curve"] = [{name: value for name, value in point.items() if name != "class_frequencies"}
                             for point in curve]
        if folder and finite:
            generator = training.ema_generator()
            write(folder / "generator.pt", files.as_torch(content(generator, line, where[0])))
            line["test"] = tested(generator, where, options["seed"])
        return line


def restore(training, path, options):
    """Bring `training` to the checkpoint in `path`; its (curve, core seconds)."""
    state = files.from_torch(read(path), path)
    if state.get("options") != options:
        raise UserError(f"{path}: of a run with other options; move its folder away")
    training.restore(state["training"])
    return state["curve"], state["core_seconds"]


def tested(generator, where, seed):
    """The metrics of `generator` on the test images, precision and recall in the classifier's features."""
    found, pixels = measured(generator, "test", where, seed)
    data, network = ground(*where)
    features = (classifier.classify(network, part)[0] for part in (data.test, pixels))
    precision, recall = metrics.precision_recall(*features)
    return {**found, "precision": round(precision, 4), "recall": round(recall, 4)}


def content(generator, line, dataset):
    """The file of a generator, which says what it is."""
    state = {name: value.cpu().contiguous() for name, value in generator.state_dict().items()}
    return {"model": "dcgan" if line["objective"] == "dcgan" else "wgan", "dataset": dataset, "commit": files.commit(),
            **{name: value for name, value in line.items() if name in OPTIONS}, "state": state}


def folder_name(options):
    return f"compare_{options['objective']}_seed{options['seed']}"


# ---- many runs -----------------------------------------------------------------------------------

def key(options):
    """What tells one run from another, as text: its options."""
    return json.dumps({name: options[name] for name in OPTIONS if name in options})


def best(record, objective):
    """The line of the record `record` that trained and has the least relative distance to the validation images."""
    lines = [line for line in files.read_lines(record)
             if line.get("objective") == objective and line.get("outcome") == "trained"]
    if not lines:
        raise UserError(f"{record}: no run of {NAMES[objective]} that trained; first `python q4_wgan/tune.py`")
    return min(lines, key=lambda line: line["relative_distance"])


def settings(line):
    """The settings that tune.py searches, of a line of its record."""
    return {name: line[name] for name in SETTINGS if line.get(name) is not None}


def run_missing(work, path, jobs=None, client=None, **how):
    """Run those of `work`, a list of options, that have no line in the record `path`, and add them there as they end.

    jobs: at once on this machine; None for one per core. client: of a Dask cluster, on whose workers they run instead.
    how: the other arguments of `run`. Yields the lines of `work` that are there, in its order: at once, then after
    every run. Raises UserError where processes keep dying.
    """
    check_writable(path.parent)
    wanted, deaths = [key(options) for options in work], 0
    lines = {key(line): line for line in reversed(files.read_lines(path))}  # the first one counts

    def done():
        return [lines[name] for name in wanted if name in lines]

    yield done()
    with tqdm(total=len(wanted), initial=len(done()), unit="run", desc=path.stem) as progress:
        while missing := [options for options in work if key(options) not in lines]:
            try:
                for line in results(missing, jobs, client, how):
                    files.append_line(path, line)
                    lines[key(line)] = line
                    progress.update()
                    yield done()
            except TerminatedWorkerError:  # killed, or for want of memory: its run is done again
                deaths += 1
                if deaths > 3:
                    raise UserError(f"processes keep dying; what has ended is in {path}, and the same command "
                                    "goes on") from None
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"interrupted; what has ended is in {path}, and the same command "
                                        "goes on") from None


def results(work, jobs, client, how):
    """The lines of the runs of `work`, as they end."""
    if client:
        from distributed import as_completed

        futures = [client.submit(run, options, **how, pure=False) for options in work]
        return (future.result() for future in as_completed(futures))
    with parallel_config("loky", inner_max_num_threads=1):
        # One task per worker at a time: a worker's death can only be the doing of those under way.
        parallel = Parallel(jobs or -1, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
    return parallel(delayed(run)(options, **how) for options in work)


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
