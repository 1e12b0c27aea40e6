"""Runs the command ``regnet`` without the parts of Python that Windows lacks.

Run as a program, this imports every module of the library, then runs ``regnet`` with
its own arguments. Libraries that were built for Linux ask for such parts themselves;
what they need is loaded before these are removed.
"""

import importlib
import os
import runpy
import shutil  # noqa: F401
import signal
import sys
from pathlib import Path

import numpy  # noqa: F401

# https://docs.python.org/3/library: "Availability: Unix".
MODULES = (
    *("curses", "fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog"),
    # The last is of orbax-checkpoint, which asks for it on other systems alone.
    *("termios", "tty", "uvloop"),
)
OF_OS = (
    *("chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg"),
    *("getpgid", "getpriority", "getuid", "killpg", "mkfifo", "nice", "posix_spawn"),
    *("pread", "pwrite", "register_at_fork", "sched_getaffinity", "setsid", "sync"),
    *("sysconf", "uname", "wait3", "wait4"),
)
OF_SIGNAL = (
    *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1"),
    *("SIGUSR2", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer"),
    *("siginterrupt", "sigwait"),
)


def remove() -> None:
    """Remove what Windows lacks from this process."""
    for name in MODULES:
        sys.modules[name] = None
    for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
        for name in names:
            vars(module).pop(name, None)


def import_library() -> None:
    """Import every module of the library but the commands, whose flags are alike."""
    root = Path(__file__).resolve().parents[2]
    for path in sorted(root.glob("regnet_jax/**/*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if "cli" not in parts:
            importlib.import_module(".".join(parts).removesuffix(".__init__"))


if __name__ == "__main__":
    remove()
    import_library()
    sys.argv[0] = "regnet"
    runpy.run_module("regnet_jax.cli.main", run_name="__main__", alter_sys=True)
