"""The weights of voxels, by organs of an analytic chest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis.importance import voxel_importance

SPACING = 2.0
SHAPE = (7, 50, 70)


def _chest(lung):
    """Muscle with two lungs, a vessel of 8 mm along the first axis in one of them."""
    _, y, x = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    image = np.where((y / 20) ** 2 + (x / 30) ** 2 < 1, 40.0, -1000.0)
    image[(y / 12) ** 2 + ((abs(x) - 14) / 9) ** 2 < 1] = lung
    image[y**2 + (x - 14) ** 2 < 2**2] = 30.0
    return jnp.asarray(image[..., None], jnp.float32)


WEIGHTS = {"unseen": 0.05, "lung": 3.0, "vessel": 5.0}


# Healthy, and emphysema as dark as the air around the patient.
@pytest.mark.parametrize("lung", [-850.0, -990.0])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_organs_have_their_weights(lung, dimensions):
    image = _chest(lung) if dimensions == 3 else _chest(lung)[3]
    weigh = jax.jit(lambda image: voxel_importance(image, spacing=SPACING, **WEIGHTS))
    got = np.asarray(weigh(image))[..., 0]
    got = got[3] if dimensions == 3 else got
    middle, right = (SHAPE[1] - 1) // 2, 35 + 14
    assert got[2, 2] == pytest.approx(0.05)
    assert got[middle, right] == 5.0  # the vessel
    assert got[middle + 6, right] == got[middle, 35 - 14] == 3.0  # lungs
    assert got[middle, 35] == got[middle - 17, 35] == 1.0  # mediastinum, muscle


def test_equal_weights_are_one_in_all_of_the_body():
    got = np.asarray(voxel_importance(_chest(-990.0), spacing=SPACING, unseen=0.0))
    body = np.asarray(_chest(-850.0)) > -900
    assert (got[body] == 1).all()
    assert got.min() == 0
