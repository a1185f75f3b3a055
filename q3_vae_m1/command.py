"""How every script of this repository takes its command line, ends, and writes a file.

The same bytes stand in q3_vae_m1/, q4_wgan/ and theory/ (a test compares them), so that each folder is complete in
itself. What a user can mend is raised as `UserError` and ends as one line on stderr with exit status 2. Files are
written beside their place and moved into it: a kill leaves the old file or the new one, never half of one.
"""

import argparse
import contextlib
import json
import math
import os
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"data": "images, in torchvision's layout", "weights": "trained models; take no stranger's",
           "results": "tables and figures"}


class UserError(Exception):
    """Something that the user gave, or this machine, is wrong. The message is one line that says what and where."""


# ---- the command line ----------------------------------------------------------------------------

class Parser(argparse.ArgumentParser):
    """argparse with the examples kept as written, no abbreviated options, and errors of one line."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        raise UserError(f"{message} (see --help)")


def number(kind=int, low=-math.inf, high=math.inf, above=-math.inf, below=math.inf):
    """argparse type: an int or a finite float with low <= value <= high and above < value < below."""
    limits = {"from": low, "to": high, "above": above, "below": below}
    limits = "".join(f" {word} {limit}" for word, limit in limits.items() if math.isfinite(limit))

    def parse(text):
        try:
            value = kind(text)
            if math.isfinite(value) and low <= value <= high and above < value < below:
                return value
        except (ValueError, OverflowError):
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number{limits}")
    return parse


positive = number(int, 1, 10**9)
seed = number(int, 0, 2**32 - 1)  # torch takes seeds modulo 2^32: more would be two names for the same numbers


def path(text):
    """argparse type: a path. An empty one would be the folder at hand."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def name(text):
    """argparse type: the name of a run or a data set, which becomes part of file names."""
    if not re.fullmatch(r"\w[\w.-]{0,80}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: letters, digits, '_', '-' and '.' only")
    return text


def add_folders(parser, *names):
    """Add those named of --data-dir, --weights-dir and --results-dir, with their defaults in this repository."""
    for folder in names:
        parser.add_argument(f"--{folder}-dir", type=path, default=ROOT / folder, metavar="DIR",
                            help=f"folder of the {FOLDERS[folder]} (default: {folder}/ of the repository)")


class Stream:
    """stdout or stderr whose reader may be gone, full, or know few letters: printing never ends the work."""

    def __init__(self, stream):
        self.stream = stream
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text):
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, attribute):
        return getattr(self.stream, attribute)


def run_main(main):
    """Run a script's `main` and exit with its status; a user's error is one line and 2, Ctrl-C one line and 130."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened must not take its place
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (Stream(stream or open(os.devnull, "w")) for stream in (sys.stdout, sys.stderr))
    status, message = 2, None
    try:
        status = main() or 0
    except UserError as error:
        message = f"error: {error}"
    except OSError as error:
        message = f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}"
    except MemoryError:
        message = "error: not enough memory"
    except (RuntimeError, TypeError) as error:  # torch's own: no room for a tensor, or something that MPS lacks
        if not re.search("out of memory|allocate memory|not enough memory|MPS", str(error)):
            raise
        message = f"error: {str(error).strip().splitlines()[0]}"
    except KeyboardInterrupt as error:
        status, message = 130, str(error) or "interrupted"
    except SystemExit as end:  # --help
        status = end.code
    if message:
        print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    for stream in (sys.stdout.stream, sys.stderr.stream):
        try:
            stream.flush()
        except (OSError, ValueError):  # what is left would be written, and complained of, when Python ends
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


# ---- files ---------------------------------------------------------------------------------------

@contextlib.contextmanager
def naming(path, what):
    """Turn an OSError into a UserError: `path` cannot be `what`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be {what} ({error.strerror or error})") from None


def put(path, data):
    """Write bytes, or text as UTF-8, and wait until they are on the disk. Raises OSError."""
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def replace(old, new):
    """os.replace, tried for a second: Windows refuses while a reader or a virus scanner has the file open."""
    for wait in (0.1, 0.3, 0.6):
        with contextlib.suppress(PermissionError):
            return os.replace(old, new)
        time.sleep(wait)
    os.replace(old, new)


def write(path, data):
    """Put bytes or text at `path`, all or nothing. Makes missing folders. Raises UserError where it cannot."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path, "written"):
            if path.exists() and not path.is_file():  # /dev/null must not become a file
                raise OSError("not a file")
            path.parent.mkdir(parents=True, exist_ok=True)
            put(temporary, data)
            replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(*folders):
    """Raise UserError, before any work is done, where a folder cannot be made or written."""
    for folder in folders:
        with naming(folder, "written"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            probe = Path(folder) / f".{os.getpid()}.tmp"
            probe.touch()
            probe.unlink()


def read(path):
    """The bytes at `path`. Raises UserError where it cannot."""
    with naming(path, "read"):
        return Path(path).read_bytes()


def read_json(path, kind=dict):
    """The JSON at `path`, which must be a `kind`. Raises UserError for anything else."""
    try:
        content = json.loads(read(path).decode())
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        content = None
    if not isinstance(content, kind):
        raise UserError(f"{path}: damaged, not the JSON that the scripts write")
    return content


def as_json(content):
    """JSON text. Raises ValueError for NaN and infinities, which are no JSON."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
