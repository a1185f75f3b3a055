"""The classifier whose features and labels the metrics use; train_classifier.py trains it. 240,000 weights."""

import torch
from torch import nn
from torch.nn import functional as F

from . import files
from .command import ROOT, UserError
from .networks import to_float


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


def load(dataset="fashion", results_dir=ROOT / "results"):
    """The classifier of a data set in evaluation mode: of Fashion-MNIST the one that ships. Raises UserError."""
    folder = ROOT / "weights/q4_classifier" if dataset == "fashion" else results_dir / f"runs/q4_classifier_{dataset}"
    path, network = folder / "classifier.pt", Classifier()
    if not path.exists():
        raise UserError(f"{path}: no classifier, which the metrics need; first `python q4_wgan/train_classifier.py "
                        f"--dataset {dataset}`")
    files.load_state(network, files.load_torch(path, "state")["state"], path)
    return network.eval()


@torch.no_grad()
def classify(network, pixels, batch=1000):
    """(features (n, 128), labels (n,), confidences (n,)) of uint8 images (n, 28, 28), on the CPU."""
    device = next(network.parameters()).device
    parts = []
    for part in pixels.split(batch):
        features = network.features(to_float(part.to(device)))
        confidence, label = network.out(features).softmax(1).max(1)
        parts.append((features.cpu(), label.cpu(), confidence.cpu()))
    return tuple(torch.cat(column) for column in zip(*parts))
