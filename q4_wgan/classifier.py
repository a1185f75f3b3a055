"""The classifiers whose features the metrics use; train_classifier.py trains them. The labels are the first one's."""

import torch
from torch import nn
from torch.nn import functional as F

from . import files
from .command import ROOT, UserError
from .networks import to_float


class Classifier(nn.Module):
    """Images (n, 1, 28, 28) in [-1, 1] -> logits (n, 10). Three 3x3 convolutions, pooled to 3x3, then 128 features.
    240,000 weights."""

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


class Block(nn.Module):
    """relu(x + two 3x3 convolutions of x); with a stride of 2 or other channels, x through a 1x1 convolution."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.skip(x) + self.body(x))


class ResidualClassifier(nn.Module):
    """The second classifier, of another architecture (He et al. 2016, section 4.2, n = 1): three residual blocks of 16,
    32 and 64 channels, then 64 features, the means over 7x7 places. 78,000 weights."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.out = nn.Linear(64, 10)

    def features(self, x):
        """(n, 64), not negative."""
        return self.body(x).mean((2, 3))

    def forward(self, x):
        return self.out(self.features(x))


ARCHITECTURES = {"conv": Classifier, "residual": ResidualClassifier}


def folder_of(dataset, arch="conv"):
    return f"q4_classifier_{dataset}" + f"_{arch}" * (arch != "conv")


def load(dataset="fashion", results_dir=ROOT / "results", arch="conv"):
    """A classifier of a data set in evaluation mode: of Fashion-MNIST the one that ships. Raises UserError where there
    is none; a second one may be missing, then None is returned."""
    folder = results_dir / "runs" / folder_of(dataset, arch)
    if dataset == "fashion":
        folder = ROOT / "weights" / folder_of(dataset, arch).replace("_fashion", "")
    path, network = folder / "classifier.pt", ARCHITECTURES[arch]()
    if not path.exists() and arch != "conv":
        return None
    if not path.exists():
        raise UserError(f"{path}: no classifier, which the metrics need; first `python q4_wgan/train_classifier.py "
                        f"--dataset {dataset}`")
    files.load_state(network, files.load_torch(path, "state")["state"], path)
    return network.eval()


@torch.no_grad()
def classify(network, pixels, batch=1000):
    """(features (n, d), labels (n,), confidences (n,)) of uint8 images (n, 28, 28), on the CPU."""
    device = next(network.parameters()).device
    parts = []
    for part in pixels.split(batch):
        features = network.features(to_float(part.to(device)))
        confidence, label = network.out(features).softmax(1).max(1)
        parts.append((features.cpu(), label.cpu(), confidence.cpu()))
    return tuple(torch.cat(column) for column in zip(*parts))
