"""Files that list images."""

from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.io.dicom import split_series


def read_manifest(path) -> list[Path]:
    """The images that a text file names, a path a line.

    Args:
        path: of the file, UTF-8. Relative paths in it start from its folder, ``~/``
            from the home folder. Empty lines and those that begin with ``#`` are left
            out; a name that begins so is written ``./#name``, and one that begins or
            ends with spaces stands in double quotes.

    Returns:
        Paths of existing files or folders; ``FOLDER::SERIES`` as in ``read_image``.

    Raises:
        InputError: if the file or an image is missing, or none is named.
    """
    path = Path(path)
    lines = read_lines(path, "images, a path a line")
    lines = [line.strip() for line in lines if not is_comment(line)]
    images = [listed_path(path, line) for line in lines if line]
    if not images:
        raise InputError(f"{path}: names no image; list them, a path a line")
    for image in images:
        try:
            split_series(image)
        except InputError as error:
            raise InputError(
                f"{path}: {image} does not exist; correct the line (a comment has a"
                " line of its own)"
            ) from error
    return images


def read_lines(path: Path, content: str) -> list[str]:
    """The lines of a text file that lists something.

    Args:
        path: of the file.
        content: what it should list, for the message.

    Raises:
        InputError: if it is missing, or is not UTF-8.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name one that lists {content}")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}: is no text in UTF-8, line {number} is not; list {content}, and"
            " save it as UTF-8"
        ) from error
    # Other separators that Python knows can be letters of a name.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def is_comment(line: str) -> bool:
    """Whether a line of a list is a remark, and names nothing."""
    return line.lstrip().startswith("#")


def listed_path(path: Path, name: str) -> Path:
    """The path that a name in a list means, seen from the folder of the list."""
    if len(name) > 2 and name[0] == name[-1] == '"':
        name = name[1:-1]
    return path.parent / (Path(name).expanduser() if name[:2] == "~/" else name)
