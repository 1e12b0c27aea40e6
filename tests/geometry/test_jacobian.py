"""Local volume change against analytic maps and SimpleITK."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK as sitk
from jax.test_util import check_grads

from regnet_jax.geometry import jacobian_determinant, jacobian_matrix

jit_determinant = jax.jit(jacobian_determinant)


def _affine_field(matrix, shape):
    grid = np.moveaxis(np.indices(shape), 0, -1)
    return (grid @ np.array(matrix).T).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 5), (4, 3, 6)])
def test_jacobian_of_an_affine_map_is_its_matrix_up_to_the_border(shape):
    dimensions = len(shape)
    matrix = np.random.default_rng(0).uniform(-0.5, 0.5, (dimensions, dimensions))
    field = _affine_field(matrix, shape)
    whole = np.eye(dimensions) + matrix
    want = np.broadcast_to(whole, (*shape, dimensions, dimensions))
    np.testing.assert_allclose(jacobian_matrix(field), want, atol=1e-6)
    got = jacobian_determinant(field)
    np.testing.assert_allclose(got, np.linalg.det(whole), atol=1e-5)


def test_jacobian_of_a_quadratic_map_is_exact_inside():
    z = np.arange(6, dtype=np.float32)
    field = np.zeros((6, 4, 2), np.float32)
    field[..., 0] = 0.1 * z[:, None] ** 2
    want = 1 + np.array([0.1, 0.2, 0.4, 0.6, 0.8, 0.9])
    np.testing.assert_allclose(jit_determinant(field)[:, 0], want, atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_determinant_of_a_mirror_is_negative_and_of_a_rotation_one(dimensions):
    shape = (4, 5, 3)[:dimensions]
    mirror = np.zeros((dimensions, dimensions))
    mirror[-1, -1] = -2
    np.testing.assert_allclose(jit_determinant(_affine_field(mirror, shape)), -1)
    turn = np.zeros((dimensions, dimensions))
    turn[-2:, -2:] = [[np.cos(1) - 1, -np.sin(1)], [np.sin(1), np.cos(1) - 1]]
    rotated = jit_determinant(_affine_field(turn, shape))
    np.testing.assert_allclose(rotated, 1, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 12), (7, 9, 6)])
def test_determinant_matches_itk_inside(shape):
    field = np.random.default_rng(1).normal(size=(*shape, len(shape)))
    image = sitk.GetImageFromArray(field[..., ::-1], isVector=True)
    want = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inner = (slice(1, -1),) * len(shape)
    got = np.asarray(jit_determinant(field.astype(np.float32)))
    assert (want[inner] < 0).any()
    np.testing.assert_allclose(got[inner], want[inner], atol=2e-5)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4)])
def test_jacobian_gradients_and_vmap_are_right(shape):
    batch = np.random.default_rng(2).normal(size=(2, *shape, len(shape)))
    many = jax.vmap(jit_determinant)(batch.astype(np.float32))
    one = jit_determinant(batch[1].astype(np.float32))
    np.testing.assert_allclose(many[1], one, atol=1e-5)
    with jax.enable_x64(True):
        field = jnp.asarray(batch[0])
        check_grads(jit_determinant, (field,), 1, ["rev"], atol=1e-6, rtol=1e-6)
