"""Images of 28x28 pixels in ten classes, as uint8 tensors: Fashion-MNIST, MNIST, or a set of the user's own.

torchvision reads them from --data-dir, and downloads the two known sets where they are missing. A set of your own is
four idx files, plain or .gz, in NAME/raw with MNIST's names. The same bytes stand in q3_vae_m1/ and q4_wgan/.
"""

import socket
from pathlib import Path
from typing import NamedTuple

import torch

from . import command
from .command import UserError

FOLDERS = {"fashion": "FashionMNIST", "mnist": "MNIST"}  # any other data set has the folder of its name
TITLES = {"fashion": "Fashion-MNIST", "mnist": "MNIST"}
FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SPELLINGS = {text.lower(): key for key in FOLDERS for text in (key, FOLDERS[key], TITLES[key])}


class Images(NamedTuple):
    """A data set: pixels uint8 (n, 28, 28) in 0..255, labels int64 (n,) in 0..9."""

    train: torch.Tensor
    train_labels: torch.Tensor
    validation: torch.Tensor  # the last sixth of the training images: 10,000 of 60,000
    validation_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor


def add_dataset(parser):
    parser.add_argument("--dataset", type=dataset_name, default="fashion", metavar="NAME",
                        help="fashion, mnist, or NAME of four idx files in data/NAME/raw (default: fashion)")


def dataset_name(text):
    """argparse type of --dataset: 'fashion', 'mnist', or NAME of data/NAME/raw. MNIST, FashionMNIST are known, too."""
    return SPELLINGS.get(text.lower()) or command.name(text)


def class_names(dataset):
    return FASHION if dataset == "fashion" else tuple("0123456789")


def title(dataset):
    return TITLES.get(dataset, dataset)


def load(dataset, data_dir):
    """The Images of 'fashion', 'mnist' or the user's own NAME. Raises UserError that says how to get them."""
    from torchvision import datasets  # slow to import, and much needs no images

    folder = Path(data_dir) / FOLDERS.get(dataset, dataset) / "raw"
    missing = [file for file in FILES if not (folder / file).exists()]
    own = type(dataset, (datasets.MNIST,), {"mirrors": [""], "resources": [(f"{file}.gz", None) for file in missing]})
    kind = getattr(datasets, FOLDERS[dataset]) if dataset in FOLDERS else own  # it has the folder of its class's name
    if missing:
        socket.setdefaulttimeout(60)  # urllib would wait for ever
        try:
            for file in missing if kind is own else ():  # before torchvision makes a folder
                (folder / f"{file}.gz").stat()
            kind(data_dir, download=True)  # or unpacks
        except Exception as error:  # no network, a damaged archive, a read-only folder: torchvision raises many kinds
            for file in missing:  # torchvision leaves an empty file of a damaged archive
                (folder / file).unlink(missing_ok=True)
            raise UserError(f"no images of {title(dataset)} in {folder}, which must have {', '.join(FILES)}, plain or "
                            f".gz ({error})") from None
    train, train_labels, test, test_labels = (read(folder / file) for file in FILES)
    for pixels, labels in ((train, train_labels), (test, test_labels)):
        if len(pixels) != len(labels):
            raise UserError(f"{folder}: {len(labels)} labels for {len(pixels)} images")
    if len(train) < 6:
        raise UserError(f"{folder}: {len(train)} training images are too few")
    if dataset not in FOLDERS:  # they may be sorted by class, and the end of them is for validation
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        train, train_labels = train[order], train_labels[order]
    split = len(train) - len(train) // 6
    return Images(train[:split], train_labels[:split], train[split:], train_labels[split:], test, test_labels)


def read(path):
    """An idx file: uint8 images (n, 28, 28) or int64 labels (n,), as its name says. Raises UserError."""
    from torchvision.datasets import mnist

    wanted = (28, 28) if "idx3" in path.name else ()
    try:
        content = (mnist.read_image_file if wanted else mnist.read_label_file)(str(path))
    except (AssertionError, ValueError, RuntimeError, TypeError, IndexError):
        raise UserError(f"{path}: not an idx file of {'images' if wanted else 'labels'} in bytes") from None
    if content.shape[1:] != wanted or not len(content):
        raise UserError(f"{path}: {len(content)} images of {'x'.join(map(str, content.shape[1:]))} pixels; 28x28 "
                        "are wanted")
    if not wanted and content.max() > 9:
        raise UserError(f"{path}: a label {content.max()}; classes are 0 to 9")
    return content
