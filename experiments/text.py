"""Numbers and tables as text; no command, but used by those that print tables."""

import math
from collections.abc import Sequence


def mean_and_sd(mean: float, sd: float, digits: int = 2, *, sign: str = "") -> str:
    """Return a mean with its deviation.

    Args:
        mean: the mean.
        sd: its sample standard deviation; NaN where there is none.
        digits: after the point.
        sign: ``+`` for differences.

    Returns:
        Such as ``1.20 ± 0.31``; the mean alone without a deviation, and nothing for a
        mean that is not finite.
    """
    if not math.isfinite(mean):
        return ""
    text = f"{mean:{sign}.{digits}f}"
    return text if math.isnan(sd) else f"{text} ± {sd:.{digits}f}"


def interval(ends: Sequence[float], digits: int = 2, *, sign: str = "") -> str:
    """Return an interval, such as ``[1.05, 1.42]``."""
    return f"[{', '.join(f'{end:{sign}.{digits}f}' for end in ends)}]"


def _padded(rows: Sequence[Sequence[str]], left: int) -> list[list[str]]:
    """Return rows whose columns have one width, the first so many flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, its columns aligned in the text as well."""
    head, *body = _padded([head, *body], 1)
    ruler = ["-" * len(head[0]), *("-" * (len(cell) - 1) + ":" for cell in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *body))


def plain(head: Sequence[str], body: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a table for the terminal.

    Args:
        head: names of the columns.
        body: cells of each row.
        left: number of columns of text, flush left.

    Returns:
        Lines without the last break.
    """
    return "\n".join("  ".join(r).rstrip() for r in _padded([head, *body], left))
