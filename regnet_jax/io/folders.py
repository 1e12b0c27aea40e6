"""Folders of results that appear whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.io.native import text_of

# Of a name that may be as long as names can be.
_KEPT = 32


@contextmanager
def staged_folder(path) -> Iterator[Path]:
    """A folder to write results into, moved into place once all are there.

    Files that ``path`` holds already are replaced if a result has their name and
    are kept if not. If anything goes wrong ``path`` stays as it was.

    Args:
        path: where the results are to be; made with its parents if need be.

    Yields:
        A folder beside it, empty.

    Raises:
        InputError: if ``path`` is a file, or cannot be written.
    """
    path = Path(text_of(path))
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; give a folder for the results")
    parent = next(p for p in path.resolve().parents if p.exists())
    stage = parent / f".{path.name[:_KEPT]}-{uuid.uuid4().hex[:8]}"
    try:
        stage.mkdir()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path}: cannot be made ({reason}); choose another"
        ) from error
    try:
        yield stage
        _move_files(stage, path)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _move_files(stage: Path, path: Path) -> None:
    for file in sorted(stage.iterdir()):
        # Known before the first file is replaced.
        if (path / file.name).is_dir():
            raise InputError(
                f"{path / file.name}: is a folder where a result is to be; remove it"
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
        for file in sorted(stage.iterdir()):
            os.replace(file, path / file.name)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason})") from error
