"""Errors on held-out pairs, worked out by hand, and the one number of a run."""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
import pytest

from regnet_jax.synthesis.patches import PatchBatch
from regnet_jax.training.heldout import make_evaluation, overall_ratio
from tests.helpers.tiny import TARGETS


class Constant(nn.Module):
    """Predicts 3 voxels along the first axis everywhere."""

    @nn.compact
    def __call__(self, fixed, moving, *, train: bool):
        shape = fixed[(slice(None), *TARGETS.slices(fixed.shape[1], 2))].shape[:-1]
        return jnp.zeros((*shape, 2)).at[..., 0].set(3.0)


def constant_patches(key, family, config, targets, scans=None) -> PatchBatch:
    """Moves by (3, 4) voxels; the last rows do not count."""
    size, count = config.patch_size, config.patches_per_pair
    image = jnp.zeros((count, size, size, 1))
    shape = image[(slice(None), *targets.slices(size, 2))].shape[:-1]
    displacement = jnp.zeros((*shape, 2)) + jnp.array([3.0, 4.0])[None, None, None]
    weight = jnp.ones((*shape, 1)).at[:, -1].set(0.0)
    displacement = jnp.where(weight > 0, displacement, 1000.0)
    return PatchBatch(image, image, displacement, weight)


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 2.0)])
def test_errors_are_lengths_in_mm_at_the_targets_that_count(tiny, scales):
    data = dataclasses.replace(tiny.data, scales=scales)
    config = dataclasses.replace(tiny, data=data)
    shown = []
    evaluate = make_evaluation(Constant(), config, sample=constant_patches)
    found = evaluate({}, lambda name, picture: shown.append(name))
    sizes = [tiny.data.spacing * scale for scale in scales]
    names = {
        f"{family} {size:g} mm" if len(sizes) > 1 else family: size
        for size in sizes
        for family in tiny.data.families
    }
    assert shown == list(found)
    assert list(found) == list(names)
    for name, size in names.items():
        assert found[name]["n"] == tiny.evaluation.pairs
        # The network leaves 4 of 5 voxels.
        assert found[name]["error_mm"] == pytest.approx(4 * size)
        assert found[name]["zero_mm"] == pytest.approx(5 * size)
        assert found[name]["ratio"] == pytest.approx(0.8)
        assert found[name]["error_sd_mm"] == pytest.approx(0.0, abs=1e-5)
    assert overall_ratio(found) == pytest.approx(0.8)


def test_overall_ratio_counts_families_where_nothing_moves():
    still = {"error_mm": 1.0, "zero_mm": 0.0, "ratio": math.inf}
    moving = {"error_mm": 3.0, "zero_mm": 8.0, "ratio": 0.375}
    assert overall_ratio({"zero": still, "low": moving}) == 0.5
    assert overall_ratio({"low": moving}) == 0.375
    assert overall_ratio({"zero": still}) == math.inf
