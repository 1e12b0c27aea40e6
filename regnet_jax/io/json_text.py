"""JSON that every reader takes."""

import json
import math
from collections.abc import Mapping


def strict_json(value, *, indent: int | None = None) -> str:
    """Return a value as JSON, with null for every number that is not finite.

    JSON has no word for NaN and infinity, and strict readers refuse those of Python.

    Args:
        value: nested dictionaries, lists and tuples of what JSON knows.
        indent: spaces of each level; None for a single line.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
