"""How much faster is one epoch of train.py than the usual loop? Both train the same network at the same batch size, in turns.

The usual loop: a DataLoader that makes a PIL image and a tensor of each picture, float32, Adam as it comes, `.item()` on the loss in
every step. Ours: train_vae() of train.py with its logging and checkpoint, but without what the usual loop has not: distortions, and the
bound on 10,000 held-out images (200 stand in).
Writes results/q3_benchmark.json with the median over the rounds and the range of the ratio.
"""
import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Lambda, ToPILImage, ToTensor

import classify
import images as data
import store
import train
from m1 import M1


class UsualDataset(Dataset):
    """What torchvision's MNIST class does on each access, on the images already in memory."""

    def __init__(self, pixels: torch.Tensor):
        self.pixels = pixels
        self.transform = Compose([ToPILImage(), ToTensor(), Lambda(torch.flatten)])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.transform(self.pixels[i].view(1, 28, 28))


def usual_epoch(data_dir: Path, batch: int, device: torch.device) -> float:
    """Seconds of the second epoch of the usual loop."""
    images = data.load("fashion", data_dir)
    pixels = images.train_x[:images.validation]
    model = M1("gaussian").to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(UsualDataset(pixels), batch_size=batch, shuffle=True, drop_last=True)
    for _ in range(2):
        total, start = 0.0, time.perf_counter()
        for x in loader:
            x = x.to(device)
            likelihood, kl = model.bound(x, x, torch.randn(len(x), 50, device=device))
            loss = (kl - likelihood).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
    return time.perf_counter() - start


def our_epoch(data_dir: Path, batch: int, device: torch.device) -> float:
    """Seconds of the second epoch of train.py, by its own record."""
    images = data.load("fashion", data_dir)
    pixels, held_out = images.train_x[:images.validation], images.train_x[images.validation:images.validation + 200]
    options = train.arguments(["--epochs", "2", "--batch-size", str(batch), "--distort", "0"])
    settings = train.vae_settings(options) | {"precision": train.choose_precision("auto", device)}
    with tempfile.TemporaryDirectory() as folder:
        _, history = train.train_vae(pixels, held_out, settings, Path(folder), device, resume=False)
    return history[1]["seconds"] - history[0]["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="examples:\n  python q3_vae_m1/benchmark.py\n  python q3_vae_m1/benchmark.py --rounds 5",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=3)
    add("--batch-size", type=int, default=200)
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--data-dir", type=Path, default=store.ROOT / "data")
    add("--results-dir", type=Path, default=store.ROOT / "results")
    o = parser.parse_args()
    if o.rounds < 1 or o.batch_size < 1:
        parser.error("--rounds and --batch-size must be positive")
    device = train.choose_device(o.device)
    store.check_writable(o.results_dir)
    split = data.load("fashion", o.data_dir).validation
    rounds = []
    spawn = multiprocessing.get_context("spawn")  # a process each: train.py's allocator settings must not help the usual loop
    workers = [ProcessPoolExecutor(1, spawn) for _ in range(2)]
    for i in range(o.rounds + 1):  # in turns, so that a slow minute of the machine slows both; the first round warms up
        times = [worker.submit(epoch, o.data_dir, o.batch_size, device).result() for worker, epoch in zip(workers, (usual_epoch, our_epoch))]
        print(f"{'warm-up' if i == 0 else f'round {i}'}: usual loop {times[0]:.1f} s, ours {times[1]:.1f} s, ratio {times[0] / times[1]:.2f}", flush=True)
        rounds += [times] * (i > 0)
    ratios = [a / b for a, b in rounds]
    result = {"device": device.type, "threads": torch.get_num_threads(), "precision": train.choose_precision("auto", device), "torch": torch.__version__,
              "batch_size": o.batch_size, "images": split, "rounds": o.rounds, "usual_seconds": round(statistics.median(a for a, _ in rounds), 2),
              "our_seconds": round(statistics.median(b for _, b in rounds), 2), "ratio": round(statistics.median(ratios), 2),
              "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)]}
    store.save_json(o.results_dir / "q3_benchmark.json", result)
    print(f"one epoch is {result['ratio']} times as fast as the usual loop -> {o.results_dir / 'q3_benchmark.json'}")


if __name__ == "__main__":
    try:
        main()
    except (data.ImagesError, store.StoreError, ValueError) as error:
        sys.exit(classify.fail(error))
