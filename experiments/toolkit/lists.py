"""A list of pairs, looked at as a whole before the work on the first one begins."""

from collections.abc import Sequence

from regnet_jax.errors import InputError
from regnet_jax.io import Pair, check_files

# Problems that are told; the others are counted.
_TOLD = 10


def check_pairs(path, pairs: Sequence[Pair], dimensions: int | None = None) -> None:
    """Refuses a list with pairs that cannot be used, as far as headers tell.

    Args:
        path: of the list.
        pairs: those of the list that are to be worked on.
        dimensions: that all images must have; None for any.

    Raises:
        InputError: names every such pair, and what is wrong with it.
    """
    found = {pair.name: check_files(pair, dimensions) for pair in pairs}
    lines = [f"{name}: {line}" for name, each in found.items() for line in each]
    if lines:
        more = f"; and {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
        raise InputError(
            f"{path}: {sum(map(bool, found.values()))} of {len(pairs)} pairs cannot be"
            f" used, so nothing was begun; correct the list ({'; '.join(lines[:_TOLD])}"
            f"{more})"
        )
