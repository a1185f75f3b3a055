"""How much faster is one epoch of train.py than the usual loop? Both train the same network at the same batch size.

The usual loop: a DataLoader that makes a PIL image and a tensor of each picture, float32, Adam as it comes, `.item()`
on the loss in every step. Ours: vae.train with its log and checkpoint, without what the usual loop does not have:
distortions, and the ELBO on 10,000 validation images (200 stand in). Rounds alternate. Writes
results/q3/benchmark.json.
"""

import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import torch
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Lambda, ToPILImage, ToTensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q3_vae_m1 import files, images, vae
from q3_vae_m1.command import Parser, add_folders, as_json, check_writable, positive, run_main, write
from q3_vae_m1.m1 import M1

EXAMPLES = """examples:
  python q3_vae_m1/benchmark.py                on an otherwise idle machine
  python q3_vae_m1/benchmark.py --rounds 5"""
BATCH = 200  # images
USUAL = Compose([ToPILImage(), ToTensor(), Lambda(torch.flatten)])  # of each image, as in torchvision's MNIST


def usual_epoch(data_dir, device):
    """Seconds of the second epoch of the usual loop."""
    model = M1("gaussian").to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(images.load("fashion", data_dir).train, BATCH, shuffle=True, drop_last=True,
                        collate_fn=lambda rows: torch.stack([USUAL(image) for image in rows]))
    for _ in range(2):
        total, start = 0.0, time.perf_counter()
        for x in loader:
            x = x.to(device)
            likelihood, kl = model.elbo(x, x, torch.randn(len(x), 50, device=device))
            loss = (kl - likelihood).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
    return time.perf_counter() - start


def our_epoch(data_dir, device):
    """Seconds of the second epoch of vae.train, by its own record."""
    data = images.load("fashion", data_dir)
    data = data._replace(validation=data.validation[:200])
    options = vae.settings("fashion", epochs=2, batch_size=BATCH, distort=0.0)
    options["precision"] = files.pick_precision("auto", device)
    with tempfile.TemporaryDirectory() as folder:
        _, history = vae.train(options, data, device, Path(folder))
    return history[1]["seconds"] - history[0]["seconds"]


def main():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--rounds", type=positive, default=3, help="(default: 3)")
    files.add_device(parser)
    add_folders(parser, "data", "results")
    o = parser.parse_args()
    device = files.pick_device(o.device)
    check_writable(o.results_dir / "q3")
    count, rounds = len(images.load("fashion", o.data_dir).train), []
    spawn = multiprocessing.get_context("spawn")  # a process each: our allocator settings must not help the usual loop
    workers = {epoch: ProcessPoolExecutor(1, spawn) for epoch in (usual_epoch, our_epoch)}
    for i in range(o.rounds + 1):  # in turns, so that a slow minute of the machine meets both; the first warms up
        usual, ours = (worker.submit(epoch, o.data_dir, device).result() for epoch, worker in workers.items())
        print(f"{f'round {i}' if i else 'warm-up'}: usual loop {usual:.1f} s, ours {ours:.1f} s, "
              f"ratio {usual / ours:.2f}", flush=True)
        rounds += [(usual, ours, usual / ours)] * (i > 0)
    usual, ours, ratios = zip(*rounds)
    result = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": str(device),
              "precision": files.pick_precision("auto", device),
              "batch_size": BATCH, "images": count, "rounds": o.rounds, "usual_seconds": round(median(usual), 2),
              "our_seconds": round(median(ours), 2), "ratio": round(median(ratios), 2),
              "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)]}
    path = o.results_dir / "q3" / "benchmark.json"
    write(path, as_json(result))
    print(f"one epoch is {result['ratio']} times as fast as the usual loop -> {path}")


if __name__ == "__main__":
    run_main(main)
