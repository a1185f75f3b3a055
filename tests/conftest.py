"""What every test starts with."""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: tests run side by side, one core each
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository: its rooms are packages
