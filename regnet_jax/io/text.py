"""Text files from outside: their encoding, and the lines that count."""

import codecs
import re
from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.files import check_no_pipe

# The first line of a table of Excel, which names what separates its cells.
_OF_EXCEL = re.compile(r'\s*"?sep=[,;\t|]"?\s*', re.IGNORECASE)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(data: bytes) -> str:
    """Return the text in the bytes of a file.

    Args:
        data: in UTF-8, or in UTF-16 that begins with its mark, as spreadsheets and
            editors of Windows write it.

    Returns:
        The text, without a mark.

    Raises:
        UnicodeDecodeError: if it is neither.
    """
    if data.startswith(_UTF16):
        return data.decode("utf-16")
    if (place := data.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", data, place, place + 1, "no letter of a text")
    return data.decode("utf-8-sig")


def read_lines(path: Path, content: str) -> list[str]:
    """Read the lines of a text file that is a list.

    Args:
        path: of the file.
        content: the expected entries of the list, for the message.

    Returns:
        The lines, without their ends.

    Raises:
        InputError: if it is missing, or is not text.
    """
    if path.exists():
        check_no_pipe(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; name one that lists {content}")
    data = path.read_bytes()
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}: is not UTF-8 text, see line {number}; list {content}, and save"
            " it as UTF-8"
        ) from error
    # Other separators that Python knows can be letters of a name.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def is_comment(line: str) -> bool:
    """Tell whether a line of a list or table is a comment, or ``sep=;`` of Excel."""
    return line.lstrip().startswith("#") or bool(_OF_EXCEL.fullmatch(line))
