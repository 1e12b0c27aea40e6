"""Calling SimpleITK so that a person sees one line, or none.

ITK and the libraries below it print on file descriptor 2 by themselves, throw
exceptions of many lines, and for several formats print a complaint and carry
on with garbage. So everything that touches a file goes through here: what is
printed is kept from the terminal and read for signs of trouble.
"""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from regnet_jax.errors import InputError

T = TypeVar("T")

# Descriptor 2 belongs to the process: two redirections at once would restore
# each other's copies.
_DESCRIPTOR = threading.Lock()

# What a person is told, and the words in what ITK says that mean it.
_MEANINGS = {
    "has a zero or unreadable spacing; correct its header": ("Zero-valued spacing",),
    "has a direction matrix that is singular or not orthonormal; correct its header"
    " or resample it to an orthogonal grid": ("determinant is 0", "orthonormal"),
    "is truncated; copy or export it again": (
        "not read completely",
        "Can not read TIFF",
        "Failed to read directory",
        "fread got only",
        "but received",
        "has been truncated",
    ),
    "names a data file that is missing; copy that too": ("Cannot open data file",),
    "does not fit on the disk; free some space": (
        "File too large",
        "No space left",
        "only wrote",
        "wrote only",
    ),
}


def quietly(call: Callable[[], T], path, otherwise: str) -> T:
    """Run a call of ITK on a file; a sign of trouble becomes an InputError.

    Some calls only print and return, so what is printed counts too.

    Args:
        call: takes nothing; its result is returned.
        path: the file or folder that the message names.
        otherwise: what the message says of a failure without explanation.
    """
    result, failure = None, ""
    with _captured_stderr() as printed:
        try:
            result = call()
        except OSError as error:
            printed.append(str(error))
            failure = f"{error.strerror}: {otherwise}"
        except (RuntimeError, UnicodeDecodeError) as error:
            # The latter where ITK quotes bytes of the file that are no text.
            printed.append(str(error))
            failure = otherwise
    text = "\n".join(printed)
    found = (m for m, words in _MEANINGS.items() if any(w in text for w in words))
    reason = next(found, failure)
    if reason:
        raise InputError(f"{path}: {reason}")
    return result


def text_of(path) -> str:
    """A path as SimpleITK can take it; it aborts the process at others.

    Raises:
        InputError: if the path is not UTF-8.
    """
    text = str(path)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{text!a}: its name is not UTF-8 text; rename it")
    return text


@contextlib.contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Keep file descriptor 2 quiet; on exit the list holds what was printed."""
    lines: list[str] = []
    with _DESCRIPTOR, tempfile.TemporaryFile() as sink:
        sys.stderr.flush()
        terminal = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            sink.seek(0)
            lines.extend(sink.read().decode(errors="replace").splitlines())
