"""Devices, torch files, the options of a run, and records of runs.

The same bytes stand in q3_vae_m1/ and q4_wgan/ (a test compares them), so that each folder is complete in itself.
"""

import contextlib
import functools
import io
import json
import subprocess
import time
from pathlib import Path

import torch

from .command import ROOT, UserError, as_json, read_json, shown, write

# ---- devices -------------------------------------------------------------------------------------

def add_device(parser, precision=True):
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto",
                        help="where to compute (default: CUDA if it is here, else the CPU)")
    if precision:
        parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto",
                            help="of the training's products (default: what this processor is quicker in)")


def pick_device(wanted="auto"):
    """torch.device for --device. Raises UserError."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if here["cuda"] else "cpu"
    if not here[wanted]:
        raise UserError(f"--device {wanted}: torch sees no such device here")
    torch.backends.cudnn.deterministic = True  # the same seed gives the same bits
    return torch.device(wanted)


def pick_precision(wanted, device):
    """'bfloat16' or 'float32' for --precision and a torch.device. 'auto': what it is quicker in, measured once."""
    if wanted != "auto":
        return wanted
    # With CUDA float32, which was quicker on an H200: results/q4/benchmark_h200.json.
    checks = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    # Without the instructions bfloat16 is thirty times slower; some processors have them and are slower all the same.
    quick = device.type == "cpu" and any(check() for check in checks) and bfloat16_is_quick()
    return "bfloat16" if quick else "float32"


@functools.cache
def bfloat16_is_quick():
    """Whether this processor multiplies matrices of bfloat16 in under 0.8 of the time of float32."""
    def seconds(matrix):
        began = time.perf_counter()
        matrix @ matrix
        return time.perf_counter() - began

    low, high = torch.ones(512, 512, dtype=torch.bfloat16), torch.ones(512, 512, dtype=torch.float32)
    times = [(seconds(low), seconds(high)) for _ in range(25)]  # in turns: other work meets both
    return min(pair[0] for pair in times) < 0.8 * min(pair[1] for pair in times)


@contextlib.contextmanager
def own_session():
    """Torch's defaults for what is called from Python, whatever the caller has set; his random state stays as it is."""
    dtype = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float32)
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(dtype)


# ---- the options of a run ------------------------------------------------------------------------

def open_run(folder, options, args):
    """Begin or go on with a run: write `options` to options.json, or return those that are there.

    args: with the --device and --precision asked for, in which 'auto' takes what is recorded. Raises UserError that
    names the first option in which a run that is there differs.
    """
    path = folder / "options.json"
    if not path.exists():
        device = pick_device(args.device)
        options = {**options, "precision": pick_precision(args.precision, device), "device": device.type,
                   "threads": torch.get_num_threads(), "torch": str(torch.__version__), "commit": commit()}
        write(path, as_json(options))
        return options
    there = read_json(path)
    asked = {**options, "device": args.device, "precision": args.precision}
    for key, value in asked.items():
        if value not in ("auto", there.get(key)):
            raise UserError(f"{shown(folder)}: the run there has {key.replace('_', '-')} {there.get(key)}, not "
                            f"{value}; give another --name, or move that folder away")
    torch.set_num_threads(there.get("threads", 1))  # sums depend on how they are split
    return there


# ---- torch files ---------------------------------------------------------------------------------

def as_torch(content):
    """The bytes of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_torch(path, *keys):
    """The plain dict that a file holds, which must have `keys`. Nothing in it is executed. Raises UserError."""
    data = Path(path).read_bytes()
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not keys or content.keys() >= set(keys):
            return content
    except Exception:  # torch.load raises many types for a file of another kind
        pass
    raise UserError(f"{path}: damaged, or not a file that these scripts write")


def load_state(network, state, path):
    """`network.load_state_dict(state)`. Raises UserError where they do not fit."""
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        raise UserError(f"{path}: its tensors do not fit the network it names") from None


@functools.cache
def commit():
    """The git commit of this repository, with '+' where tracked files differ from it; 'unknown' without git."""
    words = ["git", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}",  # not a surrounding repository, nor $GIT_DIR's
             "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


# ---- records: a line of JSON for every run -------------------------------------------------------

def append_line(path, entry):
    """Add `entry`, with the time, as a line of JSON; returns that."""
    entry = {**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):  # a line that a kill cut short
            file.write(b"\n")
        file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
    return entry


def read_lines(path):
    """The entries that `append_line` wrote. A line cut short by a kill is passed over."""
    entries = []
    for line in Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else ():
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries
