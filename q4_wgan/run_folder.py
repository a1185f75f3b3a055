"""One training of train.py in its folder, results/runs/NAME: losses, distances and images as it goes, checkpoint."""

import csv
import io
import math
import sys

import numpy as np
from tqdm import tqdm

from . import files, metrics, sampling
from .command import UserError, read, write
from .training import LOSSES, Training

COLUMNS = ("iteration", "seconds", *LOSSES, "validation_critic_loss", "validation_wasserstein", "distance")
LOG_EVERY, CHECKPOINT_EVERY = 10, 250  # iterations; the second is the most that a kill loses
SAMPLE_EVERY = {"dcgan": 1000, "wgan": 500}  # iterations between relative distances
GRIDS, GRID_SEEDS = tuple(100 * 2**k for k in range(12)), range(10)  # when, besides the end, which images are kept


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
        np.savez_compressed(buffer, iterations=np.array(list(self.grids)),
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
        n, training = self.options["iterations"], self.training
        progress = tqdm(total=n, initial=training.iteration, unit="it", desc=self.folder.name,
                        mininterval=0.5 if sys.stderr.isatty() else 30)
        while training.iteration < n and self.finite and not stop:
            training.step()
            progress.update()
            at, last = training.iteration, training.iteration == n
            sampled = last or at % SAMPLE_EVERY[self.options["model"]] == 0
            if sampled or at % LOG_EVERY == 0:
                row = training.take_losses()
                self.finite = all(map(math.isfinite, row.values()))
                if sampled and self.finite:
                    row |= training.validation_losses() | self.evaluate()
                self.rows.append({"iteration": at, "seconds": round(training.seconds, 2), **row})
                progress.set_postfix_str(f"critic {row['critic_loss']:.3f}", refresh=False)
            if self.finite and (last or at in GRIDS):
                z = sampling.latents(GRID_SEEDS).to(training.device)
                self.grids[at] = sampling.draw(training.ema_generator(), z).cpu()
            if self.finite and (last or at % CHECKPOINT_EVERY == 0):
                self.save()
        progress.close()

    def result(self):
        """What outcome.json says."""
        if self.finite and self.found is None:  # resumed at its end
            self.evaluate()
        found = self.found if self.finite else {}
        outcome, reason = metrics.verdict(self.finite, found.get("class_frequencies"), found.get("relative_distance"))
        return {"outcome": outcome, "reason": reason, "reached": self.training.iteration,
                "seconds": round(self.training.seconds), "real_distance": self.measure.real_distance, **found}

    def course(self):
        """The relative distances of the ledger: the first, the least and the last."""
        found = [row["distance"] / self.measure.real_distance for row in self.rows if "distance" in row]
        return {f"relative_distance_{which}": value for which, value in
                zip(("first", "best", "last"), (found[0], min(found), found[-1]) if found else ())}
