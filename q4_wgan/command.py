"""How every script of this repository takes its command line, ends, and writes a file.

The same bytes stand in q3_vae_m1/, q4_wgan/ and theory/ (a test compares them), so that each folder is complete in
itself. What a user can mend is raised as `UserError`, or is an OSError, and ends as one line with exit status 2.
"""

import argparse
import json
import math
import os
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """Something that the user gave, or this machine, is wrong. The message is one line that says what and where."""


# ---- the command line ----------------------------------------------------------------------------

class Parser(argparse.ArgumentParser):
    """argparse with the examples kept as written, no abbreviated options, and errors of one line."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        raise UserError(f"{message} (see --help)")


def number(kind, low, high=math.inf):
    """argparse type: an int or a finite float from `low` to `high`."""
    def parse(text):
        try:
            value = kind(text)
            if math.isfinite(value) and low <= value <= high:
                return value
        except (ValueError, OverflowError):
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number from {low} to {high}")
    return parse


positive = number(int, 1, 10**9)
seed = number(int, 0, 2**32 - 1)  # torch takes seeds modulo 2^32: more would be two names for the same numbers


def path(text):
    """argparse type: a path, with ~ for the home folder, as in --out=~/x.png, where the shell leaves it."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text).expanduser()


def name(text):
    """argparse type: the name of a run or a data set, which becomes part of file names."""
    if not re.fullmatch(r"\w[\w.-]{0,80}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: letters, digits, '_', '-' and '.' only")
    return text


def add_folders(parser, data=True):
    """Add --results-dir and, where the script reads images, --data-dir."""
    add = parser.add_argument
    if data:
        add("--data-dir", type=path, default=ROOT / "data", metavar="DIR",
            help="folder of the images, in torchvision's layout (default: data/ of the repository)")
    add("--results-dir", type=path, default=ROOT / "results", metavar="DIR",
        help="whose folder runs/ takes what is written (default: results/ of the repository)")


def shown(path):
    """A path as a user types it: relative to the folder at hand where that is shorter."""
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def typed(path):
    """`shown`, as a word of a command line of any shell."""
    text = shown(path).as_posix()
    return f'"{text}"' if " " in text else text


def run_main(main):
    """Run a script's `main` and exit with its status; a user's error is one line and 2, Ctrl-C one line and 130."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal of few letters does not end the work
    status, message = 2, None
    try:
        status = main() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UserError, OSError) as error:
        message = f"error: {error}"
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        message = "error: out of memory"
    except KeyboardInterrupt as error:
        status, message = 130, str(error) or "interrupted"
    if message:
        print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


# ---- files ---------------------------------------------------------------------------------------

def write(path, data, sync=True):
    """Put bytes or text at `path`, all or nothing: a kill leaves the old file or the new one, never half of one.

    sync: wait for the disk, so that a power cut does the same; pictures need not.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    for wait in (0.1, 0.3, 0.6, None):
        try:
            return os.replace(temporary, path)
        except PermissionError:  # Windows, while a reader or a virus scanner has the file open
            if wait is None:
                raise
            time.sleep(wait)


def as_json(content):
    """JSON text. Raises ValueError for NaN and infinities, which are no JSON."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def read_json(path):
    """The object in a JSON file. Raises UserError for anything else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged, not the JSON that the scripts write")
    return content
