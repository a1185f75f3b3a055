"""Images of 28x28 pixels in ten classes, as uint8 tensors: Fashion-MNIST, MNIST, or a set of the user's own.

The first of these that is there: --data-dir in torchvision's layout (FashionMNIST/raw, MNIST/raw, or NAME/raw for
--dataset NAME, each with four idx files, plain or .gz); the copy of Debian's package dataset-fashion-mnist;
torchvision's download; that package from Debian's archive, which needs no root. The SHA-256 of the two known sets is
checked. A file that is there is never written over. The same bytes stand in q3_vae_m1/ and q4_wgan/.
"""

import gzip
import hashlib
import math
import socket
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import torch

from . import command
from .command import UserError, read, write

FOLDERS = {"fashion": "FashionMNIST", "mnist": "MNIST"}  # any other data set has the folder of its name
TITLES = {"fashion": "Fashion-MNIST", "mnist": "MNIST"}
FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHA256 = {  # of the unpacked FILES
    "fashion": ("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    "mnist": ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
              "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
              "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
              "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
SPELLINGS = {text.lower(): key for key in FOLDERS for text in (key, FOLDERS[key], TITLES[key])}
SYSTEM_COPY = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"


class Images(NamedTuple):
    """A data set: pixels uint8 (n, 28, 28) in 0..255, labels int64 (n,) in 0..9."""

    train: torch.Tensor
    train_labels: torch.Tensor
    validation: torch.Tensor  # the last sixth of the training images: 10,000 of 60,000
    validation_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor


def dataset_name(text):
    """argparse type of --dataset: 'fashion', 'mnist', or NAME of data/NAME/raw. MNIST, FashionMNIST are known, too."""
    return SPELLINGS.get(text.lower()) or command.name(text)


def class_names(dataset):
    return FASHION if dataset == "fashion" else tuple("0123456789")


def title(dataset):
    return TITLES.get(dataset, dataset)


def load(dataset, data_dir):
    """The Images of 'fashion', 'mnist' or the user's own NAME. Raises UserError that says how to get them."""
    folder = Path(data_dir) / FOLDERS.get(dataset, dataset) / "raw"
    contents = read_folder(folder, dataset)
    if contents is None and dataset == "fashion":
        contents = read_folder(SYSTEM_COPY, dataset)
    pixels, labels, test, test_labels = contents or fetch(dataset, folder)
    if len(pixels) < 6:
        raise UserError(f"{folder}: {len(pixels)} training images are too few")
    split = len(pixels) - len(pixels) // 6
    return Images(pixels[:split], labels[:split], pixels[split:], labels[split:], test, test_labels)


def read_folder(folder, dataset):
    """The tensors of FILES in `folder`, or None where one is absent. Raises UserError for a file that is not right."""
    contents = []
    for name, digest in zip(FILES, SHA256.get(dataset, (None,) * 4)):
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
        if path is None:
            continue
        data = read(path)
        if path.suffix == ".gz":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error):
                raise UserError(f"{path}: a damaged gzip file") from None
        if digest and hashlib.sha256(data).hexdigest() != digest:
            raise UserError(f"{path}: not the published file of {title(dataset)}, its SHA-256 differs; move it away to "
                            "fetch that one, or put a set of your own into another folder (--dataset NAME)")
        contents.append(parse(data, path))
    if len(contents) < 4:  # only now: a user's own file is not mixed with fetched ones
        return None
    for images, labels, name in zip(contents[::2], contents[1::2], FILES[1::2]):
        if len(images) != len(labels):
            raise UserError(f"{folder / name}: {len(labels)} labels for {len(images)} images")
    return contents


def parse(data, path):
    """An idx file: uint8 images (n, 28, 28) or int64 labels (n,), as its name says. Raises UserError."""
    images = "idx3" in path.name
    header, magic = (16, b"\0\0\x08\x03") if images else (8, b"\0\0\x08\x01")
    sizes = [int.from_bytes(data[i:i + 4], "big") for i in range(4, header, 4)]
    if data[:4] != magic or 0 in sizes or len(data) != header + math.prod(sizes):
        raise UserError(f"{path}: not an idx file of {'images' if images else 'labels'} in bytes")
    if images and sizes[1:] != [28, 28]:
        raise UserError(f"{path}: images of {sizes[1]}x{sizes[2]} pixels; they must have 28x28")
    content = torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=header)
    if not images and content.max() > 9:
        raise UserError(f"{path}: a label {content.max()}; classes are 0 to 9")
    return content.view(-1, 28, 28) if images else content.long()


# ---- fetching ------------------------------------------------------------------------------------

def fetch(dataset, folder):
    """The tensors of a published set from the network, kept in `folder` where that can be written."""
    ways = (("torchvision's download", from_torchvision), (f"Debian's package {PACKAGE}", from_debian))
    hint = f", or install the Debian/Ubuntu package {PACKAGE}" if dataset == "fashion" else ""
    reasons = [f"no images of {title(dataset)}: put {', '.join(FILES)} (plain or .gz) into {folder}{hint}"]
    for way, get in ways[:{"fashion": 2, "mnist": 1}.get(dataset, 0)]:
        print(f"{title(dataset)} is not in {folder}: trying {way}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                source = get(dataset, Path(scratch))
                contents = read_folder(source, dataset)
                if contents is None:
                    raise FileNotFoundError(f"it lacks one of {', '.join(FILES)}")
            except Exception as error:  # no network, no apt, no room, a refused file: the next way may do
                reason = (getattr(error, "stderr", None) or b"").decode(errors="replace") or str(error)
                reasons.append(f"{way} failed ({' '.join(reason.split()) or type(error).__name__})")
                continue
            try:
                for path in source.iterdir():
                    if path.name.removesuffix(".gz") in FILES and not (folder / path.name).exists():
                        write(folder / path.name, path.read_bytes())
            except UserError as error:  # a read-only folder
                print(f"the images are not kept: {error}", flush=True)
            return contents
    raise UserError("; ".join(reasons))


def from_torchvision(dataset, scratch):
    import torchvision.datasets  # slow to import, and needed only here

    socket.setdefaulttimeout(60)  # urllib would wait for ever
    getattr(torchvision.datasets, FOLDERS[dataset])(root=str(scratch), download=True)
    return scratch / FOLDERS[dataset] / "raw"


def from_debian(dataset, scratch):
    def run(*words):
        subprocess.run(words, cwd=scratch, check=True, capture_output=True, timeout=300)

    scratch.chmod(0o755)  # apt gives up its privileges for the download
    try:
        run("apt-get", "download", PACKAGE)
    except subprocess.CalledProcessError:  # the package lists may be empty
        run("apt-get", "update")
        run("apt-get", "download", PACKAGE)
    [package] = scratch.glob("*.deb")
    run("dpkg-deb", "-x", str(package), "unpacked")
    return scratch / "unpacked" / SYSTEM_COPY.relative_to("/")
