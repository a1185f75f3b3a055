"""Many runs: on the cores of this machine by joblib, or on a Dask cluster; each that has ended is a line of a record.

tune.py, compare.py and stability.py are lists of options. A run has one thread and a fixed number of iterations, so it
gives the same on any machine that rounds alike. Its precision is what the processor is quicker in; its line says which.
"""

import asyncio
import functools
import hashlib
import importlib.util
import json
import os
import shutil

import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from .. import files, images, run
from ..command import ROOT, UserError, add_folders, as_json, number, path, positive, read_json, shown, write
from ..objectives import OBJECTIVES
from ..training import BATCH, Training
from .textbook import Textbook

PUBLISHED = ROOT / "results/q4"  # the records that come with the repository: their lines count everywhere
SETTINGS = ("learning_rate", "generator_learning_rate", "beta1", "penalty_images", "critic_steps")  # tune.py's
OPTIONS = ("objective", "arch", "dim", "batch", "iterations", *SETTINGS, "seed", "generator_arch", "generator_variant",
           "critic_norm", "critic_variant")  # what tells one run from another

SCORES = {"relative_distance": ("relative distance", 1), "relative_distance_pixels": ("in pixels", 2),
          "relative_distance_second": ("second classifier", 1), "precision": ("precision", 3),
          "recall": ("recall", 3)}  # on the test images, with title and digits shown

# What an iteration costs, in iterations of DCGAN, at D = 32 on one thread: medians of 10. Constants, so that the counts
# are the same on any machine; benchmark.py measures them anew. Five steps and clipping: on an AMD EPYC in bfloat16; one
# to three steps: in float32 on a processor without bfloat16.
COST = {"dcgan": 1.0, "wgan-clip": 3.2, "textbook": 10.08,
        "wgan-gp": {1: {16: 1.0, 32: 1.2, 64: 1.4}, 2: {16: 1.6, 32: 1.8, 64: 2.2}, 3: {16: 2.2, 32: 2.5, 64: 2.8},
                    5: {16: 3.5, 32: 3.9, 64: 4.7}}}  # by critic steps and images of the penalty


def cost(options):
    """What an iteration of a run costs, in iterations of DCGAN of the same width."""
    found = COST[options["objective"]]
    if isinstance(found, dict):
        found = found[options.get("critic_steps", 5)][options.get("penalty_images", BATCH)]
    return found


def iterations(options, compute):
    """The iterations, to two digits, that cost as much as `compute` iterations of DCGAN of the same width."""
    return max(1, int(float(f"{compute / cost(options):.2g}")))


def key(options):
    """What tells one run from another, as text: its options, with those that it leaves to a default."""
    objective = OBJECTIVES["wgan-gp" if options["objective"] == "textbook" else options["objective"]]
    usual = {"generator_learning_rate": options["learning_rate"], "beta1": objective.betas and objective.betas[0],
             "critic_steps": objective.critic_steps, "critic_norm": objective.critic_norm,
             "penalty_images": options["batch"] if "penalty" in objective.parts else None}
    return json.dumps([options.get(name, usual.get(name)) for name in OPTIONS], sort_keys=True)


def tuned(name):
    """The settings of the best draw of one of tune.py's lists, of the search that is published."""
    best = read_json(PUBLISHED / "tuning.json")[name]["best"]
    return {setting: best[setting] for setting in SETTINGS if best.get(setting) is not None}


def parse(parser, dim, compute):
    """The arguments of tune.py, compare.py or stability.py, with those that the three have in common."""
    add = parser.add_argument
    add("--summary", action="store_true", help="train nothing: say what is missing, and sum up what is there")
    add("--dim", type=number(int, 1, 1024), default=dim, help=f"width D (default: {dim})")
    add("--compute", type=positive, default=compute, metavar="N",
        help=f"of a training, in iterations of DCGAN (default: {compute})")
    add("--jobs", type=number(int, 1, 1024), help="runs at once (default: one per core)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster to run on instead: tcp://host:8786")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="of every run (default: cpu)")
    add("--out", type=path, metavar="FOLDER",
        help="for new lines of the record, and for what is made of it (default: results/runs/q4)")
    add_folders(parser)
    args = parser.parse_args()
    args.out = args.out or args.results_dir / "runs/q4"
    if args.scheduler is not None and args.jobs:
        raise UserError("--jobs is for this machine; a cluster has as many workers as were started")
    return args


@functools.lru_cache(1)
def world(data_dir, device):
    return run.World.load("fashion", data_dir, ROOT / "results", files.pick_device(device))


class Orphaned:
    """True once the process that this one works for has gone: for run.run the sign to save and end. Windows does not
    tell.
    """

    def __init__(self, parent):
        self.parent = parent

    def __bool__(self):
        return self.parent not in (os.getpid(), os.getppid())


def run_one(options, name, data_dir, results_dir, device, parent=None, points=(1.0,), test=False, keep=False):
    """run.run as a line of a record, in any process or machine.

    name: of its folder in results_dir/runs. data_dir, results_dir: None for those of the repository, wherever it is.
    parent: the process id of the script that waits for it. points: at which fractions of the iterations the distance is
    taken; several make a "curve". test: whether the last generator is scored on the test images, too. keep: whether the
    folder stays, as one that train.py leaves; not for the textbook loop.
    """
    torch.set_num_threads(1)
    ground, n = world(data_dir or ROOT / "data", device), options["iterations"]
    textbook = options["objective"] == "textbook"
    machine = {"device": device, "precision": "float32" if textbook else files.pick_precision("auto", ground.device)}
    folder, keep = (results_dir or ROOT / "results") / "runs" / name, keep and not textbook
    if keep and not (folder / "options.json").exists():
        write(folder / "options.json", as_json({**options, **machine, "threads": 1, "torch": str(torch.__version__),
                                                "commit": files.commit()}))
    result = run.run({**options, **machine}, ground, folder, {max(1, round(n * fraction)) for fraction in points},
                     Orphaned(parent) if parent else (), kind=Textbook if textbook else Training, keep=keep, test=test)
    if result is None:
        os._exit(1)  # nobody is left to tell
    kept = ("outcome", "reached", *run.metrics.MEASURED, "core_seconds", *["curve"] * (len(points) > 1), "test")
    found = {name: result[name] for name in kept if name in result}
    found = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))
    return {**options, **machine, "precision": result["precision"], **found}  # a run that went on keeps its own


def run_missing(work, record, args, **how):
    """Run those of `work`, a list of options, that have no line in a record, and add these to --out's as they end.

    record: its name, such as 'tuning'. how: the other arguments of `run_one`. Killed, the same call goes on. Returns
    the lines of `work` in its order; with --summary nothing is run, and None stands for what is missing.
    """
    file, lines = args.out.resolve() / f"{record}.jsonl", {}
    for line in (*files.read_lines(PUBLISHED / file.name), *files.read_lines(file)):
        lines.setdefault(key(line), line)
    missing = {key(options): options for options in work if key(options) not in lines}
    if args.summary or not missing:
        if missing:
            print(f"{record}: {len(missing)} of {len(work)} runs are missing")
        return [lines.get(key(options)) for options in work]
    if args.scheduler is None:  # here, before many processes do it at once: the images may be missing, to be downloaded
        files.pick_device(args.device)
        images.load("fashion", args.data_dir)
    folders = {one: f"q4_{record}_{hashlib.sha1(one.encode()).hexdigest()[:12]}" for one in map(key, work)}
    places = (None if args.data_dir == ROOT / "data" else args.data_dir.resolve(),
              None if args.results_dir == ROOT / "results" else args.results_dir.resolve(), args.device)
    tasks = [(options, folders[one], *places) for one, options in missing.items()]
    try:
        for line in tqdm(ended(tasks, args, how), total=len(tasks), unit="run", desc=record):
            one = key(line)
            lines[one] = files.append_line(file, line)
            folder = args.results_dir / "runs" / folders[one]
            if not (folder / "outcome.json").exists():  # not one to keep
                shutil.rmtree(folder, ignore_errors=True)
    except TerminatedWorkerError:
        raise UserError(f"a process was killed, perhaps for want of memory; what has ended is in {shown(file)}, and "
                        "the same command goes on, with fewer --jobs if need be") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; what has ended is in {shown(file)}; the same command goes on") from None
    return [lines[key(options)] for options in work]


def publish(name, args, summary, picture, *tables):
    """Write what is made of a record, and print its tables."""
    write(args.out / f"{name}.json", as_json(summary))
    write(args.out / f"{name}.png", picture, sync=False)
    print(*tables, f"saved {shown(args.out / name)}.json and .png", sep="\n\n")


def ended(tasks, args, how):
    """The lines of `tasks`, the first arguments of `run_one`, as they end."""
    if args.scheduler is not None:
        from distributed import as_completed

        client = connect(args.scheduler)
        futures = [client.submit(run_one, *task, pure=False, **how) for task in tasks]
        return (future.result() for future in as_completed(futures))
    jobs = min(len(tasks), effective_n_jobs(args.jobs or -1))  # 1 where there can be no processes
    if jobs == 1:
        return (run_one(*task, **how) for task in tasks)
    parallel = Parallel(jobs, return_as="generator_unordered", batch_size=1)
    return parallel(delayed(run_one)(*task, parent=os.getpid(), **how) for task in tasks)


def connect(address):
    """A client of the Dask cluster at `address`, tcp://host:port, which can import this room. Raises UserError."""
    try:
        from distributed import Client
        client = Client(address, timeout=10)
        client.wait_for_workers(1, timeout=60)
    except ImportError:
        raise UserError("--scheduler: needs Dask, pip install 'dask[distributed]'") from None
    except (OSError, asyncio.TimeoutError, ValueError) as error:  # the second is an OSError from Python 3.11 on
        raise UserError(f"--scheduler {address}: no Dask scheduler with a worker answers there "
                        f"({type(error).__name__})") from None
    found = {"the scheduler": client.run_on_scheduler(importlib.util.find_spec, "q4_wgan"),
             **client.run(importlib.util.find_spec, "q4_wgan")}
    lacking = [name for name, spec in found.items() if spec is None]
    if lacking:
        raise UserError(f"--scheduler {address}: {', '.join(lacking)} cannot import q4_wgan; start scheduler and "
                        "workers in the root of a copy of this repository, with PYTHONPATH=.")
    return client
