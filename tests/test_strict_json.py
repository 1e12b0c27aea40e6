"""Numbers that JSON lacks."""

import json

import numpy as np
import pytest

from regnet_jax.files import strict_json


def test_what_is_not_finite_is_null():
    nan, inf = float("nan"), float("inf")
    given = {"a": nan, "b": [1.5, inf, (-inf, {"c": np.float64(nan)})], "d": "nan"}

    def refuse(word):
        raise AssertionError(word)

    got = json.loads(strict_json(given), parse_constant=refuse)
    assert got == {"a": None, "b": [1.5, None, [None, {"c": None}]], "d": "nan"}


@pytest.mark.parametrize("indent", [None, 2])
def test_all_else_stays(indent):
    given = {"a": [1, 2.5, None, True], "b": {"c": "text"}}
    assert strict_json(given, indent=indent) == json.dumps(given, indent=indent)
