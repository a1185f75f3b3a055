"""One short training with its verdict, as a function that any process or machine can run: what stability.py and tune.py
repeat many times."""

import functools
import math
import time

import torch

import files
import images
import measures
from training import Judge, Training, pick_precision

CPU = torch.device("cpu")
CHECK_EVERY = 50  # iterations between looks for NaN


@functools.lru_cache(maxsize=1)
def ground(data_dir, weights_dir):
    """(training images, held-out images, judge), read once per process: no task carries them."""
    pixels, held_out = images.split(images.load(data_dir)[0][0])
    return pixels, held_out, Judge(weights_dir, pixels, held_out, CPU)


def run(options, data_dir=None, weights_dir=None):
    """Train with `options` (those of training.Training but the precision) on one thread and judge the averaged generator.

    Returns `options` with the precision, outcome ('converged', 'failed' or 'crashed'), reason, reached, floor, seconds and,
    where the losses stayed finite, distance, shares, modes (classes with 1 % of the images or more) and the losses at the end.
    An error of the training is an outcome too, and so does not end the study. Where this machine lacks the images or the
    weights (by default those of the repository that this file is in): {'error': what is missing}.
    """
    torch.set_num_threads(1)
    try:
        pixels, held_out, judge = ground(data_dir or files.ROOT / "data", weights_dir or files.ROOT / "weights")
    except files.UserError as error:
        return {"error": str(error)}
    options = {**options, "precision": pick_precision("auto", CPU)}  # a cluster's machines may differ
    began, result = time.monotonic(), {"outcome": "crashed", "floor": judge.floor, "distance": None, "shares": None}
    training = None
    try:
        training = Training(options, pixels, held_out, CPU)
        finite = True
        while finite and training.iteration < options["iterations"]:
            training.step()
            if training.iteration % CHECK_EVERY == 0 or training.iteration == options["iterations"]:
                losses = training.take_losses()
                finite = all(map(math.isfinite, losses.values()))
        shares, distance = None, math.inf
        if finite:
            distance, shares = judge(training.shipping_generator(), options["seed"])
            result.update(distance=distance, shares=shares, modes=sum(s >= measures.SMALLEST_SHARE for s in shares),
                          losses={**losses, **training.held_out_losses()})
        result["outcome"], result["reason"] = measures.verdict(finite, shares, distance, judge.floor)
    except Exception as error:  # of any kind: recorded, and the other runs go on
        result["reason"] = " ".join(f"{type(error).__name__}: {error}".split())
    return {**options, **result, "reached": training.iteration if training else 0,
            "seconds": round(time.monotonic() - began, 1)}
