"""Devices, weights that ship with their SHA-256, and records of runs.

The same bytes stand in q3_vae_m1/ and q4_wgan/ (a test compares them), so that each folder is complete in itself.
"""

import contextlib
import functools
import hashlib
import io
import json
import re
import subprocess
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .command import ROOT, UserError, as_json, naming, put, read, read_json, replace, write

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
    # With CUDA float32, which was quicker on an H200: results/q4/benchmark_h200.json.
    checks = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    # Measured even where the instructions exist: a Xeon without AMX has them and is slower with them.
    quick = device.type == "cpu" and any(check() for check in checks) and faster("cpu", "cpu", torch.bfloat16)
    return "bfloat16" if quick else "float32"


@functools.cache
def faster(device, other, dtype=torch.float32):
    """Whether `device` multiplies matrices of `dtype` faster than `other` those of float32."""
    def seconds(matrix):
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        return time.perf_counter() - began

    try:
        mine = torch.ones(512, 512, device=device, dtype=dtype)
        its = torch.ones(512, 512, device=other)
        times = [(seconds(mine), seconds(its)) for _ in range(25)]  # in turns: other work meets both
    except RuntimeError:  # virtual Macs have an MPS device without memory
        return False
    return min(pair[0] for pair in times) < min(pair[1] for pair in times)


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
        raise UserError(f"{path}: its tensors do not fit the network it names (damaged, or too old)") from None


# ---- what ships: several files, all or none ------------------------------------------------------

@contextlib.contextmanager
def locked(folder, busy=None):
    """Hold the lock of `folder`, which ends with its process. If another holds it: wait, or raise UserError(busy)."""
    with naming(folder, "written"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(Path(folder) / ".lock").acquire(timeout=0 if busy else 60)
        except Timeout:
            raise UserError(busy or f"{folder}: another process has held its lock for a minute") from None
    with lock:
        yield


def read_sums(folder):
    """{file name: SHA-256} of SHA256SUMS, in either form that `sha256sum` writes; empty where there is none."""
    path, sums = Path(folder) / SUMS, {}
    for number, line in enumerate(read(path).decode(errors="replace").splitlines() if path.exists() else (), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if not match or match[2] in sums:
            raise UserError(f"{path}: line {number} is not a SHA-256 and a file name, or names a file again")
        sums[match[2]] = match[1]
    return sums


def ship(folder, weights, others=()):
    """Put {name: bytes} into the weights folder, with their lines in SHA256SUMS, and `others`, {path: bytes or text}.

    All or nothing: the new files are written beside their places, listed in a journal, then moved. After a kill the
    next `ship` or `read_shipped` moves what is left; before the journal is there, nothing has changed.
    """
    folder = Path(folder)
    with locked(folder):
        finish_shipping(folder)
        sums = read_sums(folder) | {name: hashlib.sha256(data).hexdigest() for name, data in weights.items()}
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        wanted = {folder / name: data for name, data in {**weights, SUMS: lines}.items()}
        wanted |= {Path(path).resolve(): data for path, data in dict(others).items()}
        try:
            with naming(folder, "written, nothing was shipped"):
                for path, data in wanted.items():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    put(beside(path), data)
            write(folder / JOURNAL, as_json([path.name if path.parent == folder else str(path) for path in wanted]))
        finally:
            if not (folder / JOURNAL).exists():
                for path in wanted:
                    with contextlib.suppress(OSError):
                        beside(path).unlink()
        finish_shipping(folder)


def beside(path):
    """Where `ship` puts the new file of `path` before it moves it."""
    return path.with_name(f".{path.name}.new")


def finish_shipping(folder):
    """Do the moves that a killed `ship` left undone. The caller holds the folder's lock."""
    journal = Path(folder) / JOURNAL
    if journal.exists():
        for place in read_json(journal, list):
            path = Path(folder) / str(place)
            if beside(path).exists():
                replace(beside(path), path)
        journal.unlink()


def with_folder(command, folder):
    """`command`, with --weights-dir where `folder` is not the repository's."""
    return command + ("" if Path(folder).resolve() == ROOT / "weights" else f" --weights-dir {folder}")


def read_shipped(path, command):
    """The bytes of a weights file that matches its line in SHA256SUMS. `command`: how a user makes the file anew."""
    path, folder = Path(path), Path(path).parent
    with contextlib.ExitStack() as stack:
        if folder.is_dir():
            with contextlib.suppress(OSError, UserError):  # read-only, where nobody ships
                stack.enter_context(locked(folder))
                finish_shipping(folder)
        data, expected = read(path) if path.is_file() else None, read_sums(folder).get(path.name)
    if data is not None and hashlib.sha256(data).hexdigest() == expected:
        return data
    reason = ("no such file" if data is None else f"not listed in {SUMS}" if expected is None else
              f"its SHA-256 is not the one in {SUMS}")
    raise UserError(f"{path}: {reason}; restore it, if it came with the repository, or make it with "
                    f"`{with_folder(command, folder)}`")


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
    """Add `entry`, with the time, as a line of JSON; returns that. Lines of several processes do not mix."""
    path, entry = Path(path), {**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    line = json.dumps(entry, allow_nan=False) + "\n"
    with locked(path.parent):
        before = read(path) if path.exists() else b""
        write(path, before + b"\n" * (before[-1:] not in (b"", b"\n")) + line.encode())  # all or nothing
    return entry


def read_lines(path):
    """The entries that `append_line` wrote. A line cut short is passed over."""
    entries = []
    for line in read(path).decode(errors="replace").splitlines() if Path(path).exists() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]
