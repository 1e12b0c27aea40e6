"""The one number by which the best checkpoint of a run is chosen."""

import math

from regnet_jax.training.heldout import overall_ratio


def test_overall_ratio_counts_families_where_nothing_moves():
    still = {"error_mm": 1.0, "zero_mm": 0.0, "ratio": math.inf}
    moving = {"error_mm": 3.0, "zero_mm": 8.0, "ratio": 0.375}
    assert overall_ratio({"zero": still, "low": moving}) == 0.5
    assert overall_ratio({"low": moving}) == 0.375
    assert overall_ratio({"zero": still}) == math.inf
