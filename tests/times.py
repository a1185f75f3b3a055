"""Times the commands that README.md names, one after another on an idle machine, and writes results/times.json.

    python tests/times.py

Not a test: nothing is asserted. Every command runs in a process of its own, with the images in data/.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    "q3_vae_m1/train.py --labels 100",
    "q3_vae_m1/train.py --labels 100 --classifier transductive",
    "q3_vae_m1/test.py --labels 100",
    "q4_wgan/generate.py --model wgan",
    "q4_wgan/generate.py --model wgan --label sneaker --seeds 0-7",
    "q4_wgan/evaluate.py",
    "theory/q1_distances.py",
    "theory/report.py",
)


def processor():
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def main():
    seconds = {}
    with tempfile.TemporaryDirectory() as scratch:
        for command in COMMANDS:
            where = ["--out", f"{scratch}/report.pdf"] if "report" in command else ["--results-dir", scratch]
            where = [] if "train.py" in command or "test.py" in command else where
            began = time.perf_counter()
            subprocess.run([sys.executable, *command.split(), *where], cwd=ROOT, check=True, capture_output=True)
            seconds[command] = round(time.perf_counter() - began, 1)
            print(f"{seconds[command]:6.1f} s  python {command}", flush=True)
    content = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version(),
               "seconds": seconds}
    (ROOT / "results/times.json").write_bytes((json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
