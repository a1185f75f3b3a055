"""Training M1's VAE: Algorithm 1 of Kingma et al. 2014, its log, its checkpoint, and the file that it ships in."""

import contextlib
import csv
import ctypes
import hashlib
import io
import math
import time

import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import files
from .command import UserError, read, write
from .m1 import M1

# Chosen on the validation images (EXPERIMENTS.md). The Bernoulli model keeps to the paper.
DEFAULTS = {
    ("fashion", "gaussian"): {"epochs": 60, "kl_weight": 0.02, "distort": 0.2},
    ("mnist", "gaussian"): {"epochs": 100, "kl_weight": 0.1, "distort": 1.0},
    ("fashion", "bernoulli"): {"epochs": 60, "kl_weight": 1.0, "distort": 0.0},
    ("mnist", "bernoulli"): {"epochs": 60, "kl_weight": 1.0, "distort": 0.0},
}


def settings(dataset, likelihood="gaussian", **changes):
    """All that decides which VAE comes out, the machine aside: a dict of the settings with `changes`.

    epochs; batch_size (images); learning_rate (its peak); kl_weight, after `warmup` epochs; distort; vae_seed.
    A data set of the user's own has Fashion-MNIST's.
    """
    chosen = {"dataset": dataset, "likelihood": likelihood, "epochs": 60, "batch_size": 200, "learning_rate": 1e-3,
              "kl_weight": 1.0, "warmup": 5, "distort": 0.0, "vae_seed": 0}
    return chosen | DEFAULTS[dataset if dataset == "mnist" else "fashion", likelihood] | changes


def distorted(x, strength, random):
    """Each image (B, 784) through an affine map of its own, as the encoder sees it [3].

    At strength 1: up to 2 pixels of shift, 10 degrees, 10 % of scale and of shear.
    """
    side = int(x.shape[1] ** 0.5)
    u = strength * (2 * torch.rand(6, len(x), device=x.device, generator=random) - 1)
    angle, scale_x, scale_y, shear = 0.17 * u[0], 1 + 0.1 * u[1], 1 + 0.1 * u[2], 0.1 * u[3]
    shift_x, shift_y = u[4] * 4 / side, u[5] * 4 / side  # in half widths of the image
    rows = [torch.stack([scale_x * angle.cos(), shear - angle.sin(), shift_x], 1),
            torch.stack([shear + angle.sin(), scale_y * angle.cos(), shift_y], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [len(x), 1, side, side], align_corners=False)
    return F.grid_sample(x.view(-1, 1, side, side), grid, align_corners=False).view_as(x)


def keep_freed_memory():
    """Tell glibc to keep freed blocks up to 32 MiB: a tenth of a step's time goes into faulting them in again."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


class Training:
    """Model, optimizer and randomness of one training; `epoch` is one pass of Algorithm 1 over the images."""

    PARTS = ("model", "optimizer", "schedule")  # of a checkpoint

    def __init__(self, chosen, pixels, validation, device, precision):
        self.settings, self.device = chosen, device
        self.pixels, self.validation = (x.flatten(1).to(device) for x in (pixels, validation))
        torch.manual_seed(chosen["vae_seed"])
        self.model = M1(chosen["likelihood"]).to(device)
        self.random = torch.Generator(device).manual_seed(chosen["vae_seed"])
        rate = chosen["learning_rate"]
        scalar = [v for n, v in self.model.named_parameters() if n == "log_variance"]
        rest = [v for n, v in self.model.named_parameters() if n != "log_variance"]
        groups = [{"params": rest}] + [{"params": scalar, "lr": 10 * rate}] * bool(scalar)  # one scalar moves far
        self.optimizer = torch.optim.Adam(groups, lr=rate, fused=device.type != "mps")
        self.batch = min(chosen["batch_size"], len(pixels))
        self.steps = len(pixels) // self.batch
        total = chosen["epochs"] * self.steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: min(1, (i + 1) / 500) * 0.5 * (1 + math.cos(math.pi * i / total)))
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
        self.history = []

    def images(self, u, random):
        """uint8 (B, 784) -> float32 in [0, 1], for the Bernoulli likelihood binarised at random."""
        x = u.float() / 255
        return torch.bernoulli(x, generator=random) if self.settings["likelihood"] == "bernoulli" else x

    def epoch(self, progress):
        """One pass over the images, and the ELBO on the validation images, which is logged and never used."""
        began, done = time.perf_counter(), len(self.history)
        order = torch.randperm(len(self.pixels), device=self.device, generator=self.random)
        sums = torch.zeros(2, device=self.device)
        for step in range(self.steps):
            # Algorithm 1: x_i, a minibatch of the unlabelled images
            rows = order[step * self.batch:(step + 1) * self.batch]
            x = self.images(self.pixels[rows], self.random)
            seen = distorted(x, self.settings["distort"], self.random) if self.settings["distort"] else x
            # z_i ~ q_phi(z_i | x_i)
            noise = torch.randn(len(x), self.model.sizes["latent"], device=self.device, generator=self.random)
            with self.autocast:
                likelihood, kl = self.model.elbo(x, seen, noise)
            # J = sum J(x_i); the KL term has its weight [2], which rises from 0
            part = (done * self.steps + step + 1) / max(1, self.settings["warmup"] * self.steps)
            loss = (self.settings["kl_weight"] * min(1, part) * kl - likelihood).mean()
            # (g_theta, g_phi) = gradients of J; theta, phi updated with them
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            sums += torch.stack([likelihood.detach().mean(), kl.detach().mean()])
            progress.update()
        seconds = (self.history[-1]["seconds"] if self.history else 0) + time.perf_counter() - began
        self.history.append(self.row(*(sums / self.steps).tolist(), seconds))
        progress.set_postfix_str(f"ELBO {self.history[-1]['elbo']:.1f} nats")

    @torch.no_grad()
    def row(self, likelihood, kl, seconds):
        """What is logged of an epoch; nats per image."""
        if not math.isfinite(likelihood - kl):
            raise UserError(f"training diverged in epoch {len(self.history) + 1} (the ELBO is not finite): nothing was "
                            "shipped; try a lower --learning-rate")
        fixed = torch.Generator(self.device).manual_seed(1)
        x = self.images(self.validation, fixed)
        noise = torch.randn(len(x), self.model.sizes["latent"], device=self.device, generator=fixed)
        with self.autocast:
            outside = torch.stack(self.model.elbo(x, x, noise)).mean(1).tolist()
            active = int((self.model.posterior(x)[0].std(0) > 0.1).sum())
        gaussian = self.settings["likelihood"] == "gaussian"
        return {"epoch": len(self.history) + 1, "elbo": likelihood - kl, "log_likelihood": likelihood, "kl": kl,
                "validation_elbo": outside[0] - outside[1],
                "sigma_x": math.exp(0.5 * self.model.log_variance.item()) if gaussian else None,
                "active_latents": active, "seconds": round(seconds, 2)}

    def state(self):
        return {**{part: getattr(self, part).state_dict() for part in self.PARTS}, "random": self.random.get_state(),
                "history": self.history, "settings": self.settings}

    def restore(self, state, path):
        """Go on from a checkpoint. Raises UserError where it is of another training."""
        try:
            if state["settings"] != self.settings:
                raise KeyError("settings")
            for part in self.PARTS:
                getattr(self, part).load_state_dict(state[part])
            self.random.set_state(state["random"].cpu())
            self.history = list(state["history"])
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError):
            raise UserError(f"{path}: not a checkpoint of this training; --retrain starts anew") from None


def train(chosen, images, device, folder, precision="float32", resume=False):
    """Algorithm 1 on the training images. Returns (model, history: a row per epoch).

    chosen: of `settings`. images: of images.load. folder: where metrics.csv and checkpoint.pt are written after every
    epoch; with `resume` it goes on from there, to the same bits.
    """
    keep_freed_memory()
    training = Training(chosen, images.train, images.validation, device, precision)
    checkpoint = folder / "checkpoint.pt"
    if resume:
        training.restore(files.from_torch(read(checkpoint), checkpoint), checkpoint)
    total, done = chosen["epochs"] * training.steps, len(training.history) * training.steps
    with tqdm(total=total, initial=done, unit="step", desc=f"VAE {chosen['dataset']}", smoothing=0.05) as progress:
        while len(training.history) < chosen["epochs"]:
            training.epoch(progress)
            write(folder / "metrics.csv", as_csv(training.history))
            write(checkpoint, files.as_torch(training.state()))
    return training.model.eval(), training.history


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# ---- the file that ships -------------------------------------------------------------------------

def vae_path(weights_dir, dataset, likelihood="gaussian"):
    return weights_dir / f"q3_vae_{dataset}{'' if likelihood == 'gaussian' else '_' + likelihood}.pt"


def as_bytes(model, description):
    """The file of a VAE: its weights as float16 (classifiers are fitted on what is read back) and a plain dict."""
    parameters = {name: value.detach().cpu().half() for name, value in model.state_dict().items()}
    content = {"model": "M1", "likelihood": model.likelihood, "sizes": model.sizes, "parameters": parameters}
    return files.as_torch(content | description)


def load_vae(path, command, device=torch.device("cpu")):
    """(network, rebuilt from the file alone, and the file's description with its "sha256"). Raises UserError.

    command: how a user makes the file.
    """
    data = files.read_shipped(path, command)
    content = files.from_torch(data, path)
    try:
        model = M1(content["likelihood"], **content["sizes"])
        parameters = {name: value.float() for name, value in content.pop("parameters").items()}
        chosen = content["settings"]
        named = vae_path(path.parent, chosen["dataset"], chosen["likelihood"]).name
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise UserError(f"{path}: holds no weights of M1; make it with `{command}`") from None
    if content.get("model") != "M1" or named != path.name:
        raise UserError(f"{path}: holds what should be named {named}; restore it, or make it with `{command}`")
    files.load_state(model, parameters, path)
    return model.to(device).eval(), content | {"sha256": hashlib.sha256(data).hexdigest()}
