"""Trains the classifier whose features and labels the metrics use: a small CNN, 92.46 % test accuracy on Fashion-MNIST.

The one of Fashion-MNIST ships; any other data set needs its own before train.py. It is chosen on the validation images
and tested once, when it is done: 11 minutes on two CPU cores. Killed, the same command goes on, at most an epoch back.
"""

import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import files, images
from q4_wgan.classifier import ARCHITECTURES, classify, folder_of
from q4_wgan.command import Parser, UserError, add_folders, as_json, name, number, read_json, run_main, seed, write
from q4_wgan.networks import to_float


def accuracy(network, pixels, labels):
    return (classify(network, pixels)[1] == labels).double().mean().item()


def train(options, data, folder):
    """The network: Adam, one-cycle learning rate, label smoothing, images shifted, mirrored. Returns (it, seconds)."""
    device, epochs = torch.device(options["device"]), options["epochs"]
    pixels, labels = data.train.to(device), data.train_labels.to(device)
    torch.manual_seed(options["seed"])
    network, random = ARCHITECTURES[options["arch"]]().to(device), torch.Generator().manual_seed(options["seed"])
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=device.type != "mps")
    batch = min(128, len(pixels))
    steps = len(pixels) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=epochs * steps)
    parts, done, seconds = {"network": network, "optimizer": optimizer, "schedule": schedule}, 0, 0.0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = files.load_torch(checkpoint, *parts, "random", "done", "seconds", "torch")
        done, seconds = state["done"], state["seconds"]
        for key, part in parts.items():
            part.load_state_dict(state[key])
        random.set_state(state["random"])
        torch.set_rng_state(state["torch"])  # of the dropout
    with tqdm(total=epochs * steps, initial=done * steps, unit="step", desc="classifier") as progress:
        for done in range(done + 1, epochs + 1):
            began = time.monotonic()
            order = torch.randperm(len(pixels), generator=random).to(device)
            network.train()
            for rows in order[:steps * batch].split(batch):
                x = to_float(pixels[rows])
                # Augmentation: the batch shifted by up to two pixels, half of the images mirrored.
                down, right = torch.randint(0, 5, (2,), generator=random).tolist()
                x = F.pad(x, (2, 2, 2, 2), value=-1.0)[:, :, down:down + 28, right:right + 28]
                flip = torch.rand(batch, 1, 1, 1, generator=random).to(device) < 0.5
                x = torch.where(flip, x.flip(3), x)
                loss = F.cross_entropy(network(x), labels[rows], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update()
            network.eval()
            seconds += time.monotonic() - began
            found = accuracy(network, data.validation, data.validation_labels)
            progress.set_postfix_str(f"validation accuracy {found:.2%}")
            state = {key: part.state_dict() for key, part in parts.items()}
            write(checkpoint, files.as_torch({**state, "random": random.get_state(), "torch": torch.get_rng_state(),
                                              "done": done, "seconds": seconds}))
    return network.eval(), seconds


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/train_classifier.py --dataset NAME    for the images in data/NAME/raw; before train.py --dataset NAME
  python q4_wgan/train_classifier.py                   the one of Fashion-MNIST anew; what ships stays in use""")
    add = parser.add_argument
    images.add_dataset(parser)
    add("--arch", choices=ARCHITECTURES, default="conv", help="residual: the second one, for scores (default: conv)")
    add("--epochs", type=number(int, 1, 10_000), default=15, help="passes over the training images (default: 15)")
    add("--seed", type=seed, default=0, help="of all randomness (default: 0)")
    add("--name", type=name, help="of the run folder (default: q4_classifier_DATASET, where train.py looks for it)")
    files.add_device(parser)
    add_folders(parser)
    args = parser.parse_args()
    if args.precision == "bfloat16":
        raise UserError("--precision bfloat16: the classifier is trained in float32")

    args.precision = "float32"
    data = images.load(args.dataset, args.data_dir)
    folder = args.results_dir / "runs" / (args.name or folder_of(args.dataset, args.arch))
    options = files.open_run(folder, {key: getattr(args, key) for key in ("dataset", "arch", "epochs", "seed")}, args)
    trains = f"python q4_wgan/train.py --model wgan --dataset {args.dataset}"
    if (folder / "outcome.json").exists():
        found = read_json(folder / "outcome.json")
        print(f"this training has ended: test accuracy {found['test_accuracy']:.2%}\n{trains}")
        return
    network, seconds = train(options, data, folder)
    scores = {"validation_accuracy": accuracy(network, data.validation, data.validation_labels),
              "test_accuracy": accuracy(network, data.test, data.test_labels), "seconds": round(seconds)}
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write(folder / "classifier.pt", files.as_torch({**options, **scores, "state": state}))
    write(folder / "outcome.json", as_json(scores))
    (folder / "checkpoint.pt").unlink()
    print(f"test accuracy {scores['test_accuracy']:.2%} (validation {scores['validation_accuracy']:.2%})\n{trains}")


if __name__ == "__main__":
    run_main(main)
