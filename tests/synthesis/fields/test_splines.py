"""Single-frequency and diffeomorphic fields against scipy's B-splines and flows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.integrate import solve_ivp
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter, map_coordinates

from regnet_jax.geometry import (
    compose,
    exponentiate,
    gaussian_smooth,
    jacobian_determinant,
)
from regnet_jax.geometry.bspline import cubic_bspline
from regnet_jax.synthesis.fields.deformation import rescale
from regnet_jax.synthesis.fields.splines import (
    FINEST,
    SplineFamily,
    diffeomorphic,
    multiscale,
    single_frequency,
    spline_field,
)

SHAPES = {2: (33, 46), 3: (31, 26, 40)}
FAMILY = SplineFamily(amplitude=20.0)


@functools.cache
def _drawer(function, dimensions):
    return jax.jit(functools.partial(function, shape=SHAPES[dimensions], spacing=4.0))


def _draw(function, dimensions, seed, family=FAMILY):
    family = jax.tree.map(jnp.float32, family)
    key = jax.random.key(seed)
    return _drawer(function, dimensions)(key, family=family).displacement


def test_basis_function_matches_scipy():
    t = np.linspace(-3, 3, 121)
    basis = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    np.testing.assert_allclose(cubic_bspline(t), np.nan_to_num(basis(t)), atol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_along_each_axis_a_field_is_a_spline_of_its_knots(dimensions):
    shape, distance = SHAPES[dimensions], 5.0
    key = jax.random.key(1)
    field = np.asarray(
        spline_field(key, shape, distance * 4.0, 0.0, spacing=4.0), np.float64
    )
    phases = jax.random.uniform(jax.random.split(key)[1], (dimensions,))
    for axis, (size, phase) in enumerate(zip(shape, np.asarray(phases), strict=True)):
        # What lies in the space of the splines is met exactly by a fit of them.
        knots = (np.arange(-5, size // 5 + 6) + phase) * distance
        basis = [
            np.nan_to_num(BSpline.basis_element(k, extrapolate=False)(np.arange(size)))
            for k in np.lib.stride_tricks.sliding_window_view(knots, 5)
        ]
        lines = np.moveaxis(field, axis, 0).reshape(size, -1)
        basis = np.stack([b for b in basis if b.any()], -1)
        fit = basis @ np.linalg.lstsq(basis, lines, rcond=None)[0]
        np.testing.assert_allclose(fit, lines, atol=1e-5)
        assert np.ptp(lines, axis=0).max() > 0.1


def _coefficients(key, shape, distance, spacing):
    """The control points of a field and the place of the first, from its key."""
    value_key, phase_key = jax.random.split(key)
    d = len(shape)
    finest = min(FINEST / spacing, (min(shape) - 1) / 5)
    counts = [int(np.ceil((n - 1) / finest)) + 4 for n in shape]
    values = jax.random.uniform(value_key, (*counts, d), minval=-1.0, maxval=1.0)
    values = gaussian_smooth(values, [0.8] * d)
    first = (np.asarray(jax.random.uniform(phase_key, (d,))) - 2) * distance
    return np.asarray(values, np.float64), first


@pytest.mark.parametrize("dimensions", [2, 3])
def test_spline_field_is_the_bspline_transform_of_itk(dimensions):
    shape, spacing, mm = SHAPES[dimensions], 4.0, 20.0
    key = jax.random.key(5)
    field = np.asarray(spline_field(key, shape, mm, 0.0, spacing=spacing))
    values, first = _coefficients(key, shape, mm / spacing, spacing)
    transform = sitk.BSplineTransform(dimensions, 3)
    # The first coefficient lies one interval before the domain.
    transform.SetTransformDomainOrigin((first + mm / spacing)[::-1].tolist())
    mesh = [n - 3 for n in values.shape[:-1]]
    size = [n * mm / spacing for n in mesh]
    transform.SetTransformDomainPhysicalDimensions(size[::-1])
    transform.SetTransformDomainMeshSize(mesh[::-1])
    components = [values[..., c].ravel() for c in reversed(range(dimensions))]
    transform.SetParameters(np.concatenate(components).tolist())
    rng = np.random.default_rng(0)
    for voxel in rng.integers(0, shape, (200, dimensions)):
        point = voxel[::-1].astype(float)
        want = np.asarray(transform.TransformPoint(point.tolist())) - point
        np.testing.assert_allclose(field[tuple(voxel)], want[::-1], atol=1e-4)
    assert np.abs(field).max() > 0.2


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("function", [single_frequency, multiscale, diffeomorphic])
def test_a_held_border_does_not_move(function, dimensions):
    field = np.asarray(_draw(function, dimensions, 0))
    for axis in range(dimensions):
        for end in (0, -1):
            np.testing.assert_allclose(np.take(field, end, axis), 0, atol=1e-6)
    free = np.asarray(_draw(function, dimensions, 0, FAMILY._replace(held_border=0.0)))
    assert np.abs(free[0]).max() > 0.1


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("function", [single_frequency, multiscale])
def test_amplitudes_lie_between_the_least_and_the_whole(function, dimensions):
    tops = [4.0 * np.abs(_draw(function, dimensions, seed)).max() for seed in range(24)]
    assert 4.0 <= min(tops) < 9.0
    assert 15.0 < max(tops) <= 20.0 + 1e-3


@pytest.mark.parametrize("dimensions", [2, 3])
def test_flows_keep_within_the_amplitude(dimensions):
    flows = [
        4.0 * np.abs(_draw(diffeomorphic, dimensions, seed)).max() for seed in range(4)
    ]
    assert max(flows) <= 20.0 + 1e-3
    assert min(flows) > 1.0


def test_multiscale_fields_have_more_than_one_scale():
    """They are neither as rough as the finest of one frequency nor as smooth as the
    coarsest.
    """
    keys = jax.random.split(jax.random.key(0), 12)

    def coarse_part(function, **numbers):
        """How much of the energy a wide smoothing leaves."""
        family = SplineFamily(20.0, held_border=0.0, **numbers)
        draw = functools.partial(function, shape=(93, 81), family=family, spacing=4.0)
        fields = jax.jit(jax.vmap(draw))(keys).displacement
        smooth = gaussian_filter(fields, (0, 8, 8, 0), mode="nearest")
        return (smooth**2).sum() / float((fields**2).sum())

    fine = coarse_part(single_frequency, finest=20.0, coarsest=20.0)
    coarse = coarse_part(single_frequency, finest=80.0, coarsest=80.0)
    assert fine + 0.2 < coarse_part(multiscale) < coarse - 0.02


def test_flows_do_not_fold_where_plain_fields_do():
    family = SplineFamily(60.0, least=1.0, coarsest=20.0)
    plain, flow = (
        _draw(function, 2, 3, family) for function in (single_frequency, diffeomorphic)
    )
    assert float(jnp.min(jacobian_determinant(plain))) < 0
    assert float(jnp.min(jacobian_determinant(flow))) > 0


@pytest.mark.parametrize("shape", [(51, 46), (31, 36, 33)])
def test_the_exponential_is_the_flow_of_the_velocity(shape):
    key = jax.random.key(4)
    velocity = rescale(spline_field(key, shape, 30.0, 1.0, spacing=3.0), 1.5)
    got = np.asarray(jax.jit(exponentiate)(velocity))
    size = np.linalg.norm(velocity, axis=-1)
    largest = np.argsort(size.ravel())[-40::8]
    points = np.stack(np.unravel_index(largest, shape))
    components = np.moveaxis(np.asarray(velocity, np.float64), -1, 0)

    def speed(_, x):
        x = x.reshape(points.shape)
        at = [map_coordinates(c, x, order=1, mode="nearest") for c in components]
        return np.concatenate(at)

    start = points.astype(float).ravel()
    end = solve_ivp(speed, (0, 1), start, rtol=1e-6, atol=1e-8).y[:, -1]
    want = (end - start).reshape(points.shape)
    np.testing.assert_allclose(got[tuple(points)].T, want, atol=0.03)
    assert np.abs(want).max() > 0.7


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_exponential_of_minus_the_velocity_is_the_inverse(dimensions):
    key = jax.random.key(2)
    field = spline_field(key, SHAPES[dimensions], 40.0, 1.0, spacing=4.0)
    velocity = rescale(field, 2.0)
    there, back = exponentiate(velocity), exponentiate(-velocity)
    assert float(jnp.max(jnp.abs(there))) > 1.0
    np.testing.assert_allclose(compose(there, back), 0, atol=0.06)
