"""Takes from a Linux Python what Windows lacks. Python imports this when it starts, where this folder is on PYTHONPATH.

`PRETEND=windows python -m pytest tests` (conftest.py) runs the tests and every process that they start so. It is no
Windows: paths, drives, open files that cannot be moved and the console are those of Linux.
"""

import builtins
import ctypes
import io
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing import popen_fork, popen_spawn_posix

import filelock  # noqa: F401  (before fcntl goes: on Windows it locks with msvcrt)


def wanting_encoding(real):
    """`open` for text in the locale's encoding, cp1252, with CRLF at the ends of lines."""
    def windows_open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *more, **others):
        if "b" not in mode and encoding in (None, "locale"):
            encoding = "cp1252"
        if "b" not in mode and newline is None and not mode.startswith("r"):
            newline = "\r\n"
        return real(file, mode, buffering, encoding, errors, newline, *more, **others)
    return windows_open


def no_libc(real):
    class WindowsDLL(real):
        def __init__(self, name, *more, **others):
            if name is None or str(name).startswith("libc."):
                raise OSError(f"{name}: no such library on Windows")
            super().__init__(name, *more, **others)
    return WindowsDLL


def take_away():
    for name in ("fork", "forkpty", "pread", "pwrite", "preadv", "pwritev", "killpg", "setsid", "setpgid", "getpgid",
                 "geteuid", "mkfifo", "fchmod", "sched_getaffinity", "posix_fadvise"):
        delattr(os, name)
    # Without sched_getaffinity joblib warns on Linux; on Windows it asks in another way.
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(os.cpu_count()))
    for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGQUIT"):
        delattr(signal, name)
    for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
        sys.modules[name] = None
    subprocess.Popen.kill = subprocess.Popen.terminate  # as on Windows; here, with SIGKILL gone, it would fail
    for module in (popen_fork, popen_spawn_posix):
        module.Popen.kill = module.Popen.terminate
    multiprocessing.context._concrete_contexts = {"spawn": multiprocessing.get_context("spawn")}
    multiprocessing.get_all_start_methods = multiprocessing.context.BaseContext.get_all_start_methods = lambda *_: ["spawn"]
    multiprocessing.set_start_method("spawn")
    ctypes.CDLL = no_libc(ctypes.CDLL)
    builtins.open = io.open = wanting_encoding(open)


if hasattr(os, "fork"):
    take_away()
