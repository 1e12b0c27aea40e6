"""B-splines against analytic cases, scipy and ITK's BSplineTransform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi
import SimpleITK as sitk
from jax.test_util import check_grads
from scipy.interpolate import BSpline

from regnet_jax.geometry import bspline_field, prefilter
from regnet_jax.geometry.bspline import control_points, cubic_weights

jit_field = jax.jit(bspline_field, static_argnums=(1, 2))
# Shape and spacing in voxels: odd, unequal, no divisors, coarser than the grid.
GRIDS = [
    ((13, 18), (4.0, 5.0)),
    ((21, 8), (10.0, 2.5)),
    ((9, 12, 7), (3.0, 4.7, 2.0)),
    ((6, 1, 11), (9.0, 2.0, 5.0)),
]


def _coefficients(shape, spacing, channels, seed=0):
    counts = [control_points(n, s) for n, s in zip(shape, spacing, strict=True)]
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*counts, channels)).astype(np.float32)


def _itk_field(coefficients, shape, spacing):
    """Displacements at the voxels of the transform with the same coefficients."""
    dimensions = len(shape)
    mesh = [n - 3 for n in coefficients.shape[:-1]]
    transform = sitk.BSplineTransform(dimensions, 3)
    transform.SetTransformDomainOrigin([0.0] * dimensions)
    transform.SetTransformDomainDirection(np.eye(dimensions).ravel().tolist())
    extent = [float(m * s) for m, s in zip(mesh, spacing, strict=True)]
    transform.SetTransformDomainPhysicalDimensions(extent[::-1])
    transform.SetTransformDomainMeshSize(mesh[::-1])
    x_first = np.moveaxis(coefficients[..., ::-1], -1, 0).astype(np.float64)
    transform.SetParameters(x_first.ravel().tolist())
    size = [int(n) for n in shape[::-1]]
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, size)
    return sitk.GetArrayFromImage(field)[..., ::-1]


def test_weights_are_the_cubic_basis_function():
    t = np.linspace(0, 1, 11)[:-1]
    basis = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    for knot, weight in zip((-1, 0, 1, 2), cubic_weights(t), strict=True):
        np.testing.assert_allclose(weight, np.nan_to_num(basis(t - knot)), atol=1e-12)
    np.testing.assert_allclose(sum(cubic_weights(t)), 1)


@pytest.mark.parametrize("shape", [(9,), (5, 8), (1, 6), (2, 3), (4, 7, 5)])
def test_prefilter_matches_scipy(shape):
    volume = np.random.default_rng(1).normal(size=(*shape, 2)).astype(np.float32)
    want = np.stack(
        [ndi.spline_filter(volume[..., c].astype(float), 3, mode="mirror")
         for c in range(2)], axis=-1,
    )  # fmt: skip
    np.testing.assert_allclose(prefilter(volume), want, atol=1e-5)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_bspline_field_matches_itk(shape, spacing):
    coefficients = 5 * _coefficients(shape, spacing, len(shape))
    want = _itk_field(coefficients, shape, spacing)
    got = jit_field(coefficients, shape, spacing)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(("shape", "spacing"), GRIDS)
def test_linear_coefficients_give_a_linear_field(shape, spacing):
    """Also places the grid: coefficient 1 is voxel 0, spacing apart."""
    counts = _coefficients(shape, spacing, 1).shape[:-1]
    slopes = np.arange(1, len(shape) + 1)
    knots = (np.moveaxis(np.indices(counts), 0, -1) - 1) * np.array(spacing)
    coefficients = (knots @ slopes)[..., None].astype(np.float32)
    want = np.moveaxis(np.indices(shape), 0, -1) @ slopes
    got = bspline_field(coefficients, shape, spacing)
    np.testing.assert_allclose(got[..., 0], want, atol=1e-4)


def test_prefiltered_image_is_reproduced_away_from_the_border():
    """At spacing 1 the field of the prefiltered image is the image."""
    volume = np.random.default_rng(2).normal(size=(12, 15, 1)).astype(np.float32)
    coefficients = np.pad(prefilter(volume), ((1, 2), (1, 2), (0, 0)), mode="reflect")
    got = bspline_field(coefficients, (12, 15), (1, 1))
    np.testing.assert_allclose(got, volume, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 12, 13, 14, 64])
@pytest.mark.parametrize("spacing", [0.7, 1, 3.0, 6.5, 13, 100.0])
def test_control_points_reach_just_beyond_the_last_voxel(size, spacing):
    last = control_points(size, spacing) - 2  # knots start at -1
    assert 1 < last - (size - 1) / spacing <= 2


def test_bspline_field_refuses_wrong_number_of_coefficients():
    coefficients = _coefficients((13, 18), (4, 5), 2)
    with pytest.raises(ValueError, match=r"takes \(7, 7\).*not \(6, 7\)"):
        bspline_field(coefficients[1:], (13, 18), (4, 5))
    with pytest.raises(ValueError, match="floating"):
        bspline_field(coefficients.astype(int), (13, 18), (4, 5))


def test_bspline_gradients_and_vmap_are_right():
    shape, spacing = (5, 4, 3), (2.0, 3.0, 2.0)
    batch = np.stack([_coefficients(shape, spacing, 3, seed) for seed in range(3)])
    function = lambda c: jit_field(c, shape, spacing)  # noqa: E731
    got = jax.vmap(function)(batch)
    want = np.stack([_itk_field(c, shape, spacing) for c in batch])
    np.testing.assert_allclose(got, want, atol=1e-5)
    with jax.enable_x64(True):
        one = jnp.asarray(batch[0], jnp.float64)
        check_grads(function, (one,), 1, ["rev"], atol=1e-6, rtol=1e-6)
