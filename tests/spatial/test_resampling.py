"""Sampling on other grids against analytic images and ITK."""

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.spatial import (
    Frame,
    Image,
    average,
    isotropic_frame,
    resample,
    to_sitk,
    to_world,
    warp_image,
)
from tests.helpers.frames import FRAMES, rotation

every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def grid_points(frame):
    return to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))


def waves(points, length):
    return np.cos(2 * np.pi * points / length).prod(axis=-1)


@every_frame
def test_linear_images_are_exact_on_any_grid(frame):
    slope = np.arange(1, frame.ndim + 1)
    image = Image(grid_points(frame) @ slope, frame, "ramp")
    # A finer grid well inside, so that nothing is smoothed or outside.
    finer = Frame(
        (3,) * frame.ndim,
        (0.1,) * frame.ndim,
        frame.centre,
        rotation(frame.ndim, 0.7),
    )
    result = resample(image, finer)
    np.testing.assert_allclose(result.array, grid_points(finer) @ slope, rtol=1e-5)
    assert result.frame == finer
    assert result.name == "ramp"
    assert result.array.dtype == np.float32


@every_frame
def test_the_same_grid_changes_nothing(frame):
    array = np.random.default_rng(0).normal(size=frame.shape).astype(np.float32)
    result = resample(Image(array, frame, ""), frame)
    np.testing.assert_allclose(result.array, array, atol=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_coarse_grids_do_not_alias(d):
    fine = Frame((48,) * d, (1,) * d, (0,) * d, rotation(d, 0.2))
    coarse = isotropic_frame(fine, 4)
    interior = (slice(2, -2),) * d
    # Shorter than two coarse voxels: what survives is an alias.
    detail = resample(Image(waves(grid_points(fine), 5.0), fine, ""), coarse).array
    assert np.abs(detail[interior]).max() < 0.05
    # Long waves are damped as the documented Gaussian says, and not moved.
    wave = waves(grid_points(fine), 40.0)
    result = resample(Image(wave, fine, ""), coarse).array
    variance = (4**2 - 1) / (8 * np.log(2))
    damped = np.exp(-variance / 2 * (2 * np.pi / 40) ** 2) ** d
    expected = damped * waves(grid_points(coarse), 40.0)
    np.testing.assert_allclose(result[interior], expected[interior], atol=0.02)


def test_only_the_coarser_axis_is_smoothed():
    fine = Frame((20, 20), (1, 1), (0, 0), np.eye(2))
    coarse = Frame((5, 20), (1, 4), (0, 1.5), np.eye(2))
    columns = np.broadcast_to((-1.0) ** np.arange(20), (20, 20))
    result = resample(Image(columns, fine, ""), coarse).array
    np.testing.assert_allclose(result, columns[:5], atol=1e-5)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("spacing", [3.0, 1000.0])
def test_an_image_that_is_tiny_beside_the_voxels_is_their_mean(d, spacing):
    """As where the unit of one of two images is wrong."""
    shape = (4, 5, 6)[:d]
    array = np.random.default_rng(0).normal(size=shape)
    tiny = Frame(shape, (0.001,) * d, (0.0,) * d, np.eye(d))
    coarse = Frame((3,) * d, (spacing,) * d, tiny.centre - spacing, np.eye(d))
    found = resample(Image(array, tiny, ""), coarse, background=-7.0).array
    middle = (1,) * d
    np.testing.assert_allclose(found[middle], array.mean(), atol=1e-6)
    found[middle] = -7.0
    assert (found == -7.0).all()


def test_labels_keep_their_values_and_type():
    frame = Frame((20, 20), (1, 1), (0, 0), np.eye(2))
    labels = np.random.default_rng(0).choice([0, 3, 700], frame.shape).astype(np.int16)
    result = resample(
        Image(labels, frame, ""), isotropic_frame(frame, 3), interpolation="nearest"
    )
    assert result.array.dtype == np.int16
    assert set(np.unique(result.array)) <= {0, 3, 700}


def test_resample_has_the_background_outside():
    frame = Frame((4, 4), (1, 1), (0, 0), np.eye(2))
    away = Frame((4, 4), (1, 1), (100, 0), np.eye(2))
    image = Image(np.arange(-8.0, 8.0).reshape(4, 4), frame, "")
    assert (resample(image, away).array == -8).all()
    assert (resample(image, away, background=5.0).array == 5).all()
    assert (resample(image, away, background=0.0).array == 0).all()
    assert (resample(image, away, interpolation="nearest").array == 0).all()


@every_frame
def test_transforms_map_points_of_the_frame_to_points_of_the_image(frame):
    d = frame.ndim
    transform = sitk.AffineTransform(d)
    transform.SetMatrix(rotation(d, 0.05).ravel().tolist())
    transform.SetCenter(frame.centre.tolist())
    transform.SetTranslation([0.3] * d)
    array = np.random.default_rng(0).normal(size=frame.shape).astype(np.float32)
    result = resample(Image(array, frame, ""), frame, transform, background=0.0)
    expected = sitk.Resample(to_sitk(array, frame), transform)
    np.testing.assert_allclose(
        result.array, sitk.GetArrayFromImage(expected), atol=1e-5
    )


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        *((dtype, np.float32) for dtype in (np.uint8, np.int16, np.float32)),
        *((dtype, np.float64) for dtype in (np.int32, np.uint32, np.float64)),
        *((dtype, np.float64) for dtype in (np.int64, np.uint64)),
    ],
)
def test_without_smoothing_the_result_is_that_of_itk(interpolation, dtype, kept):
    frame = Frame((7, 8, 9), (2.0, 1.5, 1.0), (3.0, -8.0, 40.0), rotation(3, 0.3))
    largest = 1 << 30 if np.dtype(dtype).itemsize > 2 else 200
    array = np.random.default_rng(0).uniform(0, largest, frame.shape).astype(dtype)
    transform = sitk.TranslationTransform(3, (0.4, -0.3, 0.7))
    how = {"interpolation": interpolation, "background": 0.0, "smooth": False}
    found = resample(Image(array, frame, ""), frame, transform, **how).array
    itk = {"linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline3}[interpolation]
    source = sitk.Cast(to_sitk(array, frame), sitk.sitkFloat64)
    expected = sitk.GetArrayFromImage(sitk.Resample(source, transform, itk))
    assert found.dtype == kept
    bound = 1e-6 * largest if kept == np.float32 else 0.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("interpolation", ["linear", "bspline", "nearest"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [(np.int32, 2**24 + 1), (np.uint32, 2**32 - 1), (np.int64, 2**40 + 1)],
)
def test_whole_numbers_are_warped_without_loss(interpolation, dtype, value):
    frame = Frame((5, 6), (1.0, 1.0), (0.0, 0.0), np.eye(2))
    image = Image(np.full(frame.shape, value, dtype), frame, "")
    same = sitk.Transform(2, sitk.sitkIdentity)
    warped = warp_image(image, frame, same, interpolation=interpolation).array
    assert warped.dtype == dtype
    np.testing.assert_array_equal(warped, image.array)


@pytest.mark.parametrize("shape", [(7, 8), (5, 7, 12)], ids=str)
def test_average_is_the_mean_of_blocks(shape):
    d = len(shape)
    factors = (2, 3, 1)[:d]
    array = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    spacing, direction = (0.7, 1.5, 2.0)[:d], rotation(d, 0.4)
    image = Image(array, Frame(shape, spacing, (3.0, -8.0, 40.0)[:d], direction), "i")
    found = average(image, factors)
    assert found.array.dtype == np.float32
    for index in np.ndindex(*found.frame.shape):
        block = tuple(
            slice(k * i, k * (i + 1)) for i, k in zip(index, factors, strict=True)
        )
        within = array[block]
        if within.shape == factors:
            assert found.array[index] == pytest.approx(within.mean(), abs=1e-3)
            corner = [b.start for b in block]
            middle = np.add(corner, (np.array(factors) - 1) / 2)
            np.testing.assert_allclose(
                to_world(found.frame, index), to_world(image.frame, middle)
            )
    # The last block is filled up with its last voxel, so no part is lost.
    assert found.frame.shape == tuple(
        -(-n // k) for n, k in zip(shape, factors, strict=True)
    )
