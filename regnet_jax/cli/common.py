"""The common setup of all commands: flags, one-line errors, exit status, caches."""

import contextlib
import io
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

# Keeps XLA from logging its own tuning flags as missing CPU features on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
from absl import app, flags, logging

from regnet_jax.errors import DivergenceError, InputError

_BAD_INPUT = 2
_DIVERGED = 3
_INTERRUPTED = 130
_TERMINATED = 143
_PIPE_CLOSED = 141
# What is wrong with flags, and the words of absl that say so.
_VALUE = r"--(\w+)=(.*): "
_MEANINGS = {
    "--%s: is missing; give it": r"Flag --(\w+) must have a value",
    "--%s: has no value; give one": r"Missing value for flag --(\w+)",
    "--%s: takes no value; leave the value out": r"--(\w+)=.* does not take an arg",
    "--%s: is no flag; perhaps it is --%s": r"line flag '(.*)'. Did you mean: (\w+)",
    "--%s: is no flag; correct its name": r"line flag '(.*)'",
    "--%s %s: is no whole number; give one": _VALUE + "invalid literal for int",
    "--%s %s: is no number; give one": _VALUE + "could not convert string",
    "--%s %s: is neither true nor false; give one of them": _VALUE + ".*Non-boolean",
    "--%s %s: is unknown; give one of %s": _VALUE + "value should be one of <(.*)>",
    "--%s %s: is %s; give another": _VALUE + r"\S+ is (.*)",
}
# Where Linux describes a process.
_STATUS = Path("/proc/self/status")


def run(main: Callable[[], None]) -> None:
    """Run a command: parse the flags, then call ``main``.

    Invalid flags, ``InputError`` and file system errors print one line on standard
    error and end with exit status 2, a training that diverges with 3, an interrupt with
    130, a closed standard output with 141, SIGTERM with 143. Compiled programs are kept
    in the user's cache folder, so that only the first run waits for the compiler.

    Args:
        main: the command without arguments; it reads its own flags.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding lacks (Windows) is escaped, not an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    # --help shows the module that defines ``main``, whichever file was started.
    module = sys.modules[main.__module__]
    if module is not (started := sys.modules["__main__"]):
        started.__doc__ = module.__doc__
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(lambda _: _guarded(main), flags_parser=_parse_flags)


def cache_folder() -> Path:
    """Return the folder of compiled programs and resampled scans, kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "regnet_jax"


def _parse_flags(arguments):
    try:
        asked = ["--help" if word == "-h" else word for word in arguments]
        rest = flags.FLAGS(_repeat_flags(asked))
        if len(rest) > 1:
            _refuse_word(rest[1])
    except BrokenPipeError:
        # The help was piped to a program that has seen enough of it.
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        sys.exit(0)
    except SystemExit:
        # absl ends with status 1 after its help.
        sys.exit(0)
    # absl raises ValueError for --noNAME=VALUE.
    except (flags.Error, ValueError) as error:
        _fail(f"{_meaning(str(error).splitlines()[0])} (see --help)", _BAD_INPUT)
    return rest


def _meaning(text: str) -> str:
    """Return what absl says of flags in the words of the other messages."""
    for message, pattern in _MEANINGS.items():
        if found := re.search(pattern, text):
            return message % tuple(g.replace("|", ", ") for g in found.groups())
    return text


def _repeat_flags(arguments: list[str]) -> list[str]:
    """Write ``--many A B`` as ``--many A --many=B``, for flags of several values.

    Args:
        arguments: the name of the program and its words.

    Returns:
        The words for absl.

    Raises:
        InputError: if a word follows no flag, which absl would say last; or if a value
            is empty, as where a script has not set a variable.
    """
    result, given, many, awaits_value = arguments[:1], "", False, False
    for word in arguments[1:]:
        value = word
        if word.startswith("-") and not awaits_value:
            given, has_value, value = word.partition("=")
            name = given.lstrip("-")
            is_switch = name.removeprefix("no") in flags.FLAGS
            if name and name not in flags.FLAGS and not is_switch:
                return arguments  # absl names the unknown flag.
            many = False
            if name in flags.FLAGS:
                flag = flags.FLAGS[name]
                many, is_switch = isinstance(flag, flags.MultiFlag), flag.boolean
            awaits_value = not (has_value or is_switch)
            value = value if has_value else word
        elif awaits_value:
            awaits_value = False
        elif many:
            word = f"{given}={word}"
        else:
            _refuse_word(word)
        if not value:
            raise InputError(f"{given}: is empty; give a value or leave it out")
        result.append(word)
    return result


def _refuse_word(word: str):
    first, *_ = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    raise InputError(
        f"{word!r}: follows no flag; write the flag of each value before it, as in"
        f" --{first.name} VALUE, and quotes around a name with spaces"
    )


def _guarded(main):
    # Silences Orbax, which logs every step of every save.
    logging.set_verbosity(logging.WARNING)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    # Cache small programs too: there are many, and together they take a second.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # Harmless: without a cache, or with a damaged one, programs are compiled again.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation")
    # Batch systems send SIGTERM at the time limit; remove half-written files then.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except InputError as error:
        _fail(str(error), _BAD_INPUT)
    except DivergenceError as error:
        _fail(str(error), _DIVERGED)
    except BrokenPipeError:
        # Standard output was piped to a program that has seen enough of it.
        _leave(_PIPE_CLOSED, "")
    except OSError as error:
        fact = f"{error.filename}: {error.strerror}" if error.filename else error
        _fail(f"{fact}; check the path and whether it may be written", _BAD_INPUT)
    except KeyboardInterrupt:
        _leave(_INTERRUPTED)
    except _Terminated:
        _leave(_TERMINATED)


class _Terminated(BaseException):
    """Raised by SIGTERM."""


def _terminate(*_):
    raise _Terminated


def _leave(status: int, line: str = "error: interrupted"):
    """End the process at once; half-written files have been removed by now.

    A normal exit would wait for XLA's threads, or let them run into a finalised
    interpreter.
    """
    with contextlib.suppress(OSError):
        if line:
            print(line, file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
    os._exit(status)


def _fail(message: str, status: int):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def peak_gib() -> float:
    """Return the peak memory of this process so far, GiB; NaN on Windows."""
    if _STATUS.exists():
        # Unlike the result of getrusage, this does not include the memory of the
        # process that started this one.
        lines = _STATUS.read_text("utf-8", errors="replace").splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return int(values["VmHWM"].split()[0]) / 2**20
    try:
        import resource
    except ImportError:
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
