"""What every test starts with."""

import os
import runpy
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: tests run side by side, one core each
sys.path.insert(0, str(TESTS.parent))  # the repository: its rooms are packages

if os.environ.get("PRETEND") == "windows" and sys.platform != "win32":  # here, and in every process that tests start
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TESTS / "pretend"), os.environ.get("PYTHONPATH"))))
    runpy.run_path(str(TESTS / "pretend" / "sitecustomize.py"))
