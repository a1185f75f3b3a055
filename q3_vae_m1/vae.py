"""Algorithm 1 of Kingma et al. 2014, the training of M1's VAE, and its file. [2] and so on: README.md's deviations."""

import math
import time

import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import files
from .command import UserError, as_json, shown, write
from .m1 import M1

# Chosen on the validation images (experiments/README.md). The Bernoulli model has the paper's weight.
GAUSSIAN = {"fashion": {"epochs": 60, "kl_weight": 0.02, "distort": 0.2},
            "mnist": {"epochs": 100, "kl_weight": 0.1, "distort": 1.0}}
BERNOULLI = {"epochs": 60, "kl_weight": 1.0, "distort": 0.0}
CHECKPOINT_EVERY = 20  # seconds: what a kill costs at most


def kind(dataset):
    """Whose settings a data set has: one of the user's own has Fashion-MNIST's."""
    return "mnist" if dataset == "mnist" else "fashion"


def settings(dataset, likelihood="gaussian", **changes):
    """All that decides which VAE comes out, the machine aside.

    epochs; batch_size in images; learning_rate at its peak [4]; kl_weight, after `warmup` epochs [2]; distort [3].
    """
    chosen = {"dataset": dataset, "likelihood": likelihood, "batch_size": 200, "learning_rate": 1e-3, "warmup": 5,
              "vae_seed": 0}
    return chosen | (GAUSSIAN[kind(dataset)] if likelihood == "gaussian" else BERNOULLI) | changes


def obtain(folder, options, images, show=None):
    """(model, what its file says of it) of the VAE in a run folder, trained there if it is not there yet.

    options, show: of `train`. The weights are those of the file, as every later use sees them.
    """
    if not (folder / "vae.pt").exists():
        model, history = train(options, images, folder, show)
        told = {"settings": {key: options[key] for key in settings("fashion")}, "precision": options["precision"],
                "commit": options["commit"], "last_epoch": history[-1]}
        write(folder / "vae.json", as_json(told))
        state = {name: value.detach().cpu().half() for name, value in model.state_dict().items()}  # float16 [5]
        write(folder / "vae.pt", files.as_torch({
            "likelihood": model.likelihood, "sizes": model.sizes, "parameters": state, **told}))
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    return load(folder, options["device"])


def load(folder, device="cpu"):
    """(network, what its file says of it) of the VAE in a run folder, or one that ships. Raises UserError."""
    path = folder / "vae.pt"
    if not path.exists():
        going = "; its training has not ended" if (folder / "options.json").exists() else ""
        raise UserError(f"{shown(folder)}: no vae.pt there, as train.py writes it{going}")
    content = files.load_torch(path, "likelihood", "sizes", "parameters", "settings")
    model = M1(content["likelihood"], **content["sizes"])
    files.load_state(model, content.pop("parameters"), path)
    return model.to(device).eval(), content


def train(options, images, folder, show=None):
    """Algorithm 1 on the training images. Returns (model, history: a row per epoch). Raises UserError if it diverges.

    options: of files.open_run, with `settings` among them. images: of images.load. folder: gets metrics.csv and
    checkpoint.pt, from which training goes on to the same bits. show: called with (model, history) after every epoch.
    """
    device = files.pick_device(options["device"])
    pixels, validation = (x.flatten(1).to(device) for x in (images.train, images.validation))
    batch = min(options["batch_size"], len(pixels))
    steps = len(pixels) // batch  # of an epoch
    total = options["epochs"] * steps

    torch.manual_seed(options["vae_seed"])
    model = M1(options["likelihood"]).to(device)
    random = torch.Generator(device).manual_seed(options["vae_seed"])
    optimizer, schedule = adam(model, options["learning_rate"], total)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=options["precision"] == "bfloat16")  # [5]
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, order, sums, history, seconds = restore(folder / "checkpoint.pt", parts, random, device)

    began = saved = time.perf_counter()
    with tqdm(total=total, initial=done, unit="step", desc=f"VAE {options['dataset']}") as progress:
        while done < total:
            if done % steps == 0:
                order, sums = torch.randperm(len(pixels), device=device, generator=random), torch.zeros_like(sums)
            # Algorithm 1: X^M, a minibatch of the images
            x = network_input(pixels[order[done % steps * batch:][:batch]], model, random)
            seen = distorted(x, options["distort"], random) if options["distort"] else x  # [3]
            # epsilon ~ N(0, I), from which z = mu + sigma * epsilon
            noise = torch.randn(batch, model.sizes["latent"], device=device, generator=random)
            # J = -ELBO, summed over the minibatch; the KL term has a weight [2] that rises from 0
            with autocast:
                likelihood, kl = model.elbo(x, seen, noise)
            done += 1
            weight = options["kl_weight"] * min(1, done / max(1, options["warmup"] * steps))
            loss = (weight * kl - likelihood).mean()
            # g_theta, g_phi = gradients of J; theta, phi updated with them
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            sums += torch.stack([likelihood.detach().mean(), kl.detach().mean()])
            progress.update()
            if done % steps == 0:
                with autocast:
                    row = epoch_row(done // steps, *(sums / steps).tolist(), model, validation)
                if not all(math.isfinite(value) for value in row.values() if value is not None):
                    raise UserError(f"training diverged in epoch {row['epoch']} (the ELBO is not finite); try a lower "
                                    "--learning-rate")
                seconds, began = seconds + time.perf_counter() - began, time.perf_counter()
                history.append(row | {"seconds": round(seconds, 2)})
                progress.set_postfix_str(f"ELBO {row['elbo']:.1f} nats")
                lines = [history[-1], *(["" if value is None else value for value in row.values()] for row in history)]
                write(folder / "metrics.csv", "".join(",".join(map(str, line)) + "\n" for line in lines), sync=False)
                if show:
                    show(model, history)
                    began = time.perf_counter()  # pictures are no training
            if time.perf_counter() - saved >= CHECKPOINT_EVERY:
                seconds, began = seconds + time.perf_counter() - began, time.perf_counter()
                state = {name: part.state_dict() for name, part in parts.items()}
                state |= {"random": random.get_state(), "done": done, "order": order.int(), "sums": sums,
                          "history": history, "seconds": seconds}
                write(folder / "checkpoint.pt", files.as_torch(state))
                saved = time.perf_counter()
    return model.eval(), history


def restore(path, parts, random, device):
    """(steps done, order of the images, sums of the epoch, history, seconds) as a checkpoint has them, or as at first.

    parts: {name: what has load_state_dict}; these and the generator are set.
    """
    if not path.exists():
        return 0, None, torch.zeros(2, device=device), [], 0.0
    state = files.load_torch(path)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    random.set_state(state["random"])
    return state["done"], state["order"].to(device).long(), state["sums"].to(device), state["history"], state["seconds"]


def adam(model, rate, total):
    """Adam, and its rate: 500 steps of warm-up, then a cosine down to 0 at step `total` [4]."""
    networks = [*model.encoder.parameters(), *model.decoder.parameters()]
    groups = [{"params": networks}]
    if model.likelihood == "gaussian":
        groups += [{"params": [model.log_variance], "lr": 10 * rate}]  # one scalar has far to go
    optimizer = torch.optim.Adam(groups, lr=rate, fused=networks[0].device.type != "mps")
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


@torch.no_grad()
def epoch_row(epoch, likelihood, kl, model, validation):
    """What is logged of an epoch, in nats per image. The validation images' ELBO is never used."""
    fixed = torch.Generator(validation.device).manual_seed(1)
    x = network_input(validation, model, fixed)
    noise = torch.randn(len(x), model.sizes["latent"], device=x.device, generator=fixed)
    outside, outside_kl = (term.mean().item() for term in model.elbo(x, x, noise))
    sigma_x = torch.exp(0.5 * model.log_variance).item() if model.likelihood == "gaussian" else None
    return {"epoch": epoch, "elbo": likelihood - kl, "log_likelihood": likelihood, "kl": kl,
            "validation_elbo": outside - outside_kl, "sigma_x": sigma_x,
            "active_latents": int((model.posterior(x)[0].std(0, correction=0) > 0.1).sum())}
