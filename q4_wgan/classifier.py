"""The classifier of Fashion-MNIST that the other scripts judge generated images with: its features for the Frechet
distance, its labels for the class histogram and for generate.py --label.

A small CNN (240,000 weights), chosen on the last 10,000 training images, tested once when it is done. Writes
weights/q4_classifier.pt, which records its accuracies, and results/q4_classifier.json.
"""

import time

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

import files
import images

NAME = "q4_classifier.pt"


class Classifier(nn.Module):
    """Images (n, 1, 28, 28) in [-1, 1] -> logits (n, 10). Three 3x3 convolutions, pooled to 3x3, then 128 features."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(layer for inputs, outputs in ((1, 32), (32, 64), (64, 128)) for layer in (
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU())))
        self.hidden = nn.Linear(128 * 3 * 3, 128)
        self.out = nn.Linear(128, 10)

    def features(self, x):
        """(n, 128), after the ReLU."""
        return F.relu(self.hidden(self.body(x).flatten(1)))

    def forward(self, x):
        return self.out(F.dropout(self.features(x), 0.3, self.training))


def load(weights_dir, device="cpu"):
    """The shipped classifier in evaluation mode. Raises files.UserError where it is missing or damaged."""
    content = files.load_weights(weights_dir / NAME, "classifier")
    network = Classifier()
    files.load_state(network, content["state"], weights_dir / NAME)
    return network.eval().to(device)


@torch.no_grad()
def judge(network, pixels, batch=1000):
    """(features (n, 128), labels (n,), confidences (n,)) of uint8 images (n, 28, 28), on the CPU."""
    device = next(network.parameters()).device
    parts = []
    for part in pixels.split(batch):
        features = network.features(images.to_float(part.to(device)))
        confidence, label = network.out(features).softmax(1).max(1)
        parts.append((features.cpu(), label.cpu(), confidence.cpu()))
    return tuple(torch.cat(column) for column in zip(*parts))


def accuracy(network, pixels, labels):
    return (judge(network, pixels)[1] == labels).double().mean().item()


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/classifier.py                 train and ship weights/q4_classifier.pt (some minutes on 2 CPU cores)
  python q4_wgan/classifier.py --epochs 2      a quick try""")
    parser.add_argument("--epochs", type=files.positive, default=15, help="passes over the training images (default: 15)")
    parser.add_argument("--seed", type=files.natural, default=0, help="seed of all randomness (default: 0)")
    files.add_device(parser)
    files.add_folders(parser, "data", "weights", "results")
    args = parser.parse_args()

    device = files.pick_device(args.device)
    (train, train_labels), (test, test_labels) = images.load(args.data_dir)
    (train, held_out), (labels, held_out_labels) = images.split(train), images.split(train_labels)
    train, labels = train.to(device), labels.to(device)
    torch.manual_seed(args.seed)
    random = torch.Generator().manual_seed(args.seed)
    network = Classifier().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    batch = min(128, len(train))
    steps = len(train) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=args.epochs * steps)
    start = time.monotonic()
    progress = tqdm(total=args.epochs * steps, unit="step", desc="classifier")
    for epoch in range(args.epochs):
        order = torch.randperm(len(train), generator=random).to(device)
        network.train()
        for rows in order[:steps * batch].split(batch):
            x = images.to_float(train[rows])
            # Augmentation: the batch shifted by up to two pixels, half of the images mirrored.
            down, right = torch.randint(0, 5, (2,), generator=random).tolist()
            x = F.pad(x, (2, 2, 2, 2), value=-1.0)[:, :, down:down + 28, right:right + 28]
            flip = torch.rand(batch, 1, 1, 1, generator=random).to(device) < 0.5
            loss = F.cross_entropy(network(torch.where(flip, x.flip(3), x)), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update()
        network.eval()
        progress.set_postfix_str(f"held-out accuracy {accuracy(network, held_out, held_out_labels):.2%}")
    progress.close()

    scores = {"held_out_accuracy": accuracy(network, held_out, held_out_labels),
              "test_accuracy": accuracy(network, test, test_labels),
              "epochs": args.epochs, "seed": args.seed, "seconds": round(time.monotonic() - start)}
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    files.ship(args.weights_dir, NAME, {"model": "classifier", "dataset": "fashion", **scores, "state": state})
    files.save_json(args.results_dir / "q4_classifier.json", scores)
    print(f"test accuracy {scores['test_accuracy']:.2%} (held out: {scores['held_out_accuracy']:.2%}), "
          f"saved {args.weights_dir / NAME}")


if __name__ == "__main__":
    files.run_main(main)
