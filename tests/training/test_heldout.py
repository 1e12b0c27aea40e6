"""The one number by which the best checkpoint of a run is told."""

import math

from regnet_jax.training.heldout import overall


def test_families_where_nothing_moves_count_too():
    still = {"error_mm": 1.0, "zero_mm": 0.0, "ratio": math.inf}
    moving = {"error_mm": 3.0, "zero_mm": 8.0, "ratio": 0.375}
    assert overall({"zero": still, "low": moving}) == 0.5
    assert overall({"low": moving}) == 0.375
    assert overall({"zero": still}) == math.inf
