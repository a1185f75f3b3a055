"""Algorithm 1 of Kingma et al. 2014: train M1's VAE once per data set, without labels, then fit one classifier per label count.

The VAE in the weights folder is used again when it was trained with the same settings; --retrain trains a new one. The classifier is
fitted on the posterior means of the N labelled images (--classifier svm) or, the paper's transductive setting, on the labels that
spread from them to all training images (--classifier transductive). Ships to weights/: q3_vae_DATASET.pt,
q3_svm_DATASET_N.joblib and q3_transductive_DATASET_N.joblib; to results/: the training's pictures and each classifier's test error.
"""
import argparse
import csv
import ctypes
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

import classify
import images as data
import pictures
import store
from m1 import LIKELIHOODS, M1, latents

# Chosen on the last 10,000 training images; results/q3_tries_*.json hold the alternatives. The Bernoulli model keeps to the paper.
DEFAULTS = {
    ("fashion", "gaussian"): {"epochs": 60, "kl_weight": 0.02, "distort": 0.2},
    ("mnist", "gaussian"): {"epochs": 100, "kl_weight": 0.1, "distort": 1.0},
    ("fashion", "bernoulli"): {"epochs": 60, "kl_weight": 1.0, "distort": 0.0},
    ("mnist", "bernoulli"): {"epochs": 60, "kl_weight": 1.0, "distort": 0.0},
}
EXAMPLES = """examples:
  python q3_vae_m1/train.py --labels 100                      Fashion-MNIST, shipped VAE, an SVM on 100 labels
  python q3_vae_m1/train.py --dataset mnist                   MNIST, SVMs on 100, 600, 1000 and 3000 labels
  python q3_vae_m1/train.py --labels 100 --classifier transductive
  python q3_vae_m1/train.py --retrain                         a new VAE first; --resume goes on with it after an interruption
"""


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--labels", type=int, nargs="+", default=[100, 600, 1000, 3000], metavar="N", help="label counts, multiples of 10 (default: all four)")
    add("--dataset", choices=data.FOLDERS, default="fashion")
    add("--classifier", choices=classify.CLASSIFIERS, default="svm")
    add("--seed", type=int, default=0, help="of the label draw (default 0)")
    group = parser.add_argument_group("the VAE (a value other than the shipped one's trains a new VAE)")
    add = group.add_argument
    add("--likelihood", choices=LIKELIHOODS, default="gaussian", help="gaussian: learned variance, grey images; bernoulli: the paper's")
    add("--epochs", type=int, help="default: 100 for MNIST with the Gaussian likelihood, else 60")
    add("--batch-size", type=int, default=200)
    add("--learning-rate", type=float, default=1e-3, help="peak; falls to 0 along a cosine (default 0.001)")
    add("--kl-weight", type=float, help="weight of the KL term after the warm-up (default: by data set, see README)")
    add("--warmup", type=int, default=5, help="epochs over which the KL weight rises from 0 (default 5)")
    add("--distort", type=float, help="strength of the random affine maps the encoder sees images through (default: by data set)")
    add("--vae-seed", type=int, default=0, help="seed of the VAE's training (default 0)")
    add("--retrain", action="store_true", help="train a new VAE even if one is there; classifiers of the old one are then refused")
    add("--resume", action="store_true", help="go on with an interrupted VAE training from its last epoch")
    group = parser.add_argument_group("machine and folders")
    add = group.add_argument
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="of the matrix products in training")
    add("--data-dir", type=Path, default=store.ROOT / "data")
    add("--weights-dir", type=Path, default=store.ROOT / "weights")
    add("--results-dir", type=Path, default=store.ROOT / "results")
    options = parser.parse_args(argv)
    for name, value in DEFAULTS[options.dataset, options.likelihood].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    for name in ("epochs", "batch_size", "learning_rate"):
        if not 0 < getattr(options, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: must be positive")
    for name in ("kl_weight", "warmup", "distort", "seed", "vae_seed"):
        if not 0 <= getattr(options, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: must not be negative")
    return options


def choose_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise store.StoreError("--device cuda: no CUDA device here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> str:
    """'bfloat16' or 'float32' itself; for 'auto' what this device computes faster."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if cpu_is_faster_in_bfloat16() else "float32"


def cpu_is_faster_in_bfloat16() -> bool:
    """Measured, where the instructions exist: a Xeon with avx512_bf16 but without AMX has them and is slower with them."""
    checks = (getattr(torch.cpu, check, lambda: False) for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    if not any(check() for check in checks):
        return False  # emulated, far slower

    def seconds(matrix: torch.Tensor) -> float:
        began = time.perf_counter()
        matrix @ matrix
        return time.perf_counter() - began

    matrices = [torch.ones(512, 512, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
    times = [[seconds(matrix) for matrix in matrices] for _ in range(25)]  # in turns: other work on the machine meets both
    lower, full = map(min, zip(*times))
    return lower < full


def keep_freed_memory() -> None:
    """Tells glibc to keep freed blocks up to 32 MiB. Given back, every step faults its gradients' pages in anew: a tenth of its time."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):  # another C library
        pass


def distorted(x: torch.Tensor, strength: float, random: torch.Generator) -> torch.Tensor:
    """Each image (B, 784) through an affine map of its own: at strength 1, up to 2 pixels of shift, 10 degrees, 10 % of scale and shear."""
    side = int(x.shape[1] ** 0.5)
    u = strength * (2 * torch.rand(6, len(x), device=x.device, generator=random) - 1)
    angle, scale_x, scale_y, shear = 0.17 * u[0], 1 + 0.1 * u[1], 1 + 0.1 * u[2], 0.1 * u[3]
    shift_x, shift_y = u[4] * 4 / side, u[5] * 4 / side  # in half widths of the image
    rows = [torch.stack([scale_x * angle.cos(), shear - angle.sin(), shift_x], 1),
            torch.stack([shear + angle.sin(), scale_y * angle.cos(), shift_y], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [len(x), 1, side, side], align_corners=False)
    return F.grid_sample(x.view(-1, 1, side, side), grid, align_corners=False).view_as(x)


def train_vae(pixels: torch.Tensor, held_out: torch.Tensor, settings: dict, folder: Path, device: torch.device, resume: bool) -> tuple[M1, list]:
    """Algorithm 1 on uint8 pixels (M, 784); the bound on `held_out` is logged, never used. Returns the model and a row per epoch."""
    keep_freed_memory()
    torch.manual_seed(settings["vae_seed"])
    model = M1(settings["likelihood"]).to(device)
    random = torch.Generator(device).manual_seed(settings["vae_seed"])
    names, values = zip(*model.named_parameters())
    slow = [v for n, v in zip(names, values) if n != "log_variance"]
    fast = [v for n, v in zip(names, values) if n == "log_variance"]  # one scalar moves far: ten times the learning rate
    optimizer = torch.optim.Adam([{"params": slow}] + [{"params": fast, "lr": 10 * settings["learning_rate"]}] * bool(fast),
                                 lr=settings["learning_rate"], fused=True)
    batch = min(settings["batch_size"], len(pixels))
    steps = len(pixels) // batch
    total = settings["epochs"] * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, (i + 1) / 500) * 0.5 * (1 + math.cos(math.pi * i / total)))
    history, first = [], 0
    checkpoint = folder / "checkpoint.pt"
    if resume:
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        random.set_state(state["random"].cpu())
        history, first = state["history"], state["epoch"]
    pixels, held_out = pixels.to(device), held_out.to(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=settings["precision"] == "bfloat16")

    def binarised(u: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        x = u.float() / 255
        return torch.bernoulli(x, generator=generator) if settings["likelihood"] == "bernoulli" else x

    start = time.perf_counter() - (history[-1]["seconds"] if history else 0)
    bar = tqdm(total=total, initial=first * steps, unit="step", desc=f"VAE {settings['dataset']}", smoothing=0.05)
    for epoch in range(first, settings["epochs"]):
        order = torch.randperm(len(pixels), device=device, generator=random)
        sums = torch.zeros(2, device=device)
        for step in range(steps):
            x = binarised(pixels[order[step * batch:(step + 1) * batch]], random)
            seen = distorted(x, settings["distort"], random) if settings["distort"] else x
            noise = torch.randn(len(x), model.sizes["latent"], device=device, generator=random)
            with autocast:
                likelihood, kl = model.bound(x, seen, noise)
            done = epoch * steps + step + 1
            weight = settings["kl_weight"] * min(1, done / max(1, settings["warmup"] * steps))
            optimizer.zero_grad()
            (weight * kl - likelihood).mean().backward()
            optimizer.step()
            schedule.step()
            sums += torch.stack([likelihood.detach().mean(), kl.detach().mean()])
            bar.update()
        likelihood, kl = (sums / steps).tolist()
        if not math.isfinite(likelihood - kl):
            raise store.StoreError(f"training diverged in epoch {epoch + 1} (the bound is not finite): nothing was shipped; try a lower --learning-rate")
        with torch.no_grad(), autocast:
            fixed = torch.Generator(device).manual_seed(1)
            x = binarised(held_out, fixed)
            noise = torch.randn(len(x), model.sizes["latent"], device=device, generator=fixed)
            outside = torch.stack(model.bound(x, x, noise)).mean(1).tolist()
            active = int((model.posterior(x)[0].std(0) > 0.1).sum())
        history.append({"epoch": epoch + 1, "bound": likelihood - kl, "log_likelihood": likelihood, "kl": kl, "held_out_bound": outside[0] - outside[1],
                        "sigma_x": math.exp(0.5 * float(model.log_variance)) if fast else None, "active_latents": active,
                        "seconds": round(time.perf_counter() - start, 2)})
        bar.set_postfix_str(f"bound {likelihood - kl:.1f}, held out {outside[0] - outside[1]:.1f} nats")
        store.replace(folder / "metrics.csv", lambda partial: write_csv(partial, history))
        store.replace(checkpoint, lambda partial: torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
             "random": random.get_state(), "history": history, "epoch": epoch + 1}, partial))
    bar.close()
    return model, history


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def vae_settings(options: argparse.Namespace) -> dict:
    """All that decides which VAE comes out, the machine aside."""
    return {name: getattr(options, name) for name in
            ("dataset", "likelihood", "epochs", "batch_size", "learning_rate", "kl_weight", "warmup", "distort", "vae_seed")}


def obtain_vae(options: argparse.Namespace, images: data.Images, device: torch.device) -> tuple[M1, dict]:
    """The VAE of these settings: the shipped one where it fits, else a newly trained one, which then ships."""
    path = store.vae_path(options.weights_dir, options.dataset, options.likelihood)
    command = f"python q3_vae_m1/train.py --dataset {options.dataset} --likelihood {options.likelihood} --retrain"
    settings = vae_settings(options)
    folder = options.results_dir / "runs" / path.stem
    checkpoint, kept = folder / "checkpoint.pt", folder / "options.json"
    if path.is_file() and not options.retrain and not options.resume:
        model, description = store.load_vae(path, command, device)
        if description["settings"] == settings:
            print(f"VAE: using {path.name} again (same settings)")
            return model, description
        print(f"VAE: {path.name} has other settings, training a new one")
    precision = {"precision": choose_precision(options.precision, device)}
    if options.resume:
        if not checkpoint.is_file():
            raise store.StoreError(f"--resume: no interrupted training in {folder}")
        started = store.load_json(kept)
        if {name: started.get(name) for name in settings} != settings:
            changed = ", ".join(name for name in settings if started.get(name) != settings[name])
            raise store.StoreError(f"--resume: the interrupted training had another value of: {changed}")
        precision = {"precision": started["precision"]}  # bits follow the run, not the machine's default
    elif checkpoint.is_file() and not options.retrain:
        raise store.StoreError(f"an interrupted training is in {folder}: add --resume to go on with it or --retrain to start anew")
    else:
        checkpoint.unlink(missing_ok=True)
        store.save_json(kept, settings | precision)
    split = images.validation
    try:
        model, history = train_vae(images.train_x[:split], images.train_x[split:], settings | precision, folder, device, options.resume)
    except KeyboardInterrupt:
        raise store.StoreError("interrupted: every finished epoch is kept, --resume goes on from there") from None
    store.save_vae(path, model, {"dataset": options.dataset, "settings": settings, **precision, "history": history[-1]})
    model, description = store.load_vae(path, command, device)  # float16 from here on, as every later run sees it
    store.save_json(options.results_dir / f"{path.stem}.json", {"settings": settings, **precision, "last_epoch": history[-1]})
    pictures.training(options.results_dir / f"{path.stem}_loss.png", history, settings)
    pictures.vae(options.results_dir / path.stem, model, images, options.dataset)
    checkpoint.unlink()
    print(f"VAE: held-out bound {history[-1]['held_out_bound']:.1f} nats, {history[-1]['active_latents']} active latents, "
          f"{history[-1]['seconds'] / 60:.1f} min -> {path}")
    return model, description


def main(argv=None) -> None:
    options = arguments(argv)
    for n in options.labels:  # before anything costs time
        data.check_labels(n)
    device = choose_device(options.device)
    store.check_writable(options.weights_dir, options.results_dir)
    images = data.load(options.dataset, options.data_dir)
    draws = {n: data.labelled_draw(images.train_y[:images.validation], n, options.seed) for n in options.labels}
    model, description = obtain_vae(options, images, device)

    test, truth = latents(model, images.test_x).numpy(), images.test_y.numpy()
    labels = images.train_y.numpy()
    if options.classifier == "transductive":
        everything = latents(model, images.train_x[:images.validation]).numpy()
        print("building the neighbour graph", flush=True)
        graph = classify.neighbour_graph(everything)
    for n, drawn in draws.items():
        start = time.perf_counter()
        if options.classifier == "svm":
            features = latents(model, images.train_x[drawn]).numpy()
            machine = classify.fit_svm(features, labels[drawn], **classify.SVM[options.dataset, 'M1' if options.likelihood == 'gaussian' else 'M1 (Bernoulli)'])
        else:
            machine = classify.fit_transductive(everything, drawn, labels[drawn], graph, options.dataset)
        seconds = time.perf_counter() - start
        path = store.classifier_path(options.weights_dir, options.dataset, options.likelihood, n, options.classifier)
        classify.save(path, machine, {"dataset": options.dataset, "labels": n, "seed": options.seed, "vae_sha256": description["sha256"]})
        report = classify.report(machine, test, truth)
        store.save_json(options.results_dir / f"{path.stem}.json", report)
        print(f"{options.dataset}, {n} labels, {classify.describe(machine)}: test error {report['error']:.2f} % ({seconds:.1f} s) -> {path}")


if __name__ == "__main__":
    try:
        main()
    except (data.ImagesError, store.StoreError, ValueError) as error:
        sys.exit(classify.fail(error))
