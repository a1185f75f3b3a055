"""Paths, devices and files: what every script of this room does the same way.

Errors a user can cause are raised as `UserError`; `run_main` turns them into one line on stderr and exit status 2.
Files are written to a temporary name in the same folder and moved into place, so a kill never leaves half a file.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("dcgan", "wgan")


class UserError(Exception):
    """Something the user gave is wrong; the message is one line that says what and where."""


class Parser(argparse.ArgumentParser):
    """argparse with the examples kept as written, and with errors of one line."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        raise UserError(f"{message} (see --help)")


def run_main(main):
    """Run a script's `main` and exit: 0 or its own status; 2 and one line on stderr for the user's errors."""
    try:
        sys.exit(main())
    except (UserError, OSError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, OSError) and error.filename:
            message = f"{error.filename}: {error.strerror}"
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        sys.exit(130)


def add_folders(parser, *names):
    """Add --data-dir, --weights-dir, --results-dir (those named) with their defaults under the repository root."""
    for name in names:
        what = {"data": "the images (torchvision's layout)", "weights": "the trained models",
                "results": "what scripts write"}[name]
        parser.add_argument(f"--{name}-dir", type=Path, default=ROOT / name, metavar="DIR",
                            help=f"folder of {what} (default: {name}/ of the repository)")


def add_device(parser):
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where to compute (default: cuda if there is one)")


def positive(text):
    """argparse type: a whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above zero")
    return value


def natural(text):
    """argparse type: a whole number from 0 to 2^63 - 1 (a seed)."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to 2^63 - 1")
    return value


def pick_device(name):
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


# ---- writing ----------------------------------------------------------------------------------------------------------

def write_atomic(path, write):
    """Call `write(file)` on a temporary binary file beside `path`, then move it into place. Makes missing folders."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def save_torch(path, content):
    buffer = io.BytesIO()  # torch.save on a full disk does not raise OSError
    torch.save(content, buffer)
    write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def save_json(path, content):
    write_atomic(path, lambda file: file.write((json.dumps(content, indent=1) + "\n").encode()))


def save_text(path, text):
    write_atomic(path, lambda file: file.write(text.encode()))


def ship(weights_dir, name, content):
    """Write the weights `name` and renew its line, and no other, in SHA256SUMS (the form `sha256sum -c` reads)."""
    save_torch(weights_dir / name, content)
    sums = weights_dir / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.exists() else []
    lines = [line for line in lines if line.strip() and line.split(maxsplit=1)[1].lstrip("*") != name]
    digest = hashlib.sha256((weights_dir / name).read_bytes()).hexdigest()
    lines.append(f"{digest}  {name}")
    save_text(sums, "\n".join(sorted(lines, key=lambda line: line.split(maxsplit=1)[1])) + "\n")


# ---- reading ----------------------------------------------------------------------------------------------------------

def load_weights(path, kind):
    """Read the plain dict that `ship` wrote and check that it holds a `kind` ('classifier', 'dcgan' or 'wgan').

    Raises UserError for a file that is missing, unreadable, changed since its line in SHA256SUMS was written, or of
    another model.
    """
    path = Path(path)
    if not path.is_file():
        script = "classifier.py" if kind == "classifier" else f"train.py --model {kind}"
        raise UserError(f"{path}: no such weights file; it comes with the repository, or train it with "
                        f"python q4_wgan/{script}")
    sums = path.with_name("SHA256SUMS")
    if sums.is_file():
        for line in sums.read_text().splitlines():
            digest, _, name = line.partition("  ")
            if name == path.name and digest != hashlib.sha256(path.read_bytes()).hexdigest():
                raise UserError(f"{path}: corrupt, its SHA-256 is not the one in {sums.name}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises many types for a damaged file
        raise UserError(f"{path}: not a readable weights file (corrupt or incomplete)") from None
    found = content.get("model") if isinstance(content, dict) else None
    if found != kind:
        raise UserError(f"{path}: holds {f'the weights of {found!r}' if found else 'something else'}, not of {kind!r}")
    return content


def load_state(network, state, path):
    """`network.load_state_dict(state)`, with UserError naming `path` where they do not fit."""
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        raise UserError(f"{path}: its tensors do not fit the network it names (corrupt or from another version)") from None


# ---- the record of runs, one line each: the ledger of attempts, the stability study -----------------------------------

def append_line(path, entry):
    """Add `entry` and the time as a line of JSON. One write call: lines of two processes at once do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size and os.pread(handle, 1, size - 1) != b"\n"  # by a crash of the machine
        os.write(handle, ("\n" * bool(torn) + json.dumps(entry) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(path):
    """The entries that `append_line` wrote; lines cut short by a crash of the machine are passed over."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def append_ledger(results_dir, entry):
    append_line(results_dir / "q4_attempts.jsonl", entry)


def read_ledger(results_dir):
    """The attempts in order of their start, each with its latest outcome: started, interrupted, failed or converged.

    'started' as the latest word means that the run is going on, or was killed and never resumed.
    """
    attempts = {}
    for entry in read_lines(results_dir / "q4_attempts.jsonl"):
        attempts.setdefault(entry["attempt"], {}).update(entry)
    return list(attempts.values())


def failures_before_success(attempts, model):
    """(number of failed attempts before the first converged one, whether one converged) among those of `model`."""
    outcomes = [a["outcome"] for a in attempts if a["model"] == model]
    converged = "converged" in outcomes
    before = outcomes[:outcomes.index("converged")] if converged else outcomes
    return before.count("failed"), converged
