"""Runs command lines, each in a process of its own that need not import JAX anew.

Run as a program this is a server: it imports what the binaries import, then forks
for every line on standard input. The fork has its own descriptors, flags and exit
status, as ``python -m`` would have them.
"""

import contextlib
import gc
import importlib
import json
import os
import re
import resource
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Seconds, on a busy machine; a command that is still at work then is stuck.
_PATIENCE = 240
# The server ends stuck commands itself; so much later it is stuck, too.
_GRACE = 30


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def errors(self):
        """The lines of standard error but for progress bars."""
        lines = self.err.splitlines()
        return [line for line in lines if line and not re.search(r"\d+%\|", line)]


class Server:
    """Runs binaries with the rules of the tests for numerics."""

    def __init__(self, cache):
        self._environment = environment(cache)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.commands"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self._environment,
        )

    def __call__(self, module, *arguments, largest=None):
        """Run ``python -m experiments.MODULE`` in a fork.

        No file gets ``largest`` bytes.
        """
        command = [largest, f"experiments.{module}", *map(str, arguments)]
        try:
            return Result(*self._answer(json.dumps(command)))
        except BaseException:
            # Whoever asks next must not get the answer to this.
            self._process.kill()
            raise

    def _answer(self, line):
        ask, answer = self._process.stdin, self._process.stdout
        try:
            ask.write(line + "\n")
            ask.flush()
            if not select.select([answer], [], [], _PATIENCE + _GRACE)[0]:
                raise TimeoutError("the server of commands does not answer")
            if text := answer.readline():
                return json.loads(text)
        except BrokenPipeError:
            pass
        status = self._process.wait()
        raise RuntimeError(f"the server of commands ended with status {status}")

    def start(self, module, *arguments, meanwhile=None):
        """Run the same as a user does, who may do something to the process."""
        rules = self._environment
        if meanwhile:
            # A signal may come after a file was opened and before it is in a `with`.
            warnings = rules["PYTHONWARNINGS"] + ",ignore::ResourceWarning"
            rules = rules | {"PYTHONWARNINGS": warnings}
        process = subprocess.Popen(
            [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=rules,
        )
        if meanwhile:
            meanwhile(process)
        try:
            out, err = process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
        return Result(process.returncode, out, err)

    def close(self):
        # Also where the pipe is broken already.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """``command(binary, *arguments)`` and ``command.start``, the slow real thing."""
    server = Server(tmp_path_factory.mktemp("cache"))
    yield server
    server.close()


def environment(cache):
    """A cache of compiled programs of its own, strict numerics; XLA flags as here."""
    # JAX sets this when it is imported, to another value than the binaries.
    ours = "TF_CPP_MIN_LOG_LEVEL"
    result = {k: v for k, v in os.environ.items() if k != ours}
    usual = Path(result.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    # Matplotlib lists the fonts of the machine when its cache is new: seconds.
    result.setdefault("MPLCONFIGDIR", str(usual / "matplotlib"))
    return result | {
        "XDG_CACHE_HOME": str(cache),
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_PLATFORMS": "cpu",
        "MPLBACKEND": "Agg",
        "PYTHONWARNINGS": "default",
    }


def _run(largest, module, *arguments):
    """Run a binary and end this process as the binary ends."""
    signal.alarm(_PATIENCE)
    status = 0
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _fork(command):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _run(*command)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return status, *texts


def _serve():
    sys.path[0] = str(ROOT)
    # Sets what has to be set before JAX is imported.
    for name in (
        "regnet_jax.cli.common",
        "regnet_jax.registration.files",
        "regnet_jax.training.loop",
    ):
        importlib.import_module(name)
    # As in the process of the tests; and what is imported by now stays.
    gc.set_threshold(100_000)
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
