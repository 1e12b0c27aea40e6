"""Registration in the world, against geometry that is known."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.spatial import Frame, Image, from_sitk, to_sitk, to_world
from tests.helpers import networks
from tests.helpers.networks import smooth_image

MARGIN, STRIDE = 26, 2
SHIFT = {2: np.array([1.25, -0.5]), 3: np.array([1.25, -0.5, 0.75])}


def register(fixed, moving, network, **options):
    """With the network's voxels, though the images are smaller than any body."""
    options = {"voxel_size": network.spacing, "intensity": "none"} | options
    return regnet_jax.register(fixed, moving, network, **options)


TILE = {2: 5, 3: 3}


def turn(d, angle=0.4):
    if d == 2:
        return Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    return Rotation.from_rotvec(angle * np.array([0.4, 0.8, -0.45])).as_matrix()


# Direction of the file and, rounded to whole axes, the rest of it: the
# anatomical axes that the network's grid follows.
DIRECTIONS = {
    "2d plain": (np.eye(2), np.eye(2)),
    "2d flipped": (np.diag([-1, 1]), np.eye(2)),
    "2d permuted": (np.eye(2)[::-1], np.eye(2)),
    "2d oblique": (turn(2), turn(2)),
    "2d oblique and flipped": (turn(2) @ np.diag([1, -1]), turn(2)),
    "3d plain": (np.eye(3), np.eye(3)),
    "3d flipped": (np.diag([-1, 1, -1]), np.eye(3)),
    "3d left-handed": (np.diag([1, 1, -1]), np.eye(3)),
    "3d permuted": (np.eye(3)[[1, 2, 0]], np.eye(3)),
    "3d oblique and permuted": (turn(3) @ np.eye(3)[[2, 0, 1]], turn(3)),
}
directions = pytest.mark.parametrize("case", DIRECTIONS)


def image(direction, seed=0, dtype=np.float32):
    """Anisotropic, and nowhere near the origin of the world."""
    d = len(direction)
    shape, spacing = (10, 13, 12)[:d], (2.0, 1.5, 3.0)[:d]
    frame = Frame(shape, spacing, (-80, 12, 300)[:d], direction)
    return Image(smooth_image(shape, seed).astype(dtype), frame, f"image{seed}")


def fake(d, field, spacing=4.0):
    """A network whose field is ``field(scaled intensities [..., 1])``, voxels."""

    def apply(fixed, moving):
        cut = tuple(slice(MARGIN, n - MARGIN, STRIDE) for n in fixed.shape[1:-1])
        return field(fixed[(slice(None), *cut)])

    return networks.fake(d, spacing, apply, tile=TILE[d])


def constant(d):
    def field(values):
        return np.broadcast_to(SHIFT[d], (*values.shape[:-1], d)).astype(np.float32)

    return fake(d, field)


def homogeneous(d):
    """Something that is neither rigid nor centred."""
    matrix = np.eye(d + 1)
    matrix[:d, :d] += np.random.default_rng(1).normal(scale=0.1, size=(d, d))
    matrix[:d, d] = np.arange(d) * 2.0 - 5.0
    return matrix


def points_inside(frame, count=40, margin=0.0):
    rng = np.random.default_rng(2)
    high = np.array(frame.shape) - 1 - margin
    return to_world(frame, rng.uniform(margin, high, (count, frame.ndim)))


def mapped(registration, points):
    return np.array([registration.transform.TransformPoint(p) for p in points.tolist()])


@directions
def test_constant_shift_in_voxels_is_the_same_shift_in_the_world(case):
    direction, anatomical = DIRECTIONS[case]
    d = len(direction)
    fixed, moving = image(direction), image(direction, seed=1)
    result = register(fixed, moving, constant(d), initial="none")
    shift = anatomical @ (4.0 * SHIFT[d][::-1])
    points = points_inside(fixed.frame)
    np.testing.assert_allclose(mapped(result, points), points + shift, atol=1e-4)
    for vectors, frame in (
        (result.displacement, fixed.frame),
        (result.residual, result.grid),
    ):
        expected = np.broadcast_to(shift, (*frame.shape, d))
        np.testing.assert_allclose(vectors, expected, atol=1e-4)


@directions
def test_transform_applies_the_residual_and_then_the_affine(case):
    """The residual grows along a ramp of the fixed image, so its place counts."""
    direction, anatomical = DIRECTIONS[case]
    d = len(direction)
    moving = image(direction, seed=1)
    slope = np.array([0.006, -0.009, 0.004])[:d]
    frame = moving.frame

    def seen(points):
        return 0.4 + (points - frame.centre) @ slope

    grid = to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))
    fixed = Image(seen(grid) * 4095.0 - 1000.0, frame, "ramp")
    network = fake(d, lambda v: (SHIFT[d] * np.asarray(v)).astype(np.float32), 2.0)
    affine = homogeneous(d)
    # Three times as wide, so that it shows all that is mapped into it.
    wide = dataclasses.replace(
        frame,
        spacing=3 * np.array(frame.spacing),
        origin=to_world(frame, 1 - np.array(frame.shape)),
    )
    moving = Image(moving.array, wide, moving.name)
    result = register(fixed, moving, network, initial=affine)
    # Away from the border, where the ramp ends.
    points = points_inside(frame, margin=4.0)
    residual = seen(points)[:, None] * (anatomical @ (2.0 * SHIFT[d][::-1]))
    expected = (points + residual) @ affine[:d, :d].T + affine[:d, d]
    np.testing.assert_allclose(mapped(result, points), expected, atol=0.01)
    np.testing.assert_array_equal(result.affine, affine)


def test_network_receives_the_moving_image_through_the_affine():
    """With the affine that made the fixed image both inputs are the same."""
    direction = turn(2) @ np.diag([1, -1])
    moving = image(direction, seed=1)
    affine = np.eye(3)
    affine[:2, 2] = moving.frame.matrix @ [2, -3]
    rolled = np.full_like(moving.array, moving.array.min())
    rolled[:-2, 3:] = moving.array[2:, :-3]
    seen = []

    def apply(fixed, moving):
        cut = (slice(None), *(slice(MARGIN, n - MARGIN) for n in fixed.shape[1:-1]))
        seen.append(np.abs(fixed[cut] - moving[cut]))
        return np.zeros((1, 9, 9, 2), np.float32)

    network = networks.fake(2, 1.5, apply, tile=9)
    register(Image(rolled, moving.frame, "rolled"), moving, network, initial=affine)
    # The smoothing of the moving grid meets its border at other places.
    inner = seen[0][0, 4:-6, 7:-4, 0]
    assert inner.size > 4
    assert np.median(inner) < 1e-3


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_warped_image_equals_resampling_by_itk(dtype):
    fixed, moving = image(turn(2)), image(np.diag([-1, 1]), seed=1)
    moving = Image(
        np.clip(moving.array - moving.array.min(), 0, 250).astype(dtype),
        moving.frame,
        "moving",
    )
    result = register(fixed, moving, constant(2), initial="center")
    assert result.warped.array.dtype == dtype
    assert result.warped.frame == result.frame == fixed.frame
    expected = sitk.Resample(
        sitk.Cast(to_sitk(moving.array, moving.frame), sitk.sitkFloat64),
        to_sitk(fixed.array, fixed.frame),
        result.transform,
        sitk.sitkLinear,
        float(moving.array.min()),
    )
    tolerance = 0.51 if np.issubdtype(dtype, np.integer) else 1e-3
    np.testing.assert_allclose(
        result.warped.array, sitk.GetArrayFromImage(expected), atol=tolerance
    )


@pytest.mark.parametrize("d", [2, 3])
def test_contradicting_directions_cancel_in_the_symmetric_field(d):
    """The network says the same shift both ways, so the field half way is zero."""
    fixed, moving = image(np.eye(d)), image(np.eye(d), seed=1)
    options = {"initial": "none", "inverse_consistent": True}
    result = register(fixed, moving, constant(d), **options)
    # The iterations end at 0.01 voxel of 4 mm.
    np.testing.assert_allclose(result.displacement, 0.0, atol=0.04)
    twice = 2 * 4.0 * np.linalg.norm(SHIFT[d])
    apart = result.parameters["disagreement"]
    assert apart["mean_mm"] == pytest.approx(twice, rel=1e-5)
    assert apart["p95_mm"] == pytest.approx(twice, rel=1e-5)


def test_network_receives_intensities_mapped_by_the_preset():
    seen = []

    def apply(fixed, moving):
        seen.append([np.asarray(i) * 4095.0 - 1000.0 for i in (fixed, moving)])
        return np.zeros((1, 5, 5, 2), np.float32)

    network = networks.fake(2, 1.5, apply, tile=TILE[2])
    ct = image(np.eye(2))
    mr = Image(np.abs(ct.array) / 4.0, ct.frame, "mr")
    result = register(ct, mr, network, initial="none", intensity="auto")
    presets = {"fixed": "ct", "moving": "mr", "network": "auto", "given": False}
    assert result.parameters["intensity"] == presets
    fixed, moving = seen[0]
    assert fixed.min() >= ct.array.min() - 1
    assert moving.min() == pytest.approx(-1000.0, abs=1.0)
    assert 300.0 < moving.max() < 401.0
    with pytest.raises(InputError, match="pet: is no intensity preset"):
        register(ct, mr, network, intensity="pet")


def reorder(image, order, flips):
    """The same voxels at the same places of the world in another order, by ITK."""
    stored = sitk.PermuteAxes(to_sitk(image.array, image.frame), order)
    return from_sitk(sitk.Flip(stored, [bool(f) for f in flips]), image.name)


def move(image, matrix, offset):
    """The same voxels elsewhere in the world."""
    frame = image.frame
    d = frame.ndim
    direction = matrix @ np.reshape(frame.direction, (d, d))
    origin = matrix @ np.array(frame.origin) + offset
    return Image(
        image.array, Frame(frame.shape, frame.spacing, origin, direction), image.name
    )


def gradients(d, spacing):
    """A network that knows left from right: its field follows both images' slopes."""

    def apply(fixed, moving):
        cut = tuple(slice(MARGIN, n - MARGIN, STRIDE) for n in fixed.shape[1:-1])
        both = 20.0 * np.asarray(fixed) - 12.0 * np.asarray(moving)
        slopes = [np.gradient(both[0, ..., 0], axis=k)[cut] for k in range(d)]
        scale = np.arange(1.0, d + 1.0) + 2.0
        return (np.stack(slopes, -1) * scale)[None].astype(np.float32)

    return networks.fake(d, spacing, apply, tile=TILE[d])


def pair(shape, spacing):
    """Two images that a small shift and a bend set apart."""
    d = len(shape)
    frame = Frame(shape, spacing, (30, -40, 55)[:d], np.eye(d))
    array = smooth_image(shape, seed=5)
    bent = sitk.Resample(
        to_sitk(array, frame), sitk.TranslationTransform(d, [1.7] * d), sitk.sitkLinear
    )
    return Image(array, frame, "fixed"), Image(
        sitk.GetArrayFromImage(bent) * 0.9, frame, "moving"
    )


POSES = {
    "2d, only the moving image": (2, None, ([1, 0], [True, False]), False),
    "2d, both": (2, ([1, 0], [False, True]), ([0, 1], [True, True]), False),
    "2d, both and turned": (2, ([0, 1], [True, False]), None, True),
    "3d, both": (3, ([2, 0, 1], [1, 0, 0]), ([1, 0, 2], [0, 1, 1]), False),
    "3d, both and turned": (3, ([1, 2, 0], [0, 1, 0]), ([0, 2, 1], [1, 1, 0]), True),
}


@pytest.fixture(scope="module")
def plain():
    """Pairs, networks and registrations as stored plainly, made once."""
    results = {}

    def get(d, network2d):
        if d not in results:
            shape = (31, 44) if d == 2 else (14, 20, 17)
            network = network2d if d == 2 else gradients(3, 3.0)
            fixed, moving = pair(shape, (2.0, 1.5, 2.5)[:d])
            result = register(fixed, moving, network, initial="affine")
            results[d] = network, fixed, moving, result
        return results[d]

    return get


@pytest.mark.parametrize("case", POSES)
def test_transform_does_not_depend_on_storage_and_pose(plain, network2d, case):
    d, order_fixed, order_moving, turned = POSES[case]
    network, fixed, moving, reference = plain(d, network2d)
    assert np.std(reference.residual, axis=tuple(range(d))).min() > 0.05
    matrix = turn(d) if turned else np.eye(d)
    offset = np.array([12.0, -7.0, 30.0])[:d] if turned else np.zeros(d)
    others = []
    for one, order in ((fixed, order_fixed), (moving, order_moving)):
        one = one if order is None else reorder(one, *order)
        others.append(move(one, matrix, offset))
    result = register(*others, network, initial="affine")
    points = points_inside(fixed.frame)
    expected = mapped(reference, points) @ matrix.T + offset
    found = mapped(result, points @ matrix.T + offset)
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_network_of_another_dimension_is_refused():
    plane = image(np.eye(2))
    with pytest.raises(InputError, match=r"3D and image0 is\s+2D"):
        register(plane, image(np.eye(2), seed=1), constant(3))


def test_images_of_different_dimensions_are_refused():
    with pytest.raises(InputError, match="same dimension"):
        register(image(np.eye(2)), image(np.eye(3), seed=1), constant(2))


def test_unknown_alignment_is_refused():
    with pytest.raises(InputError, match="deformable"):
        register(
            image(np.eye(2)), image(np.eye(2), 1), constant(2), initial="deformable"
        )


def test_register_does_not_change_its_images():
    fixed, moving = image(turn(2)), image(np.eye(2), seed=1)
    copies = fixed.array.copy(), moving.array.copy()
    result = register(fixed, moving, constant(2), initial="rigid")
    np.testing.assert_array_equal(fixed.array, copies[0])
    np.testing.assert_array_equal(moving.array, copies[1])
    assert set(result.seconds) == {"alignment", "prediction", "resampling"}
