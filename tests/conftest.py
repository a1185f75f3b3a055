"""Fixtures that several test files share."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: tests run side by side, one core each

from q4_world import trained, world  # noqa: E402, F401
