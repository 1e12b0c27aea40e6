"""Coarse to fine with steps that are known, and registration with dense networks."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

import regnet_jax
from regnet_jax.geometry.pyramids import downsample, upsample_field
from regnet_jax.models.support import Support
from regnet_jax.registration.inference.passes import (
    join_orders,
    run_passes,
    settle,
    shrink_small_displacements,
    whole_pass,
)
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.spatial import (
    Frame,
    Image,
    from_sitk,
    resample_field,
    to_sitk,
    to_world,
)
from tests.helpers.networks import dense, smooth_image


def register(fixed, moving, network, **options):
    """With the network's voxels, though the images are smaller than any body."""
    options = {"voxel_size": network.spacing, "intensity": "none"} | options
    return regnet_jax.register(fixed, moving, network, **options)


def indices(shape):
    return np.moveaxis(np.indices(shape), 0, -1).astype(np.float64)


def inner(d, width):
    return (slice(width, -width),) * d


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(49, 60), (33, 36, 41)])
def test_downsampling_blurs_to_the_width_of_the_coarse_voxel(shape, factor):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    got = downsample(jnp.asarray(image[..., None]), factor)[..., 0]
    # Full width at half maximum: from one voxel to as many as the factor.
    sigma = np.sqrt((factor**2 - 1) / (8 * np.log(2)))
    want = ndi.gaussian_filter(image.astype(np.float64), sigma, truncate=8)
    want = want[(slice(None, None, factor),) * len(shape)]
    assert got.shape == want.shape
    # Scipy continues the image beyond its border.
    away = inner(len(shape), 4 if factor > 1 else 1)
    np.testing.assert_allclose(got[away], want[away], atol=1e-3)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("shape", [(14, 9), (9, 6, 11)])
def test_upsampling_keeps_linear_fields(shape, factor):
    d = len(shape)
    matrix = np.random.default_rng(1).normal(size=(d, d))
    coarse = [-(-n // factor) for n in shape]
    field = jnp.asarray(indices(coarse) @ matrix + 1.5, jnp.float32)
    got = upsample_field(field, factor, shape)
    # The same motion in voxels of half the size is of twice as many.
    last = (np.array(coarse) - 1) * factor
    want = np.minimum(indices(shape), last) @ matrix + 1.5 * factor
    np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ((45, 38), (1,)),
        ((45, 38), (1, 1)),
        ((45, 38), (4, 1)),
        ((45, 38), (2,)),
        ((33, 36, 29), (4, 2, 1)),
    ],
)
def test_passes_compose_their_linear_maps(shape, factors):
    """Steps are given: only places and units are left to get wrong."""
    d, n = len(shape), len(factors)
    rng = np.random.default_rng(2)
    shifts = 0.3 * rng.normal(size=(n, d))
    slopes = 0.02 * rng.normal(size=(n, d, d))
    if n > 1:
        swapped = slopes[0] @ slopes[1] - slopes[1] @ slopes[0]
        assert np.abs(swapped).max() > 1e-4
    calls = itertools.count()

    def step(fixed, moving):
        assert fixed.shape == moving.shape
        number = next(calls)
        points = factors[number] * indices(fixed.shape[:-1])
        field = points @ slopes[number] + shifts[number]
        return jnp.asarray(field / factors[number], jnp.float32), None

    images = jnp.zeros((2, *shape, 1))
    got = run_passes([whole_pass(step)] * len(factors), *images, factors=factors)
    assert next(calls) == n
    # What a later pass finds comes first: fixed -> warped -> moving.
    points = indices(shape)
    for slope, shift in zip(slopes[::-1], shifts[::-1], strict=True):
        points = points + points @ slope + shift
    away = inner(d, 6)
    np.testing.assert_allclose(got[away], (points - indices(shape))[away], atol=2e-3)
    added = sum(indices(shape) @ slopes[i] + shifts[i] for i in range(n))
    assert n == 1 or np.abs(added + indices(shape) - points)[away].max() > 5e-3


@pytest.mark.parametrize("factors", [(1,), (1, 1), (2, 1)])
@pytest.mark.parametrize("shape", [(48, 61), (16, 33, 40)], ids=str)
def test_passes_ignore_values_where_an_image_shows_nothing(shape, factors):
    """Hidden values are spoilt; the step sees the same values in both images there,
    and its prediction there is replaced by the field from beside it.
    """
    d = len(shape)
    texture = smooth_image(shape)[..., None]
    shown = np.ones((2, *shape, 1), np.float32)
    shown[0, :8, ..., :-16, :], shown[1, ..., -16:, :] = 0.0, 0.0
    images = [
        jnp.asarray(np.concatenate([np.where(s > 0, texture, -1e4), s], -1))
        for s in shown
    ]
    motion = 0.5

    def step(fixed, moving):
        assert fixed.shape[-1] == moving.shape[-1] == 1
        factor = round(shape[0] / fixed.shape[0])
        edge = 16 // factor
        # Both hide the corner, of which nobody knows anything.
        below = slice(12 // factor, None)
        assert min(fixed[below].min(), moving[below].min()) > -5e3
        difference = np.abs(np.asarray(fixed - moving))
        assert difference[..., -edge + 4 :, :].max() == 0.0
        field = np.full((*fixed.shape[:-1], d), motion / factor, np.float32)
        field[: 8 // factor, ..., :-edge, :], field[..., -edge:, :] = 7.0, -7.0
        return jnp.asarray(field), None

    got = np.asarray(
        run_passes([whole_pass(step)] * len(factors), *images, factors=factors)
    )
    np.testing.assert_allclose(got, motion * len(factors), atol=0.02)


@pytest.mark.parametrize("factors", [(1, 1, 1), (4, 2, 1)])
def test_each_pass_takes_the_moving_image_as_warped_so_far(factors):
    """Steps find half of a shift of ramps, so an eighth is left after three."""
    shape, slope, shift = (88, 95), 0.02, 3.0
    moving = slope * jnp.asarray(indices(shape)[..., 1:], jnp.float32)
    fixed = moving + slope * shift
    left = []

    def step(one, other):
        middle = tuple(n // 2 for n in one.shape[:-1])
        rise = one[middle] - one[middle[0], middle[1] - 1]
        found = (one[middle] - other[middle])[0] / rise[0]
        left.append(float(found))
        half = jnp.stack([0.0 * found, 0.5 * found])
        return jnp.broadcast_to(half, (*one.shape[:-1], 2)), None

    got = run_passes([whole_pass(step)] * len(factors), fixed, moving, factors=factors)
    want = [shift * 0.5**i / factor for i, factor in enumerate(factors)]
    assert left == pytest.approx(want, abs=2e-3)
    np.testing.assert_allclose(got[..., 0], 0, atol=1e-6)
    np.testing.assert_allclose(got[..., 1], shift * 7 / 8, atol=3e-3)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4)])
def test_small_displacements_are_shrunk(shape):
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(*shape, len(shape)))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    for length, kept in ((0.0, 0.0), (0.1, 0.2), (0.2, 0.5), (0.6, 0.9), (6.0, 0.9989)):
        got = shrink_small_displacements(
            jnp.asarray(length * directions, jnp.float32), 0.2
        )
        np.testing.assert_allclose(got, kept * length * directions, atol=1e-4)
    field = jnp.asarray(directions, jnp.float32)
    np.testing.assert_allclose(shrink_small_displacements(field, 0.0), field, rtol=1e-6)
    assert np.isfinite(shrink_small_displacements(0 * field, 0.0)).all()
    # A higher power keeps more of a large displacement and less of a small one.
    for length, kept in ((0.0, 0.0), (0.1, 1 / 17), (0.2, 0.5), (0.6, 81 / 82)):
        field = jnp.asarray(length * directions, jnp.float32)
        got = shrink_small_displacements(field, 0.2, power=4)
        np.testing.assert_allclose(got, kept * length * directions, atol=1e-4)


def prediction(shape, seed=0):
    """Displacements of about half a voxel, and logarithms of errors that vary."""
    rng = np.random.default_rng(seed)
    field = 0.5 * rng.normal(size=(*shape, len(shape)))
    errors = rng.normal(-1.0, 1.0, size=(*shape, 2))
    return jnp.asarray(field, jnp.float32), jnp.asarray(errors, jnp.float32)


@pytest.mark.parametrize("shape", [(5, 13), (1, 7), (9, 4, 11)])
def test_without_errors_small_displacements_are_shrunk_in_every_pass(shape):
    field, _ = prediction(shape)
    want = shrink_small_displacements(field, 0.2)
    for pooled in (False, True):
        got = settle(field, None, 0.2, pooled=pooled)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(5, 13), (9, 4, 11)])
def test_the_finest_passes_shrink_displacements_below_their_errors(shape):
    field, errors = prediction(shape)
    got = settle(field, errors, 0.2, pooled=False)
    length = np.linalg.norm(np.asarray(field, np.float64), axis=-1)
    error = np.exp(np.asarray(errors, np.float64)[..., 0])
    half = np.hypot(0.2, 0.6 * error)
    kept = 1 / (1 + (half / length) ** 4)
    np.testing.assert_allclose(got, kept[..., None] * field, atol=1e-5)
    # Displacements of several times their errors stay.
    sure = errors.at[..., 0].set(-3.0)
    np.testing.assert_allclose(
        settle(8.0 * field, sure, 0.0, pooled=False), 8.0 * field, rtol=1e-6
    )


@pytest.mark.parametrize("shape", [(5, 13), (40, 33), (9, 4, 21)])
def test_coarse_passes_take_the_weighted_mean_of_the_surroundings(shape):
    """By scipy's filter, whose weights at the border cancel in the ratio."""
    field, errors = prediction(shape)
    got = settle(field, errors, 0.0, pooled=True)
    weight = np.exp(-2.0 * np.asarray(errors, np.float64)[..., 0])

    def smooth(values):
        return ndi.gaussian_filter(values, 2.0, mode="constant", truncate=20.0)

    for axis in range(len(shape)):
        own = np.asarray(field, np.float64)[..., axis]
        mean = smooth(weight * own) / smooth(weight)
        np.testing.assert_allclose(got[..., axis], own / 4 + mean * 3 / 4, atol=1e-5)


def test_pooling_follows_the_sure_voxels_and_keeps_a_shift():
    shape = (21, 30)
    shift = jnp.broadcast_to(jnp.asarray([1.5, -0.75]), (*shape, 2))
    _, errors = prediction(shape)
    np.testing.assert_allclose(
        settle(shift, errors, 0.0, pooled=True), shift, atol=1e-5
    )
    # One sure voxel among others whose errors are beyond any range of floats.
    sure = jnp.zeros((*shape, 2)).at[10, 15].set(1.0)
    extreme = jnp.full((*shape, 2), 60.0).at[10, 15].set(-60.0)
    got = settle(sure, extreme, 0.0, pooled=True)
    assert np.isfinite(got).all()
    near = np.s_[8:13, 12:19]
    np.testing.assert_allclose(got[near], 0.75 + 0.25 * sure[near], rtol=1e-5)


def mirrored(values, d=None):
    """Reversed along the last axis; a displacement ``[*spatial, d]``, too."""
    values = np.array(values)[..., ::-1, :]
    if d:
        values[..., d - 1] *= -1.0
    return values


@pytest.mark.parametrize("shape", [(5, 13), (9, 4, 11)])
@pytest.mark.parametrize("compiled", [False, True])
def test_both_orders_are_weighted_by_their_precision(shape, compiled):
    d = len(shape)
    (forth, errors), (back, errors_back) = (prediction(shape, seed) for seed in (0, 1))
    join = jax.jit(join_orders) if compiled else join_orders
    got, joint = join(forth, errors, mirrored(back, d), mirrored(errors_back))
    precise, precise_back = (
        np.exp(-2.0 * np.asarray(each, np.float64)[..., :1])
        for each in (errors, errors_back)
    )
    sums = precise * np.asarray(forth) - precise_back * np.asarray(back)
    np.testing.assert_allclose(got, sums / (precise + precise_back), atol=1e-6)
    np.testing.assert_allclose(joint, np.mean([errors, errors_back], 0), atol=1e-6)
    # Exchanged and mirrored images get the mirror image of the opposite field.
    swapped, again = join(mirrored(back, d), mirrored(errors_back), forth, errors)
    np.testing.assert_allclose(swapped, -mirrored(got, d), atol=1e-6)
    np.testing.assert_allclose(again, mirrored(joint), atol=1e-6)
    got, nothing = join(forth, None, mirrored(back, d), None)
    np.testing.assert_allclose(got, (forth - back) / 2, atol=1e-6)
    assert nothing is None


def test_a_prediction_of_much_smaller_error_decides_alone():
    forth, back = jnp.full((3, 4, 2), 0.5), jnp.asarray([7.0, -7.0]).reshape(1, 1, 2)
    back = jnp.broadcast_to(back, (3, 4, 2))
    sure, unsure = jnp.full((3, 4, 2), -60.0), jnp.full((3, 4, 2), 60.0)
    np.testing.assert_array_equal(join_orders(forth, sure, back, unsure)[0], forth)
    np.testing.assert_array_equal(join_orders(forth, unsure, back, sure)[0], -7.0)


class Chequers:
    """Displacements of alternating sign, on fine grids or coarse ones, and errors."""

    support = Support(reach=0, period=1)
    estimates_errors = True

    def __init__(self, fine):
        self.fine = fine

    def apply(self, variables, fixed, moving, *, train, mutable):
        assert not train
        assert mutable == ["errors"]
        shape = fixed.shape[1:-1]
        signs = (-1.0) ** np.indices(shape).sum(0)
        field = jnp.asarray(signs * ((shape[0] > 40) == self.fine), jnp.float32)
        errors = jnp.full((1, *shape, 2), -3.0)
        field = jnp.stack([field] * len(shape), -1)[None]
        return field, {"errors": {"logarithm": (errors,)}}


@pytest.mark.parametrize("shape", [(48, 61), (50, 16, 23)])
def test_coarse_passes_are_pooled_and_the_finest_keep_details(shape):
    images = [smooth_image(shape, seed) for seed in (0, 1)]

    def largest(fine):
        network = dense(len(shape), 2.0, (1.0, 2.0), Chequers(fine))
        return np.abs(predict(network, *images)).max()

    assert largest(fine=True) == pytest.approx(1.0, rel=1e-3)
    # A quarter of two voxels, and less between the coarse ones.
    assert 0.1 < largest(fine=False) < 0.55


class Shift:
    """A network whose displacements follow the fixed image's brightness."""

    support = Support(reach=0, period=1)

    def __init__(self, vector, gain=0.0):
        self.vector, self.gain = vector, gain

    def apply(self, variables, fixed, moving, *, train):
        assert not train
        vector = jnp.asarray(self.vector).reshape((1,) * (fixed.ndim - 1) + (-1,))
        return vector * (1.0 - self.gain + self.gain * fixed)


@pytest.mark.parametrize("shape", [(41, 50), (1, 7), (20, 33, 27)])
@pytest.mark.parametrize(
    ("scales", "extra_pass"), [((1.0, 2.0, 4.0), False), ((2.0, 0.5), True)]
)
def test_passes_run_from_the_coarsest_scale_to_the_finest(shape, scales, extra_pass):
    vector = np.array([1.25, -0.5, 0.75], np.float32)[: len(shape)]
    images = [smooth_image(shape, seed) for seed in (0, 1)]
    network = dense(len(shape), 2.0, scales, Shift(vector), extra_pass)
    field = predict(network, *images)
    assert field.shape == (*shape, len(shape))
    assert field.dtype == np.float32
    # The finest voxel size has a second pass, and small displacements are shrunk.
    square = np.sum(vector**2)
    total = sum(scales) / min(scales)
    if extra_pass:
        total = (total + 1) * square / (square + 0.2**2)
    want = np.broadcast_to(total * vector, field.shape)
    np.testing.assert_allclose(field, want, rtol=1e-5)


@pytest.mark.parametrize("shape", [(41, 50), (20, 33, 27)])
def test_the_finest_passes_may_predict_in_both_orders(shape):
    """What neither follows the exchange of the images nor the mirror is an error.

    Along the last axis both signs change, so nothing tells it from a displacement.
    """
    d = len(shape)
    vector = np.array([1.25, -0.5, 0.75], np.float32)[:d]
    images = [smooth_image(shape, seed) for seed in (0, 1)]
    network = dense(d, 2.0, (1.0, 2.0, 4.0), Shift(vector), extra_pass=True)
    network = network.with_effort(1.0, both_orders=True)
    got = predict(network, *images)

    def kept(displacement):
        return displacement / (1 + 0.2**2 / np.sum(displacement**2))

    along = np.where(np.arange(d) == d - 1, vector, 0.0)
    want = 4 * kept(vector) + (2 + 1 + 1) * kept(along)
    np.testing.assert_allclose(
        got, np.broadcast_to(want, got.shape), rtol=1e-5, atol=1e-6
    )


class Likeness:
    """A network that finds the difference of the images along each axis."""

    support = Support(reach=0, period=1)

    def apply(self, variables, fixed, moving, *, train):
        assert not train
        axes = range(1, fixed.ndim - 1)
        slopes = [jnp.gradient(fixed + moving, axis=axis) for axis in axes]
        return (moving - fixed) * jnp.concatenate(slopes, -1)


@pytest.mark.parametrize("shape", [(48, 32), (16, 32, 48)])
def test_both_orders_keep_what_follows_the_exchange_and_the_mirror(shape):
    images = [smooth_image(shape, seed) for seed in (0, 1)]
    network = dense(len(shape), 2.0, (1.0, 2.0), Likeness())
    want = predict(network, *images)
    assert np.std(want) > 1e-3
    got = predict(network.with_effort(1.0, both_orders=True), *images)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_networks_get_intensities_scaled_as_in_training():
    shape = (40, 35)
    image = smooth_image(shape) + 3000.0 * (np.indices(shape)[0] > 30)
    network = dense(2, 2.0, model=Shift(np.ones(2, np.float32), gain=1.0))
    field = predict(network, image, np.zeros(shape))
    want = np.clip((image + 1000) / 4095, 0, 1)
    np.testing.assert_allclose(field[..., 0], want, atol=1e-5)


def test_one_pass_equals_one_call_of_the_network():
    network = dense(2, 2.0)
    images = [smooth_image((32, 64), seed) for seed in (0, 1)]
    scaled = [np.clip((i[None, ..., None] + 1000) / 4095, 0, 1) for i in images]
    predict_whole = jax.jit(functools.partial(network.model.apply, train=False))
    whole = predict_whole(network.variables, *scaled)[0]
    field = predict(network, *images)
    np.testing.assert_allclose(field, whole, atol=1e-4)
    assert field.std(axis=(0, 1)).min() > 0.05


@pytest.mark.parametrize(
    ("shape", "scales"), [((33, 20), (1.0, 2.0, 4.0)), ((17, 20, 9), (1.0,))]
)
def test_passes_keep_shapes_that_factors_do_not_divide(shape, scales):
    network = dense(len(shape), 2.0, scales)
    images = [smooth_image(shape, seed) for seed in (0, 1)]
    field = predict(network, *images)
    assert field.shape == (*shape, len(shape))
    assert np.isfinite(field).all()
    assert field.std() > 0.05
    still = jax.tree.map(np.zeros_like, network.variables)
    network = dataclasses.replace(network, variables=still)
    np.testing.assert_allclose(predict(network, *images), 0, atol=1e-6)


def turn(d, angle=0.4):
    if d == 2:
        return Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    return Rotation.from_rotvec(angle * np.array([0.4, 0.8, -0.45])).as_matrix()


def image(direction, seed=0):
    d = len(direction)
    shape, spacing = (20, 33, 22)[:d], (2.0, 1.5, 3.0)[:d]
    frame = Frame(shape, spacing, (-80, 12, 300)[:d], direction)
    return Image(smooth_image(shape, seed), frame, f"image{seed}")


def mapped(registration, points):
    return np.array([registration.transform.TransformPoint(p) for p in points.tolist()])


def points_inside(frame, count=40):
    high = np.array(frame.shape) - 1
    rng = np.random.default_rng(2)
    return to_world(frame, rng.uniform(0, high, (count, frame.ndim)))


@pytest.mark.parametrize(
    ("direction", "anatomical"),
    [
        (turn(2) @ np.diag([1, -1]), turn(2)),
        (np.eye(3)[[1, 2, 0]], np.eye(3)),
        (turn(3) @ np.eye(3)[[2, 0, 1]], turn(3)),
    ],
    ids=["2d oblique and flipped", "3d permuted", "3d oblique and permuted"],
)
def test_shifts_of_voxels_are_shifts_in_the_world(direction, anatomical):
    d = len(direction)
    vector = np.array([0.25, -0.5, 0.75], np.float32)[:d]
    network = dense(d, 1.5, (2.0, 4.0), Shift(vector))
    result = register(image(direction), image(direction, 1), network, initial="none")
    # Voxels of 3 and of 6 mm.
    shift = anatomical @ (9.0 * vector[::-1])
    points = points_inside(result.frame)
    np.testing.assert_allclose(mapped(result, points), points + shift, atol=1e-3)
    want = np.broadcast_to(shift, result.displacement.shape)
    np.testing.assert_allclose(result.displacement, want, atol=1e-3)


def test_registration_with_a_dense_network_is_consistent():
    """Transform, displacement and warped image agree, however voxels are stored."""
    network = dense(2, 2.0, (1.0, 2.0))
    fixed, moving = image(turn(2)), image(turn(2), 1)
    affine = np.array([[1.05, 0.02, 2.0], [-0.03, 0.98, -1.0], [0, 0, 1]])
    affine[:2, 2] += (np.eye(2) - affine[:2, :2]) @ fixed.frame.centre
    result = register(fixed, moving, network, initial=affine)
    assert np.std(result.residual, axis=(0, 1)).min() > 0.05

    voxels = to_world(fixed.frame, indices(fixed.frame.shape))
    residual = resample_field(result.residual, result.grid, fixed.frame)
    through = (voxels + residual) @ affine[:2, :2].T + affine[:2, 2]
    np.testing.assert_allclose(result.displacement, through - voxels, atol=1e-3)
    some = voxels[3::5, 2::7].reshape(-1, 2)
    want = through[3::5, 2::7].reshape(-1, 2)
    np.testing.assert_allclose(mapped(result, some), want, atol=1e-3)
    warped = sitk.Resample(
        to_sitk(moving.array, moving.frame),
        to_sitk(fixed.array, fixed.frame),
        result.transform,
        sitk.sitkLinear,
        float(moving.array.min()),
    )
    got = result.warped.array
    np.testing.assert_allclose(got, sitk.GetArrayFromImage(warped), atol=1e-2)

    stored = [
        from_sitk(sitk.Flip(to_sitk(i.array, i.frame), [True, False]), i.name)
        for i in (fixed, moving)
    ]
    again = register(*stored, network, initial=affine)
    np.testing.assert_allclose(mapped(again, some), mapped(result, some), atol=0.02)
