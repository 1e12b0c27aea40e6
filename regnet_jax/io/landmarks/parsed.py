"""The result of a parser of point files, and rows of numbers, which parsers share."""

import csv
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError

# Of points: mm towards left, posterior, superior as in ITK; mm towards right, anterior,
# superior as in 3D Slicer; voxel indices that count from 0; the same from 1.
COORDINATES = ("lps", "ras", "voxels", "voxels1")


@dataclass(frozen=True)
class Parsed:
    """The points of a file, as it holds them.

    Attributes:
        values: ``[n, d]`` float64, x first; or ``[n, 2 d]``, fixed and then moving.
        coordinates: one of ``COORDINATES``; None where the file does not say.
        names: of the points; empty if they have none.
        rewrite: returns the content of the file with other values ``[n, d]`` and
            everything else kept; None for a format that is only read.
        custom: where the file does not say the coordinates, and those that another
            program writes in such files are taken, its name for the notice.
        doubt: where the file does not say the coordinates, and nobody's are taken, the
            fact for the message.
        guess: the coordinates that are taken, with a warning, if all the values are
            whole numbers in the image.
        whole: whether the format holds whole numbers only.
    """

    values: np.ndarray
    coordinates: str | None
    names: tuple[str, ...] = ()
    rewrite: Callable[[np.ndarray], str | bytes] | None = None
    custom: str = ""
    doubt: str = ""
    guess: str | None = None
    whole: bool = False


Rows = list[tuple[int, list[str]]]

_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


def is_number(word: str) -> bool:
    """Tell whether a word can be read as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def has_decimal_comma(word: str) -> bool:
    """Tell whether a word is a number with a comma, such as 1,5."""
    return bool(_DECIMAL_COMMA.fullmatch(word))


def is_data(words: Iterable[str]) -> bool:
    """Tell whether the words of a line hold a number, as those of a header do not."""
    return any(is_number(word) or has_decimal_comma(word) for word in words)


def csv_words(path: Path, number: int, line: str, separator: str = ",") -> list[str]:
    """Return the words of a line of CSV; InputError if it is not one."""
    try:
        return next(csv.reader([line], delimiter=separator))
    except csv.Error as error:
        raise InputError(
            f"{path}: line {number} is no line of a table ({error}); correct it"
        ) from None


def numbers(
    path: Path, rows: Iterable[tuple[int, Sequence[str]]], counts: Collection[int]
) -> np.ndarray:
    """Return rows of words as numbers.

    Args:
        path: in messages.
        rows: the number of each line and its words.
        counts: how many numbers a row may have; all rows must have as many.

    Returns:
        ``[n, count]``; ``[0, 3]`` without rows.

    Raises:
        InputError: naming the first line that is not so.
    """
    values: list[list[float]] = []
    for number, words in rows:
        try:
            values.append([float(word) for word in words])
        except ValueError:
            if written := next(filter(has_decimal_comma, words), ""):
                raise InputError(
                    f"{path}: line {number} has a comma within a number ({written});"
                    f" write {written.replace(',', '.')}"
                ) from None
            raise InputError(
                f"{path}: line {number} is not all numbers; give one point on each line"
            ) from None
        wanted = (len(values[0]),) if len(values[0]) in counts else counts
        if len(words) not in wanted:
            needed = " or ".join(map(str, wanted))
            raise InputError(
                f"{path}: line {number} has {len(words)} numbers where {needed} are"
                " needed; give one point on each line"
            )
    return np.array(values) if values else np.empty((0, 3))


def shown_number(value: float) -> str:
    """Return a coordinate as text, to 1e-6, without zeros at its end."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
