"""One training from its options to its outcome, alone or as one of many: train.py and the experiments call `run`."""

import functools
import io
import math
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

from . import classifier, files, images, metrics, plots, sampling
from .command import UserError, as_json, shown, write
from .training import LOSSES, Training

COLUMNS = ("iteration", "seconds", *LOSSES, "validation_critic_loss", "validation_wasserstein",
           "relative_distance", "relative_distance_pixels", "smallest_class_frequency")  # of metrics.csv
LOG_EVERY, SAVE_EVERY = 10, 60  # iterations, seconds
GRIDS, GRID_SEEDS = tuple(100 * 2**k for k in range(12)), range(10)  # when, besides the end, which images are kept
SAMPLES = range(64)  # seeds of samples.png


class World:
    """What every run on a data set needs, read once per process: images, classifiers, device, measures."""

    def __init__(self, data, network, device, second=None):
        self.data, self.network, self.device = data, network.to(device), device
        self.second = second and second.to(device)

    @classmethod
    def load(cls, dataset, data_dir, results_dir, device):
        network = classifier.load(dataset, results_dir)  # before the images: it may be missing
        return cls(images.load(dataset, data_dir), network, device, classifier.load(dataset, results_dir, "residual"))

    @functools.cached_property
    def validation(self):
        """Metrics against the validation images."""
        tqdm.write("measuring the real images, some seconds", file=sys.stderr)
        return metrics.Metrics(self.network, self.data.train, self.data.validation)

    @functools.cached_property
    def test(self):
        """Metrics against the test images, in the features of the second classifier, too."""
        return metrics.Metrics(self.network, self.data.train, self.data.test, self.second)


def run(options, world, folder, moments=(), stop=(), kind=Training, keep=False, test=False):
    """Train to the end, to a loss that is not finite, or until `stop` has an item.

    options: of `kind`, the loop: Training or one like it. folder: for the checkpoint; the same call goes on from it.
    moments: iterations after which the distance is taken, besides the last. keep: leave in the folder, for a user,
    metrics.csv, losses.png, samples.png and generator.pt, renewed at every measurement and when it is stopped, and at
    the end grids.npz and outcome.json. test: score the last generator on the test images, too.

    Returns what outcome.json says, or None where it was stopped. Raises UserError.
    """
    path = folder / "checkpoint.pt"
    state = files.load_torch(path, "options", "training", "rows", "grids") if path.exists() else {}
    options = state.get("options", options)  # of the run that goes on: its precision and threads
    if options.get("device", world.device.type) != world.device.type:
        raise UserError(f"{shown(folder)}: the run interrupted there was on {options['device']}: --device "
                        f"{options['device']} goes on with it")
    training = kind(options, world.data, world.device)
    rows, grids, n, finite = state.get("rows", []), state.get("grids", {}), options["iterations"], True
    if state:
        try:
            training.restore(state["training"])
        except (KeyError, ValueError, RuntimeError, TypeError):
            raise UserError(f"{path}: damaged, or of another version; move its folder away") from None

    def save():
        content = {"options": options, "training": training.state(), "rows": rows, "grids": grids}
        write(path, files.as_torch(content))

    saved, seen = time.monotonic(), bool(state)
    progress = tqdm(total=n, initial=training.iteration, unit="it", desc=folder.name,
                    mininterval=0.5 if sys.stderr.isatty() else 30)
    while training.iteration < n and not stop:
        training.step()
        progress.update()
        at = training.iteration
        measured = at == n or at in moments
        if measured or at % LOG_EVERY == 0:
            row = {"iteration": at, "seconds": round(training.seconds, 2), **training.take_losses()}
            finite = all(map(math.isfinite, row.values()))
            if measured and finite:
                began = time.time()
                row |= measure(training, world)
                if not progress.disable:  # measuring is no part of the rate
                    progress.start_t += time.time() - began
                    progress.last_print_t += time.time() - began
                progress.set_postfix_str(f"distance {row['relative_distance']:.1f}", refresh=False)
            rows.append(row)
        if not finite:
            break
        if keep and (at == n or at in GRIDS):
            grids[at] = sampling.draw_seeds(training.ema_generator(), GRID_SEEDS)
        due = at == n or time.monotonic() - saved > SAVE_EVERY
        if keep and at < n and (measured or due and not seen):
            show(folder, training, rows)
            seen = True
        if due:
            save()
            saved = time.monotonic()
    progress.close()
    if finite and training.iteration < n:  # stopped
        save()
        if keep:
            show(folder, training, rows)
        return None

    curve = [row for row in rows if "relative_distance" in row]
    last = curve[-1] if finite else dict.fromkeys(metrics.MEASURED)
    outcome, reason = metrics.verdict(finite, last)
    result = {"outcome": outcome, "reason": reason, "reached": training.iteration,
              "seconds": round(training.seconds, 1), "core_seconds": round(training.core_seconds, 1),
              **{key: last[key] for key in metrics.MEASURED}}
    scores = metrics.scores(world, training.ema_generator(), options["seed"]) if test and finite else None
    if keep:  # the checkpoint goes last: what is killed before is not trained again
        show(folder, training, rows, result)
        if grids:  # iterations (n,), images uint8 (n, 10, 28, 28) of the EMA
            buffer = io.BytesIO()
            np.savez_compressed(buffer, iterations=np.array(list(grids)), images=torch.stack(list(grids.values())))
            write(folder / "grids.npz", buffer.getvalue())
        write(folder / "outcome.json", as_json(result))
        path.unlink(missing_ok=True)
    result["curve"] = [{key: row[key] for key in ("iteration", *metrics.DISTANCES)} for row in curve]
    result["precision"] = options["precision"]
    return result | ({"test": scores} if scores else {})


def measure(training, world):
    """Metrics of the EMA of the generator against the validation images, as many as they; the critic's loss there."""
    n = len(world.data.validation)
    pixels = sampling.sample(training.ema_generator(), n, training.options["seed"], world.device)
    found = world.validation(pixels)
    return {**training.validation_losses(), **found, "smallest_class_frequency": min(found["class_frequencies"])}


def show(folder, training, rows, result=None):
    """Renew what a user looks at while a run goes on, and use at any time: pictures, log and generator."""
    write(folder / "metrics.csv", as_csv(rows))
    if result and result["outcome"] == "diverged":  # the last good ones stay
        return
    generator, last = training.ema_generator(), result or {"outcome": "not ended", "reached": training.iteration}
    state = {key: value.cpu().contiguous() for key, value in generator.state_dict().items()}
    write(folder / "generator.pt", files.as_torch({**training.options, **last, "state": state}))
    pixels = sampling.draw_seeds(generator, SAMPLES)
    write(folder / "samples.png", sampling.as_png(sampling.grid(pixels, columns=8, scale=3)), sync=False)
    write(folder / "losses.png", plots.losses(rows, training.options["objective"]), sync=False)


def as_csv(rows):
    lines = [",".join(str(row.get(name, "")) for name in COLUMNS) for row in rows]
    return "\n".join((",".join(COLUMNS), *lines)) + "\n"
