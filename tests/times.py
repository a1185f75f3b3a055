"""Times the commands of README.md's table, one after another on an idle machine, and writes results/times.json.

    python tests/times.py

Not a test: nothing is asserted. The commands run as printed, in a copy of the repository that is thrown away, with the
images in data/. Prints the rows of the table.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    "python q3_vae_m1/train.py --labels 100",
    "python q3_vae_m1/train.py --labels 100 --classifier transductive",
    "python q4_wgan/generate.py --model wgan",
    "python q4_wgan/evaluate.py",
    "python theory/report.py",
)


def processor():
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def row(command, seconds):
    """A row of README.md's table."""
    return f"| `{command}` | {seconds:.0f} s |"


def main(commands=COMMANDS, out=ROOT / "results/times.json"):
    argparse.ArgumentParser(description=__doc__).parse_args()
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "data", "runs", "__pycache__"))
        if (ROOT / "data").exists():
            (copy / "data").symlink_to(ROOT / "data")
        for command in commands:
            began = time.perf_counter()
            subprocess.run([sys.executable, *command.split()[1:]], cwd=copy, check=True, capture_output=True)
            seconds[command] = round(time.perf_counter() - began, 1)
            print(row(command, seconds[command]), flush=True)
    content = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version(),
               "seconds": seconds}
    out.write_bytes((json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
