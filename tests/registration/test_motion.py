"""The motion of a series: amplitude, path and mid-position of known displacements."""

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.registration.motion import (
    find_mid_position,
    find_region,
    measure_motion,
    summarise,
)
from regnet_jax.spatial import Frame, Image, composite, to_world
from tests.helpers.chest import chest
from tests.helpers.frames import rotation
from tests.helpers.networks import smooth_image

FRAMES = {
    "2D": Frame((21, 26), (1.5, 2.0), (-12.0, 30.0), rotation(2, 0.3)),
    "3D": Frame((13, 18, 15), (2.0, 1.5, 2.5), (5.0, -20.0, 8.0), rotation(3, 0.4)),
    "flipped": Frame(
        (12, 17, 14), (2.0, 2.5, 1.5), (9.0, 4.0, 0.0), np.diag([1.0, -1.0, -1.0])
    ),
}
frames = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def grid(frame):
    return to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))


def interior(frame, margin=3):
    return (slice(margin, -margin),) * frame.ndim


@pytest.mark.parametrize("cycle", [True, False])
@pytest.mark.parametrize("d", [2, 3])
def test_motion_on_a_circle_has_its_diameter_and_its_chords(d, cycle):
    """Points go around circles of several radii, from one point of them."""
    count, radius = 8, np.random.default_rng(d).uniform(0, 5, (4, 5, 6)[:d])
    angles = 2 * np.pi * np.arange(count) / count
    fields = []
    for angle in angles:
        field = np.zeros((*radius.shape, d))
        field[..., 0] = radius * (np.cos(angle) - 1)
        field[..., d - 1] = radius * np.sin(angle)
        fields.append(field)
    motion = measure_motion(iter(fields), cycle=cycle)
    chord = 2 * np.sin(np.pi / count) * radius
    np.testing.assert_allclose(motion.amplitude, 2 * radius, rtol=1e-5, atol=1e-6)
    chords = count - 1 + cycle
    np.testing.assert_allclose(motion.path, chords * chord, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(motion.mean[..., 0], -radius, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(motion.mean[..., 1:], 0, atol=1e-5)


@frames
def test_mid_position_of_stretched_phases_is_stretched_by_the_mean(frame):
    """Phase k is the reference, stretched by 1 + a[k] about a point."""
    points = grid(frame)
    offset = points - frame.centre
    stretches = (0.0, 0.1, -0.05, 0.15)
    fields = [a * offset for a in stretches]
    motion = measure_motion(fields)
    mid = find_mid_position(frame, motion.mean)
    assert mid.lost == 0
    mean = 1 + np.mean(stretches)
    inner = interior(frame)
    back = (1 / mean - 1) * offset
    np.testing.assert_allclose(mid.back[inner], back[inner], atol=0.03)
    for a, field in zip(stretches, fields, strict=True):
        expected = ((1 + a) / mean - 1) * offset
        found = mid.displacement(field)
        np.testing.assert_allclose(found[inner], expected[inner], atol=0.05)


@frames
def test_displacement_from_the_mid_position_equals_the_transforms_of_itk(frame):
    rng = np.random.default_rng(1)
    waves = [
        1.2 * np.sin(grid(frame) / 9 + phase) for phase in rng.uniform(0, 6, (3, 1))
    ]
    mid = find_mid_position(frame, np.mean(waves, axis=0))
    eye = np.eye(frame.ndim + 1)
    # ITK applies the transform that was added last first.
    chain = sitk.CompositeTransform(
        [composite(frame, waves[0], eye), composite(frame, mid.back, eye)]
    )
    found = mid.displacement(waves[0])
    for index in rng.integers(4, np.array(frame.shape) - 4, (20, frame.ndim)):
        point = to_world(frame, index)
        expected = np.subtract(chain.TransformPoint(point.tolist()), point)
        np.testing.assert_allclose(found[tuple(index)], expected, atol=1e-3)
        # The mean of the phases lies at the point itself.
    means = np.mean([mid.displacement(wave) for wave in waves], axis=0)
    assert np.abs(means[interior(frame, 4)]).max() < 0.1


def blob(frame, centre, dtype):
    squares = ((grid(frame) - centre) ** 2).sum(-1)
    return (1000 * np.exp(-squares / (2 * 6.0**2)) - 300).astype(dtype)


@frames
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_mid_position_shows_the_anatomy_at_its_mean_position(frame, dtype):
    """A blob that moves, and a phase whose grid ends: it does not count beyond."""
    d = frame.ndim
    shifts = np.array([[0, 0, 0], [4, -1, 2], [-1, 2, 3], [1, 3, -1]])[:, :d]
    images, fields = [], []
    for shift in shifts.astype(float):
        array = blob(frame, frame.centre + shift, dtype)
        images.append(Image(array, frame, "phase"))
        fields.append(np.broadcast_to(shift, (*frame.shape, d)))
    half = Frame(
        (frame.shape[0] // 2, *frame.shape[1:]),
        frame.spacing, frame.origin, frame.direction,
    )  # fmt: skip
    images[2] = Image(images[2].array[: half.shape[0]], half, "half")
    result = summarise(images[0], [lambda i=i: i for i in images], fields.__getitem__)
    mid = result.mid_position
    assert mid.array.dtype == dtype
    assert mid.frame == frame
    expected = blob(frame, frame.centre + shifts.mean(axis=0), np.float64)
    # Interpolation lowers the top of the blob a little.
    inner = interior(frame, 4)
    assert np.abs(mid.array[inner] - expected[inner]).max() < 60
    weights = mid.array[inner] + 300.0
    where = (grid(frame)[inner] * weights[..., None]).reshape(-1, d).sum(0)
    blurred = expected[inner] + 300.0
    there = (grid(frame)[inner] * blurred[..., None]).reshape(-1, d).sum(0)
    np.testing.assert_allclose(where / weights.sum(), there / blurred.sum(), atol=0.1)
    lengths = np.linalg.norm(shifts, axis=-1)
    assert [row["mean_mm"] for row in result.phases] == pytest.approx(lengths)
    assert [row["mean_x_mm"] for row in result.phases] == pytest.approx(shifts[:, 0])
    assert ("mean_z_mm" in result.phases[0]) == (d == 3)
    # Registered, every phase is the reference.
    views = result.views
    assert len(views.before) == len(views.after) == len(images)
    np.testing.assert_array_equal(views.before[0], views.after[0])
    inner = (slice(4, -4),) * 2
    for k in (1, 3):
        assert np.abs(views.after[k] - views.after[0])[inner].max() < 60
        assert np.abs(views.before[k] - views.before[0])[inner].max() > 100


def test_folded_mean_is_said():
    frame = FRAMES["3D"]
    field = 12 * np.random.default_rng(0).normal(size=(*frame.shape, 3))
    image = Image(smooth_image(frame.shape) + 2000, frame, "a")
    result = summarise(image, [lambda: image] * 2, lambda _: field)
    assert any("the mean displacement folds at" in line for line in result.warnings)


def test_region_is_the_lungs_the_body_or_all_that_is_shown():
    frame = Frame((30, 34, 38), (7.0, 7.0, 7.0), (0, 0, 0), np.diag([-1.0, -1, 1]))
    array = chest(frame, frame.centre, -800.0).astype(np.int16)
    found = find_region(Image(array, frame, "chest"))
    assert found.name == "lungs"
    np.testing.assert_array_equal(found.mask, array == -800)
    plane = Frame(frame.shape[1:], frame.spacing[:2], (0, 0), np.eye(2))
    slices = Image(array[15], plane, "slice")
    found = find_region(slices)
    assert found.name == "body"
    np.testing.assert_array_equal(found.mask, array[15] > -1000)
    found = find_region(Image(array + 2000, frame, "something else"))
    assert found.name == "image"
    assert found.mask.all()
