"""Algorithm 1 of Kingma et al. 2014, the training of M1's VAE, and the file that it ships in.

[2] and so on: README.md's deviations from the paper.
"""

import contextlib
import ctypes
import hashlib
import math
import time

import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import files
from .command import UserError, as_json, read, read_json, write
from .m1 import M1

# Chosen on the validation images (EXPERIMENTS.md). The Bernoulli model has the paper's weight.
DEFAULTS = {
    ("fashion", "gaussian"): {"epochs": 60, "kl_weight": 0.02, "distort": 0.2},
    ("mnist", "gaussian"): {"epochs": 100, "kl_weight": 0.1, "distort": 1.0},
    ("fashion", "bernoulli"): {"epochs": 60, "kl_weight": 1.0, "distort": 0.0},
    ("mnist", "bernoulli"): {"epochs": 60, "kl_weight": 1.0, "distort": 0.0},
}
GIVEN = ("epochs", "kl_weight", "distort", "learning_rate", "vae_seed")  # those that train.py has an option for


def settings(dataset, likelihood="gaussian", **changes):
    """All that decides which VAE comes out, the machine aside. A data set of the user's own has Fashion-MNIST's.

    epochs; batch_size in images; learning_rate at its peak [4]; kl_weight, after `warmup` epochs [2]; distort [3].
    """
    chosen = {"dataset": dataset, "likelihood": likelihood, "epochs": 60, "batch_size": 200, "learning_rate": 1e-3,
              "kl_weight": 1.0, "warmup": 5, "distort": 0.0, "vae_seed": 0}
    return chosen | DEFAULTS["mnist" if dataset == "mnist" else "fashion", likelihood] | changes


def train(options, images, device, folder):
    """Algorithm 1 on the training images. Returns (model, history: a row per epoch).

    options: `settings` and "precision". images: of images.load. folder: gets options.json and, after every epoch,
    metrics.csv and checkpoint.pt. Where it has a checkpoint, training goes on from there, to the same bits.
    """
    chosen = {key: value for key, value in options.items() if key != "precision"}
    checkpoint = folder / "checkpoint.pt"
    state = files.from_torch(read(checkpoint), checkpoint) if checkpoint.exists() else {}
    if state and state.get("settings") != chosen:
        raise UserError(f"{checkpoint}: not a checkpoint of this training")
    write(folder / "options.json", as_json(options))
    keep_freed_memory()
    pixels, validation = (x.flatten(1).to(device) for x in (images.train, images.validation))
    batch = min(chosen["batch_size"], len(pixels))
    steps = len(pixels) // batch  # of an epoch

    torch.manual_seed(chosen["vae_seed"])
    model = M1(chosen["likelihood"]).to(device)
    random = torch.Generator(device).manual_seed(chosen["vae_seed"])
    optimizer, schedule = adam(model, chosen["learning_rate"], chosen["epochs"] * steps)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=options["precision"] == "bfloat16")  # [5]
    history, parts = state.get("history", []), {"model": model, "optimizer": optimizer, "schedule": schedule}
    if state:
        random.set_state(state["random"])
        for name, part in parts.items():
            part.load_state_dict(state[name])

    done = len(history) * steps
    with tqdm(total=chosen["epochs"] * steps, initial=done, unit="step", desc=f"VAE {chosen['dataset']}") as progress:
        while len(history) < chosen["epochs"]:
            began, sums = time.perf_counter(), torch.zeros(2, device=device)
            order = torch.randperm(len(pixels), device=device, generator=random)
            for rows in order[:steps * batch].split(batch):
                # Algorithm 1: X^M, a minibatch of the images
                x = network_input(pixels[rows], model, random)
                seen = distorted(x, chosen["distort"], random) if chosen["distort"] else x  # [3]
                # epsilon ~ N(0, I), from which z = mu + sigma * epsilon
                noise = torch.randn(batch, model.sizes["latent"], device=device, generator=random)
                # J = -ELBO, summed over the minibatch; the KL term has a weight [2] that rises from 0
                with autocast:
                    likelihood, kl = model.elbo(x, seen, noise)
                done += 1
                weight = chosen["kl_weight"] * min(1, done / max(1, chosen["warmup"] * steps))
                loss = (weight * kl - likelihood).mean()
                # g_theta, g_phi = gradients of J; theta, phi updated with them
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                sums += torch.stack([likelihood.detach().mean(), kl.detach().mean()])
                progress.update()
            means = (sums / steps).tolist()
            if not all(map(math.isfinite, means)):
                raise UserError(f"training diverged in epoch {len(history) + 1} (the ELBO is not finite): nothing was "
                                "shipped; try a lower --learning-rate")
            seconds = (history[-1]["seconds"] if history else 0) + time.perf_counter() - began
            with autocast:
                history.append(epoch_row(len(history) + 1, *means, model, validation) | {"seconds": round(seconds, 2)})
            progress.set_postfix_str(f"ELBO {history[-1]['elbo']:.1f} nats")
            lines = [history[0], *(["" if value is None else value for value in row.values()] for row in history)]
            write(folder / "metrics.csv", "".join(",".join(map(str, line)) + "\n" for line in lines))
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"random": random.get_state(), "history": history, "settings": chosen}
            write(checkpoint, files.as_torch(state))
    return model.eval(), history


def interrupted(folder):
    """The options of the training that was interrupted in `folder`; None where there is none. Raises UserError."""
    if not (folder / "checkpoint.pt").exists():
        return None
    options = read_json(folder / "options.json")
    if options.keys() != settings("fashion").keys() | {"precision"}:
        raise UserError(f"{folder / 'options.json'}: damaged, not the options of a training")
    return options


def adam(model, rate, total):
    """Adam, and its rate: 500 steps of warm-up, then a cosine down to 0 at step `total` [4]."""
    scalar = [value for name, value in model.named_parameters() if name == "log_variance"]
    rest = [value for name, value in model.named_parameters() if name != "log_variance"]
    groups = [{"params": rest}] + [{"params": scalar, "lr": 10 * rate}] * bool(scalar)  # one scalar has far to go
    optimizer = torch.optim.Adam(groups, lr=rate, fused=rest[0].device.type != "mps")
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / 500) * 0.5 * (1 + math.cos(math.pi * i / total)))


def network_input(pixels, model, random):
    """uint8 (B, 784) -> float32 in [0, 1], for the Bernoulli likelihood binarised at random."""
    x = pixels.float() / 255
    return torch.bernoulli(x, generator=random) if model.likelihood == "bernoulli" else x


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


@torch.no_grad()
def epoch_row(epoch, likelihood, kl, model, validation):
    """What is logged of an epoch, in nats per image. The validation images' ELBO is never used."""
    fixed = torch.Generator(validation.device).manual_seed(1)
    x = network_input(validation, model, fixed)
    noise = torch.randn(len(x), model.sizes["latent"], device=x.device, generator=fixed)
    outside, outside_kl = (term.mean().item() for term in model.elbo(x, x, noise))
    sigma_x = math.exp(0.5 * model.log_variance.item()) if model.likelihood == "gaussian" else None
    return {"epoch": epoch, "elbo": likelihood - kl, "log_likelihood": likelihood, "kl": kl,
            "validation_elbo": outside - outside_kl, "sigma_x": sigma_x,
            "active_latents": int((model.posterior(x)[0].std(0) > 0.1).sum())}


# ---- the file that ships -------------------------------------------------------------------------

def vae_path(weights_dir, dataset, likelihood="gaussian"):
    return weights_dir / f"q3_vae_{dataset}{'' if likelihood == 'gaussian' else '_' + likelihood}.pt"


def as_options(chosen):
    """What train.py must be told to use the VAE of these `settings` again, but for data set and likelihood."""
    usual = settings(chosen["dataset"], chosen["likelihood"])
    return "".join(f" --{key.replace('_', '-')} {chosen[key]}" for key in GIVEN if chosen[key] != usual[key])


def as_bytes(model, options, history):
    """The file of a VAE: its weights as float16 [5], and a plain dict of what it is."""
    parameters = {name: value.detach().cpu().half() for name, value in model.state_dict().items()}
    chosen = {key: value for key, value in options.items() if key != "precision"}
    return files.as_torch({
        "model": "M1", "likelihood": model.likelihood, "sizes": model.sizes, "parameters": parameters,
        "dataset": chosen["dataset"], "settings": chosen, "precision": options["precision"], "commit": files.commit(),
        "history": history[-1]})


def load_vae(weights_dir, dataset, likelihood="gaussian", device=torch.device("cpu")):
    """(network, what its file says of it, with the file's "sha256"). Raises UserError."""
    path = vae_path(weights_dir, dataset, likelihood)
    remedy = f"python q3_vae_m1/train.py --dataset {dataset} --likelihood {likelihood} --retrain"
    data, remedy = files.read_shipped(path, remedy), files.with_folder(remedy, weights_dir)
    content = files.from_torch(data, path)
    try:
        model = M1(content["likelihood"], **content["sizes"])
        parameters = {name: value.float() for name, value in content.pop("parameters").items()}
        named = vae_path(weights_dir, content["settings"]["dataset"], content["settings"]["likelihood"]).name
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise UserError(f"{path}: holds no weights of M1; make it with `{remedy}`") from None
    if named != path.name:
        raise UserError(f"{path}: holds what should be named {named}; restore it, or make it with `{remedy}`")
    files.load_state(model, parameters, path)
    return model.to(device).eval(), content | {"sha256": hashlib.sha256(data).hexdigest()}
