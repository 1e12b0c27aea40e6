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

_EXPLANATIONS = {
    "Zero-valued spacing": "has a zero or unreadable spacing; correct its header",
    "determinant is 0": "has a singular direction matrix; correct its header",
    "orthonormal": (
        "has a direction matrix that is sheared or singular; resample it to an"
        " orthogonal grid or correct its header"
    ),
    "not read completely": "is truncated; copy or export it again",
    "Premature end": "is truncated; copy or export it again",
    "Can not read TIFF": "is truncated; copy or export it again",
    "Failed to read directory": "is truncated; copy or export it again",
    "fread got only": "is truncated; copy or export it again",
    "but received": "is truncated; copy or export it again",
    "has been truncated": "is truncated; copy or export it again",
    "Cannot open data file": "names a data file that is missing; copy that too",
    "File too large": "does not fit on the disk; free some space",
    "wrote only": "does not fit on the disk; free some space",
    "No space left": "does not fit on the disk; free some space",
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
            failure = f"{error.strerror}: {otherwise}"
        except RuntimeError as error:
            printed.append(str(error))
            failure = otherwise
    signs = "\n".join(printed)
    found = (line for sign, line in _EXPLANATIONS.items() if sign in signs)
    reason = next(found, failure)
    if reason:
        raise InputError(f"{path}: {reason}")
    return result


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
