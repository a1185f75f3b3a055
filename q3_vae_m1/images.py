"""MNIST and Fashion-MNIST as uint8 tensors in memory, and the seeded, class-balanced label draw.

The images are looked for in this order:
  1. the data folder, in torchvision's layout (`FashionMNIST/raw/...`, `MNIST/raw/...`; plain or .gz files),
  2. the operating system's copy (Debian and Ubuntu package `dataset-fashion-mnist`),
  3. torchvision's download,
  4. Debian's archive: `apt-get download` and `dpkg-deb -x`, which need no root.
Whatever the source, the SHA-256 of each unpacked file is checked, and a file that does not match is refused by name.
"""
import gzip
import hashlib
import os
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

FOLDERS = {"fashion": "FashionMNIST", "mnist": "MNIST"}
CLASSES = {
    "fashion": ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    "mnist": [str(digit) for digit in range(10)],
}
FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
SHA256SUMS = """\
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888  FashionMNIST/raw/train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9  FashionMNIST/raw/train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b  FashionMNIST/raw/t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34  FashionMNIST/raw/t10k-labels-idx1-ubyte
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  MNIST/raw/train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  MNIST/raw/train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  MNIST/raw/t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  MNIST/raw/t10k-labels-idx1-ubyte
"""
SYSTEM_COPY = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"


class Images(NamedTuple):
    """A data set in memory. Pixels are uint8 in 0..255, rows are flattened 28x28 images, labels are int64 in 0..9."""

    train_x: torch.Tensor  # (60000, 784)
    train_y: torch.Tensor  # (60000,)
    test_x: torch.Tensor  # (10000, 784)
    test_y: torch.Tensor  # (10000,)

    @property
    def validation(self) -> int:
        """Index at which the validation images begin: the last sixth of the training set, 10,000 of 60,000."""
        return len(self.train_x) - len(self.train_x) // 6


class ImagesError(Exception):
    """The images are missing, unreadable or not the ones this code was written for. One line, made for the user."""


def expected_sums() -> dict[str, str]:
    """SHA-256 by file. The variable IMAGES_SHA256SUMS names another list: for tests, or for other images of this format."""
    override = os.environ.get("IMAGES_SHA256SUMS")
    text = Path(override).read_text() if override else SHA256SUMS
    return {name: digest for digest, name in (line.split() for line in text.splitlines() if line.strip())}


def read_raw(folder: Path, prefix: str) -> list[bytes] | None:
    """The four unpacked files in `folder`, or None where one is absent. Raises ImagesError, naming the file, on a wrong hash."""
    contents = []
    for name in FILES:
        plain, packed = folder / name, folder / f"{name}.gz"
        path = plain if plain.is_file() else packed
        if not path.is_file():
            return None
        try:
            data = path.read_bytes() if path == plain else gzip.decompress(path.read_bytes())
        except (OSError, EOFError) as error:
            raise ImagesError(f"cannot read {path}: {error}") from None
        if hashlib.sha256(data).hexdigest() != expected_sums().get(f"{prefix}/raw/{name}"):
            raise ImagesError(f"{path} is not the published file (its SHA-256 differs): delete it and run again")
        contents.append(data)
    return contents


def download_torchvision(dataset: str, data_dir: Path) -> None:
    import torchvision.datasets  # slow to import and needed only here

    getattr(torchvision.datasets, FOLDERS[dataset])(root=str(data_dir), download=True)


def download_debian(data_dir: Path) -> None:
    """Fashion-MNIST out of Debian's package, into torchvision's layout, without installing it."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)  # apt drops its privileges for the download
        quiet = dict(cwd=scratch, check=True, capture_output=True, timeout=600)
        try:
            subprocess.run(["apt-get", "download", DEBIAN_PACKAGE], **quiet)
        except subprocess.CalledProcessError:  # package lists may be empty
            subprocess.run(["apt-get", "update"], **quiet)
            subprocess.run(["apt-get", "download", DEBIAN_PACKAGE], **quiet)
        [package] = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), "unpacked"], **quiet)
        raw = data_dir / FOLDERS["fashion"] / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            packed = Path(scratch) / "unpacked" / SYSTEM_COPY.relative_to("/") / f"{name}.gz"
            partial = raw / f"{name}.partial"
            partial.write_bytes(gzip.decompress(packed.read_bytes()))
            os.replace(partial, raw / name)


def parse(contents: list[bytes]) -> Images:
    """The four idx files as tensors (the headers are 16 bytes for images, 8 for labels)."""
    images = [np.frombuffer(contents[i], np.uint8, offset=16).reshape(-1, 784).copy() for i in (0, 2)]
    labels = [np.frombuffer(contents[i], np.uint8, offset=8).astype(np.int64) for i in (1, 3)]
    return Images(*(torch.from_numpy(a) for a in (images[0], labels[0], images[1], labels[1])))


def load(dataset: str, data_dir: Path) -> Images:
    """All images of `dataset` ("fashion" or "mnist"). Raises ImagesError where no source gives the published files."""
    prefix = FOLDERS[dataset]
    raw = data_dir / prefix / "raw"
    contents = read_raw(raw, prefix)
    if contents is None and dataset == "fashion":
        contents = read_raw(SYSTEM_COPY, prefix)
    if contents is None:
        downloads = {"torchvision's mirrors": lambda: download_torchvision(dataset, data_dir)}
        if dataset == "fashion":
            downloads["Debian's archive"] = lambda: download_debian(data_dir)
        for source, download in downloads.items():
            try:
                print(f"{prefix} is not in {data_dir}: downloading it from {source}", flush=True)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    download()
                contents = read_raw(raw, prefix)
                break
            except ImagesError:
                raise
            except Exception as error:  # no network, no apt, no room: the next source may do
                print(f"  failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}", flush=True)
    if contents is None:
        debian = f"; or, for Fashion-MNIST, `apt-get install {DEBIAN_PACKAGE}`" if dataset == "fashion" else ""
        raise ImagesError(f"no {prefix} images: put {', '.join(FILES)} (plain or .gz) into {raw}{debian}; "
                          "or run where torchvision can download them")
    return parse(contents)


def check_labels(n: int) -> None:
    if n <= 0 or n % 10:
        raise ValueError(f"--labels {n}: must be a positive multiple of 10, for a class-balanced draw")


def labelled_draw(labels: torch.Tensor, n: int, seed: int) -> np.ndarray:
    """Indices of `n` labelled images, exactly n/10 of each class, in increasing order.

    labels: (M,) the labels of the images to draw from (the training images without the validation images).
    The draw has a generator of its own: it depends on the data set, `seed` and `n` alone, never on what ran before.
    Raises ValueError where `n` is no positive multiple of 10 or a class has too few images.
    """
    check_labels(n)
    labels = labels.numpy()
    members = [np.flatnonzero(labels == c) for c in range(10)]
    if n // 10 > min(len(m) for m in members):
        raise ValueError(f"--labels {n}: a class has only {min(len(m) for m in members)} images to draw {n // 10} from")
    generator = np.random.default_rng([seed, n])
    return np.sort(np.concatenate([generator.choice(m, n // 10, replace=False) for m in members]))
