"""Programs that are compiled ahead are those that calls use."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.models.support import Support
from regnet_jax.registration.inference.prediction import compile_ahead, predict
from regnet_jax.registration.inference.programs import KeptProgram
from tests.helpers.networks import dense, smooth_image

TRACED = []


class Counted(nn.Module):
    """Predicts the difference of the images, and keeps the shapes it is traced for."""

    dimensions: int = 2
    support = Support(reach=1, period=1)

    def __call__(self, fixed, moving, *, train):
        TRACED.append(fixed.shape[1:-1])
        return jnp.repeat(moving - fixed, self.dimensions, axis=-1)


@pytest.mark.parametrize("shape", [(75, 70), (40, 33, 37)])
@pytest.mark.parametrize("errors", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_a_prediction_compiles_nothing_that_was_not_prepared(
    shape, errors, both, monkeypatch
):
    d = len(shape)
    scales = (1.0, 2.0, 4.0)
    network = dense(d, 2.0, scales, extra_pass=True, estimates_errors=errors)
    network = dataclasses.replace(network, both_orders=both)
    fixed, moving = (smooth_image(shape, seed) for seed in (0, 1))
    shown = np.ones((2, *shape), bool)
    shown[0, :5], shown[1, -5:] = False, False
    lowered, lower = [], KeptProgram._lower

    def count(self, arguments, static):
        lowered.append(self)
        return lower(self, arguments, static)

    monkeypatch.setattr(KeptProgram, "_lower", count)
    with ThreadPoolExecutor(2) as pool:
        compile_ahead(network, fixed, pool)
    ahead = len(lowered)
    found = predict(network, fixed, moving, shown=tuple(shown))
    assert len(lowered) == ahead > 0
    assert np.abs(found).max() > 0


def test_a_network_is_traced_once_for_each_voxel_size():
    network = dense(2, 2.0, (1.0, 2.0), Counted(2), extra_pass=True)
    TRACED.clear()
    with ThreadPoolExecutor(2) as pool:
        compile_ahead(network, smooth_image((75, 70)), pool)
    assert len(TRACED) == len(set(TRACED)) == 2


def test_nothing_is_prepared_for_tiles():
    network = dense(2, 2.0, model=Counted(2))
    TRACED.clear()
    with ThreadPoolExecutor(1) as pool:
        compile_ahead(network, smooth_image((75, 70)), pool, memory=4.0)
    assert not TRACED


@pytest.mark.parametrize(
    ("fineness", "sizes"),
    [
        (0.5, (4.0, 2.0)),
        (1.0, (4.0, 2.0)),
        (1.05, (4.0, 2.0)),
        (4 / 3, (8.0, 4.0, 2.0)),
        (1.6, (8.0, 4.0, 2.0)),
        (4.0, (16.0, 8.0, 4.0, 2.0)),
    ],
)
def test_finer_voxels_get_further_coarse_passes(fineness, sizes):
    network = dense(2, 2.0, (1.0, 2.0), extra_pass=True)
    finer = network.with_effort(fineness)
    assert finer.config.voxel_sizes == sizes
    assert finer.config.extra_pass
    assert len(finer.stages) == len(finer.config.factors) == len(sizes) + 1
    assert finer.variables is network.variables
    # The first pass has voxels as wide in mm as before, and less than twice as wide.
    first = finer.config.factors[0] * network.spacing / max(fineness, 1.0)
    assert 0.95 * network.config.voxel_sizes[0] <= first
    assert first < 2.0 * network.config.voxel_sizes[0]


def test_fewer_passes_leave_out_the_repeated_one():
    network = dense(2, 2.0, (1.0, 2.0), extra_pass=True)
    assert network.config.factors == (2, 1, 1)
    assert network.with_effort(1.0, repeats=False).config.factors == (2, 1)
    single = dense(2, 2.0)
    assert single.with_effort(1.0).config.factors == (1,)


def test_networks_for_each_voxel_size_get_no_further_pass():
    one = dense(2, 2.0)
    network = dataclasses.replace(dense(2, 2.0, (1.0, 2.0)), others=(one, one))
    assert network.with_effort(2.0).stages == (one, one)
