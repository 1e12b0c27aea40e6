"""Writing files: errors for the user, atomic files, staged folders, strict JSON."""

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar, cast

from regnet_jax.errors import InputError

T = TypeVar("T")

# A temporary name keeps this much of a name that may be as long as names can be.
_KEPT = 32
# More than writers of files hold back, bytes.
_BUFFERED = 1 << 15
# Descriptor 2 belongs to the process: two redirections at once would restore
# each other's copies.
_DESCRIPTOR = threading.Lock()

# Of pictures, also where a reader would give other values with a warning alone.
UNKNOWN_PIXELS = (
    "holds pixels of a kind that is not read here (transparent grey, 64 bits, colours"
    " in planes, turned, or of a rare compression); save it in grey or RGB"
)
# The reason in a message, and words in the output of ITK that stand for it.
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
    "holds several transforms, of which one alone would be read; save them as one"
    " composite transform": ("more than one transform in the file",),
    UNKNOWN_PIXELS: (
        "Falling back to suboptimal",
        "can not handle images with",
        "TIFF CODEC",
        "Unknown PixelType",
    ),
    "does not fit on the disk; free some space": (
        "File too large",
        "No space left",
        "only wrote",
        "wrote only",
    ),
}


def quietly(call: Callable[[], T], path, otherwise: str) -> T:
    """Run a call of ITK on a file silently, and turn its errors into InputError.

    Some calls only print an error and return, so printed output counts as an error too
    where it has words of ``_MEANINGS``. All other output is dropped.

    Args:
        call: a function without arguments.
        path: the file or folder that the message names.
        otherwise: the fact and the remedy for a failure that ITK does not explain.

    Returns:
        The result of the call.

    Raises:
        InputError: if the call failed.
    """
    result, failure = None, ""
    with _captured_stderr() as printed:
        try:
            result = call()
        except OSError as error:
            printed.append(str(error))
            failure = f"{error.strerror}: {otherwise}"
        except (RuntimeError, UnicodeDecodeError) as error:
            # UnicodeDecodeError where ITK quotes bytes of the file that are not text.
            printed.append(str(error))
            failure = otherwise
    text = "\n".join(printed)
    found = (m for m, words in _MEANINGS.items() if any(w in text for w in words))
    reason = next(found, failure)
    if reason:
        raise InputError(f"{path}: {reason}")
    return cast(T, result)


@contextlib.contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Redirect file descriptor 2; on exit the list holds what was printed to it."""
    lines: list[str] = []
    with _DESCRIPTOR, tempfile.TemporaryFile() as sink:
        # None where a program has no terminal.
        if sys.stderr is not None:
            sys.stderr.flush()
        terminal = None
        with contextlib.suppress(OSError):
            terminal = os.dup(2)
        if terminal is None:
            yield lines
            return
        os.dup2(sink.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            sink.seek(0)
            lines.extend(sink.read().decode(errors="replace").splitlines())


def check_no_pipe(path) -> None:
    """Raise InputError for a pipe or a device, which cannot be read several times.

    The opening of a pipe would also wait for the program that writes to it.

    Args:
        path: of a file or a folder that exists.
    """
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(
            f"{path}: is a pipe or a device, which can be read only once; save its"
            " content to a file"
        )


def text_of(path) -> str:
    """Return a path as text for SimpleITK, which aborts the process at invalid text.

    Args:
        path: any.

    Returns:
        The text.

    Raises:
        InputError: if the path is not UTF-8.
    """
    text = str(path)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{text!a}: its name is not UTF-8 text; rename it")
    return text


def check_capitals(path, suffixes: tuple[str, ...]) -> None:
    """Raise InputError if ``path`` has one of some suffixes in capitals.

    Args:
        path: of a file to be read.
        suffixes: those that ITK knows in small letters alone.
    """
    name = os.path.basename(path)
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in suffixes and suffix not in suffixes:
        raise InputError(
            f"{path}: has its suffix in capitals, by which ITK does not know it; rename"
            f" it to {stem}{suffix.lower()}"
        )


def check_suffix(path, suffixes: tuple[str, ...]) -> None:
    """Raise InputError unless ``path`` is a name that ends in one of ``suffixes``."""
    if os.path.basename(path) in suffixes:
        raise InputError(f"{path}: is a suffix without a name; write one before it")
    # ITK knows some of them in small letters alone.
    if not str(path).endswith(suffixes):
        raise InputError(
            f"{path}: has no suffix that can be written here; use"
            f" {', '.join(suffixes[:-1])} or {suffixes[-1]}"
        )


def check_output(path) -> None:
    """Raise InputError unless a file can be written at ``path``, before long work."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file for the result")
    _check_parent(path)
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: its folder may not be written; choose another")


def check_folder(path) -> None:
    """Raise InputError unless ``path`` can be a folder for results."""
    if path is not None and not isinstance(path, str | os.PathLike):
        raise InputError(
            f"the folder for the results is of type {type(path).__name__}; give a path"
        )
    text = text_of("" if path is None else path)
    if not text:
        raise InputError("the folder for the results has no name; give one")
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; give a folder for the results")
    if path.resolve() == Path(path.resolve().anchor):
        raise InputError(f"{path}: is the whole disk; give a folder for the results")


def check_not_read(results: Iterable[Path], sources: Iterable) -> None:
    """Raise InputError if a result would replace a file that it is made from.

    Args:
        results: paths of files to be written.
        sources: paths of files to be read; None and folders are passed over.
    """
    replaced = {_identity(result) for result in results if result.is_file()}
    for source in sources:
        if source is None or not os.path.isfile(source):
            continue
        if _identity(source) in replaced:
            raise InputError(
                f"{source}: is read, and a result would replace it; choose another"
                " --out"
            )


def _identity(path) -> tuple[int, int]:
    """Return the numbers that all paths of the same file share."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _check_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; create it")


def write_atomically(path, write: Callable[[str], object]) -> None:
    """Write a file beside ``path``, then move it into place.

    If anything fails, the temporary file is removed and ``path`` stays as it was.
    Windows refuses to replace a file that a program holds open.

    Args:
        path: of the file.
        write: writes the file of a name, which keeps the suffix of ``path``, by which
            ITK chooses the format.

    Raises:
        InputError: missing or unwritable folder, full disk.
    """
    path = Path(text_of(path))
    _check_parent(path)
    failure = "cannot be written; check that its folder may be written"
    # The suffix alone, as the library of NIfTI drops one of two: a.nii.gz.nii.gz.
    kept = 2 if path.name.lower().endswith(".nii.gz") else 1
    suffix = "".join(path.suffixes[-kept:])[-_KEPT:]
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}{suffix}")
    try:
        quietly(lambda: write(str(temporary)), path, failure)
        quietly(lambda: _check_room(temporary), path, failure)
        quietly(lambda: os.replace(temporary, path), path, failure)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _check_room(path: Path) -> None:
    """Raise OSError if the disk is full after a file has been written.

    ITK does not notice that the end of a compressed file was not written. The disk is
    still full then, and takes no more bytes than ITK keeps before it writes.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size)
        file.write(bytes(_BUFFERED))
        file.flush()
        file.truncate(size)


def write_text(path, text: str) -> None:
    """Write text in UTF-8, see ``write_atomically``."""
    write_atomically(path, lambda name: Path(name).write_text(text, "utf-8"))


@contextlib.contextmanager
def staged_folder(
    path, *, stale: Collection[str] = (), last: str = ""
) -> Iterator[Path]:
    """Yield a folder for results, and move them into place once all are written.

    Files in ``path`` are replaced by results of the same name and kept otherwise. If
    anything fails, ``path`` stays as it was, unless the system refuses to replace one
    of its files, as Windows does if a program holds it open: those before it, in the
    order of their names, are new then.

    Args:
        path: of the final folder; created with its parents if it is missing.
        stale: names of results that an earlier run may have written; those that are
            not written now are removed, as they do not belong to the new ones.
        last: name of a result that tells that all are there; it is replaced last.

    Yields:
        An empty folder beside it, or in it if it is another disk or its parent may not
        be written.

    Raises:
        InputError: if ``path`` is a file, or cannot be written.
    """
    check_folder(path)
    path = Path(text_of(path))
    parent = _stage_parent(path.resolve())
    stage = parent / f".{path.name[:_KEPT]}-{uuid.uuid4().hex[:8]}"
    try:
        # An interrupt may arrive as soon as the folder is there.
        try:
            stage.mkdir()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{path}: cannot be made ({reason}); choose another"
            ) from error
        yield stage
        outdated = [path / n for n in stale if not (stage / n).exists()]
        _move_files(stage, path, last)
        for file in outdated:
            file.unlink(missing_ok=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _stage_parent(path: Path) -> Path:
    parent = next(p for p in path.parents if p.exists())
    # Files cannot be moved from one disk to another at once.
    writable = os.access(parent, os.W_OK)
    if path.exists() and not (writable and _disk(path) == _disk(parent)):
        return path
    return parent


def _disk(path: Path) -> int:
    return path.stat().st_dev


def _move_files(stage: Path, path: Path, last: str) -> None:
    files = sorted(stage.iterdir(), key=lambda file: (file.name == last, file.name))
    for file in files:
        # Checked before the first file is replaced.
        if (path / file.name).is_dir():
            raise InputError(
                f"{path / file.name}: is a folder where a result is to be; remove it"
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
        for file in files:
            os.replace(file, path / file.name)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason})") from error


def strict_json(value, *, indent: int | None = None) -> str:
    """Return a value as JSON, with null for every number that is not finite.

    JSON lacks NaN and infinity, and strict readers refuse the words that Python writes.

    Args:
        value: nested dictionaries, lists and tuples of the types of JSON.
        indent: spaces of each level; None for a single line.

    Returns:
        The text.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_json(path, value) -> None:
    """Write a value as JSON, atomically, with null for numbers that are not finite.

    Args:
        path: of the file.
        value: as for ``strict_json``.

    Raises:
        InputError: missing or unwritable folder, full disk.
    """
    write_text(path, strict_json(value, indent=2) + "\n")


def _finite(value):
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
