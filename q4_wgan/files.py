"""Devices, weights that ship with their SHA-256, and records of runs.

The same bytes stand in q3_vae_m1/ and q4_wgan/ (a test compares them), so that each folder is complete in itself.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import subprocess
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .command import ROOT, UserError, as_json, put, read, read_json, write

SUMS, JOURNAL = "SHA256SUMS", ".shipping.json"


# ---- devices -------------------------------------------------------------------------------------

def add_device(parser):
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto",
                        help="where to compute (default: the fastest that is here)")


def pick_device(wanted):
    """torch.device for --device. 'auto': CUDA if there is one, MPS if a short trial finds it faster, else the CPU."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if here["cuda"] else "mps" if here["mps"] and faster("mps", "cpu") else "cpu"
    if not here[wanted]:
        raise UserError(f"--device {wanted}: torch sees no such device here")
    if wanted == "cuda":
        torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    return torch.device(wanted)


def pick_precision(wanted, device):
    """'bfloat16' or 'float32' for --precision and a torch.device. 'auto': what this device computes faster."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = (getattr(torch.cpu, name, lambda: False) for name in names)
    # Measured even where the instructions exist: a Xeon without AMX has them and is slower with them.
    quick = any(check() for check in checks) and faster("cpu", "cpu", torch.bfloat16)
    return "bfloat16" if quick and device.type == "cpu" else "float32"


@functools.cache
def faster(device, other, dtype=torch.float32):
    """Whether `device` multiplies matrices of `dtype` faster than `other` those of float32.

    In turns, so that other work on the machine meets both.
    """
    def seconds(matrix):
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        return time.perf_counter() - began

    matrices = [torch.ones(512, 512, device=d, dtype=t) for d, t in ((device, dtype), (other, torch.float32))]
    mine, its = map(min, zip(*([seconds(matrix) for matrix in matrices] for _ in range(25))))
    return mine < its


# ---- torch files ---------------------------------------------------------------------------------

def as_torch(content):
    """The bytes of torch.save. In memory first: on a full disk torch.save raises many kinds of errors."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def from_torch(data, path):
    """The plain dict in the bytes `data` of the file `path`. Nothing in them is executed. Raises UserError."""
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises many types for a damaged file
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged, or not a file that the scripts write")
    return content


def load_state(network, state, path):
    """`network.load_state_dict(state)`, with a UserError that names `path` where they do not fit."""
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        message = f"{path}: its tensors do not fit the network it names (damaged or from another version)"
        raise UserError(message) from None


# ---- what ships: several files, all or none ------------------------------------------------------

@contextlib.contextmanager
def locked(folder, busy=None):
    """Hold the lock of `folder`, which ends with its process. If another holds it: wait, or raise UserError(busy)."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(folder) / ".lock", timeout=0 if busy else 60):
            yield
    except Timeout:
        raise UserError(busy or f"{folder}: another process has held its lock for a minute") from None


def read_sums(folder):
    """{file name: SHA-256} of SHA256SUMS, in either form that `sha256sum` writes; empty where there is none."""
    path, sums = Path(folder) / SUMS, {}
    for number, line in enumerate(read(path).decode(errors="replace").splitlines() if path.exists() else (), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if not match:
            raise UserError(f"{path}: line {number} is not a SHA-256 and a file name")
        sums[match[2]] = match[1]
    return sums


def ship(folder, weights, others=()):
    """Put {name: bytes} into the weights folder, with their lines in SHA256SUMS, and `others`, {path: bytes or text}.

    All or nothing: the new files are written beside their places, listed in a journal, then moved. Killed before the
    journal is there, nothing has changed; after it, the next `ship` or `read_shipped` moves what is left.
    """
    folder = Path(folder)
    with locked(folder):
        finish_shipping(folder)
        sums = read_sums(folder) | {name: hashlib.sha256(data).hexdigest() for name, data in weights.items()}
        wanted = {Path(path).resolve(): data for path, data in dict(others).items()}
        wanted |= {(folder / name).resolve(): data for name, data in weights.items()}
        wanted[(folder / SUMS).resolve()] = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        moves = {str(path.with_name(f".{path.name}.new")): str(path) for path in wanted}
        try:
            for temporary, data in zip(moves, wanted.values()):
                Path(temporary).parent.mkdir(parents=True, exist_ok=True)
                put(temporary, data)
            write(folder / JOURNAL, as_json(moves))
        except (OSError, UserError) as error:
            for temporary in moves:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{folder}: nothing was shipped ({reason})") from None
        finish_shipping(folder)


def finish_shipping(folder):
    """Do the moves that a killed `ship` left undone. The caller holds the folder's lock."""
    journal = Path(folder) / JOURNAL
    if journal.exists():
        for temporary, place in read_json(journal).items():
            if os.path.exists(temporary):
                os.replace(temporary, place)
        journal.unlink()


def read_shipped(path, command):
    """The bytes of a weights file that matches its line in SHA256SUMS. `command`: how a user makes the file anew."""
    path, data, expected = Path(path), None, None
    for attempt in range(2):
        if not (path.parent / JOURNAL).exists():
            data, expected = read(path) if path.is_file() else None, read_sums(path.parent).get(path.name)
            if data and hashlib.sha256(data).hexdigest() == expected:
                return data
        if attempt == 0 and path.parent.is_dir():  # it may be on its way into the folder
            with contextlib.suppress(OSError), locked(path.parent):  # OSError: read-only, where nobody ships
                finish_shipping(path.parent)
    reason = ("no such file" if data is None else f"not listed in {SUMS}" if expected is None else
              f"its SHA-256 is not the one in {SUMS}")
    raise UserError(f"{path}: {reason}; it comes with the repository, or make it with `{command}`")


@functools.cache
def commit():
    """The git commit of this repository, with '+' where tracked files differ from it; 'unknown' without git."""
    try:
        words = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


# ---- records: a line of JSON for every run -------------------------------------------------------

def append_line(path, entry):
    """Add `entry`, with the time, as a line of JSON. Lines of several processes do not mix."""
    path = Path(path)
    entry = {**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    line = json.dumps(entry, allow_nan=False) + "\n"
    try:
        with locked(path.parent), open(path, "a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = "\n" * (file.read(1) != b"\n") + line  # the last one was cut short by a crash of the machine
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def read_lines(path):
    """The entries that `append_line` wrote. A line cut short is passed over."""
    entries = []
    for line in read(path).decode(errors="replace").splitlines() if Path(path).exists() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]
