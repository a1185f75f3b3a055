"""Trains the classifier whose features and labels the metrics use: a small CNN, 92.46 % test accuracy on Fashion-MNIST.

It is chosen on the validation images and tested once, when it is done. Writes weights/q4_classifier.pt and
results/q4/classifier.json; of another data set weights/q4_classifier_NAME.pt and results/q4/classifier_NAME.json. The
shipped one took 11 minutes on two CPU cores.
"""

import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import files, images
from q4_wgan.classifier import Classifier, classify, file_name
from q4_wgan.command import Parser, add_folders, as_json, check_writable, number, run_main, seed
from q4_wgan.networks import to_float


def accuracy(network, pixels, labels):
    return (classify(network, pixels)[1] == labels).double().mean().item()


def train(network, data, epochs, seed, device):
    """Train `network` in place: Adam, one-cycle learning rate, label smoothing, images shifted and mirrored."""
    pixels, labels = data.train.to(device), data.train_labels.to(device)
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), fused=device.type != "mps")
    batch = min(128, len(pixels))
    steps = len(pixels) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=epochs * steps)
    with tqdm(total=epochs * steps, unit="step", desc="classifier") as progress:
        for _ in range(epochs):
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
            found = accuracy(network, data.validation, data.validation_labels)
            progress.set_postfix_str(f"validation accuracy {found:.2%}")


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python q4_wgan/train_classifier.py                   train it anew
  python q4_wgan/train_classifier.py --dataset NAME    for the images in data/NAME/raw; before train.py --dataset NAME
  python q4_wgan/train_classifier.py --quick           a smoke test in a minute, ships nothing""",)
    parser.add_argument("--dataset", type=images.dataset_name, default="fashion", help="(default: fashion)")
    parser.add_argument("--epochs", type=number(int, 1, 10_000), default=15,
                        help="passes over the training images (default: 15)")
    parser.add_argument("--seed", type=seed, default=0, help="of all randomness (default: 0)")
    parser.add_argument("--quick", action="store_true", help="one pass over some of the images; ships nothing")
    files.add_device(parser)
    add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    device = files.pick_device(args.device)
    data = images.load(args.dataset, args.data_dir)
    if args.quick:
        args.epochs, data = 1, images.Images(*(part[:5_000] for part in data))
    else:
        check_writable(args.weights_dir, args.results_dir / "q4")
    torch.manual_seed(args.seed)
    network = Classifier().to(device, memory_format=torch.channels_last)
    began = time.monotonic()
    train(network, data, args.epochs, args.seed, device)

    scores = {"validation_accuracy": accuracy(network, data.validation, data.validation_labels),
              "test_accuracy": accuracy(network, data.test, data.test_labels),
              "epochs": args.epochs, "seed": args.seed, "seconds": round(time.monotonic() - began)}
    found = f"test accuracy {scores['test_accuracy']:.2%} (validation {scores['validation_accuracy']:.2%})"
    if args.quick:
        print(f"{found} of a quick training; nothing is shipped")
        return
    weights = file_name(args.dataset)
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    content = {"model": "classifier", "dataset": args.dataset, **scores, "commit": files.commit(), "state": state}
    record = args.results_dir / "q4" / f"{weights.removeprefix('q4_').removesuffix('.pt')}.json"
    files.ship(args.weights_dir, {weights: files.as_torch(content)}, {record: as_json(scores)})
    print(f"{found}; shipped {args.weights_dir / weights}")


if __name__ == "__main__":
    run_main(main)
