"""Fashion-MNIST as uint8 tensors in memory, from the first of four places that has it, with its SHA-256 checked.

1. --data-dir, in torchvision's layout (FashionMNIST/raw/...);  2. the operating system's copy, which Debian's and
Ubuntu's package dataset-fashion-mnist installs;  3. torchvision's download;  4. that Debian package, fetched and unpacked
without root.  q3_vae_m1/ has the same loader: the rooms share no code, on purpose.
"""

import gzip
import hashlib
import subprocess
import tempfile
from pathlib import Path

import torch

from files import UserError, write_atomic

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
RAW = Path("FashionMNIST/raw")
SYSTEM = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read_folder(folder):
    """{name: raw bytes} of the four files in `folder`, plain or .gz. Raises FileNotFoundError, or UserError (checksum)."""
    content = {}
    for name, expected in SHA256.items():
        path = folder / name
        if path.is_file():
            content[name] = path.read_bytes()
        else:
            path = folder / f"{name}.gz"
            try:
                content[name] = gzip.decompress(path.read_bytes())
            except (gzip.BadGzipFile, EOFError):
                raise UserError(f"{path}: damaged gzip file; delete it to have it fetched again") from None
        if hashlib.sha256(content[name]).hexdigest() != expected:
            raise UserError(f"{path}: refused, its SHA-256 is not that of Fashion-MNIST; delete it to have it fetched again")
    return content


def from_torchvision():
    from torchvision.datasets import FashionMNIST  # slow to import, and needed by nobody who has the files

    with tempfile.TemporaryDirectory() as folder:
        FashionMNIST(folder, download=True)
        return read_folder(Path(folder) / RAW)


def from_debian():
    with tempfile.TemporaryDirectory() as folder:
        def run(*command):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        try:
            run("apt-get", "download", PACKAGE)
        except subprocess.CalledProcessError:  # empty package lists: refresh them if we may, and try once more
            run("apt-get", "update")
            run("apt-get", "download", PACKAGE)
        run("dpkg-deb", "-x", str(next(Path(folder).glob("*.deb"))), "unpacked")
        return read_folder(Path(folder) / "unpacked" / SYSTEM.relative_to("/"))


def find(data_dir):
    """The four raw files as bytes. What had to be fetched is kept in `data_dir` where that can be written."""
    for folder in (data_dir / RAW, SYSTEM):
        try:
            return read_folder(folder)
        except FileNotFoundError:
            pass  # not here; a file that is here and wrong is refused by name instead
    print("Fashion-MNIST is not on this machine: fetching it", flush=True)
    for fetch in (from_torchvision, from_debian):
        try:
            content = fetch()
        except Exception:  # no network, no apt, a refused download: the next way may work
            continue
        try:
            for name, data in content.items():
                write_atomic(data_dir / RAW / name, lambda file, data=data: file.write(data))
        except OSError:
            pass  # a read-only data folder: use the images from memory
        return content
    raise UserError(f"no Fashion-MNIST images: put the four raw files into {data_dir / RAW}, or install the Debian/Ubuntu "
                    f"package {PACKAGE}, or allow torchvision's download or `apt-get download {PACKAGE}`")


def load(data_dir):
    """((images, labels) of training, (images, labels) of test).

    images: uint8 (n, 28, 28), 0 to 255; labels: int64 (n,), 0 to 9; n is 60,000 and 10,000.
    """
    content = find(Path(data_dir))

    def tensors(part):
        images, labels = (torch.frombuffer(bytearray(content[f"{part}-{kind}-ubyte"]), dtype=torch.uint8)
                          for kind in ("images-idx3", "labels-idx1"))
        return images[16:].view(-1, 28, 28).clone(), labels[8:].long()  # 16 and 8 bytes of idx header

    return tensors("train"), tensors("t10k")


def split(images):
    """(training part, held-out part): the last sixth, 10,000 of the 60,000 training images, is held out."""
    held_out = len(images) // 6
    return images[:-held_out], images[-held_out:]


def to_float(pixels):
    """uint8 (n, 28, 28) in 0..255 -> float32 (n, 1, 28, 28) in [-1, 1], the range of the generator's tanh."""
    return pixels.float().div_(127.5).sub_(1).unsqueeze(1)


def to_pixels(x):
    """float (n, 1, 28, 28) in [-1, 1] -> uint8 (n, 28, 28), rounded."""
    return x.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).squeeze(1)
