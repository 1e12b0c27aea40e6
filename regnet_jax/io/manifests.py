"""Files that list images."""

from pathlib import Path

from regnet_jax.errors import InputError


def read_manifest(path) -> list[Path]:
    """The images that a text file names, a path a line.

    Args:
        path: of the file. Relative paths in it start from its folder; empty lines
            and what follows a ``#`` are left out.

    Returns:
        Paths of existing files or folders.

    Raises:
        InputError: if the file or an image is missing, or none is named.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; name one that lists images")
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text; list images, a path a line") from error
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    images = [path.parent / name for name in names]
    if not images:
        raise InputError(f"{path}: names no image; list them, a path a line")
    for image in images:
        if not image.exists():
            raise InputError(f"{path}: {image} does not exist; correct the line")
    return images
