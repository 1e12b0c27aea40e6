"""Artificial pairs whose truth is known: what transform.h5 says of points and images.

The network is replaced by the truth, or by the truth and a known error, at the voxels
of its grid. Fixed and moving lie in different frames; the world sees one map.
"""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from regnet_jax.evaluation import registration_errors
from regnet_jax.io import write_displacement, write_transform
from regnet_jax.registration import register as module
from regnet_jax.spatial import (
    Frame,
    Image,
    affine_transform,
    canonical_frame,
    composite,
    isotropic_frame,
    to_index,
    to_sitk,
    to_world,
    total_displacement,
)
from tests.helpers.networks import dense

SPACING = 2.0
TOLERANCE = 0.02  # mm


def turn(d, angle):
    if d == 2:
        return Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    return Rotation.from_rotvec(angle * np.array([0.4, 0.8, -0.45])).as_matrix()


SWAPPED = np.eye(3)[[2, 0, 1]]
# Directions of the fixed and of the moving image.
CASES = {
    "2d anisotropic": (np.eye(2), np.eye(2)),
    "2d oblique, flipped": (turn(2, 0.4), np.diag([-1, 1])),
    "2d permuted, oblique": (np.eye(2)[::-1], turn(2, -0.3) @ np.diag([1, -1])),
    "3d anisotropic": (np.eye(3), np.eye(3)),
    "3d oblique, flipped": (turn(3, 0.4), np.diag([-1, 1, -1])),
    "3d permuted, oblique": (SWAPPED, turn(3, -0.3) @ SWAPPED.T),
    "3d all": (turn(3, 0.5) @ SWAPPED @ np.diag([1, -1, 1]), turn(3, 1.1)),
}
cases = pytest.mark.parametrize("case", CASES)
few = pytest.mark.parametrize("case", ["2d oblique, flipped", "3d all"])


def about(centre, shape, spacing, direction):
    frame = Frame(shape, spacing, (0,) * len(shape), direction)
    return Frame(shape, spacing, np.subtract(centre, frame.centre), direction)


class Scene:
    """A pair of a texture that is known everywhere, and the map between its images."""

    def __init__(self, case):
        directions = CASES[case]
        self.d = d = len(directions[0])
        self.centre = np.array([-40.0, 130.0, 900.0])[:d]
        self.fixed_frame = about(
            self.centre, (30, 40, 34)[:d], (2.0, 1.5, 2.5)[:d], directions[0]
        )
        # Larger, so that all that the fixed image shows is in it.
        self.moving_frame = about(
            self.centre + 4, (66, 62, 70)[:d], (1.7, 2.1, 1.9)[:d], directions[1]
        )
        self.affine = np.eye(d + 1)
        self.affine[:d, :d] = turn(d, 0.05)
        self.affine[:d, d] = self.centre - turn(d, 0.05) @ self.centre + 3.0
        self.fixed = Image(self.texture(self.truth(self._grid(self.fixed_frame))),
                           self.fixed_frame, "fixed")  # fmt: skip
        self.moving = Image(
            self.texture(self._grid(self.moving_frame)), self.moving_frame, "moving"
        )
        canonical = canonical_frame(self.fixed_frame)
        self.grid_frame = isotropic_frame(canonical, SPACING)

    @staticmethod
    def _grid(frame):
        return to_world(frame, np.moveaxis(np.indices(frame.shape), 0, -1))

    def texture(self, points):
        offset = points - self.centre
        return (200 * np.sin(offset / 9).sum(-1) - 300).astype(np.float32)

    def residual(self, points, size=6.0, phase=0.0):
        """Vectors, mm, x first, that change over hundreds of millimetres."""
        offset = (points - self.centre) / 45.0
        return size * np.sin(np.roll(offset, 1, -1) + np.arange(self.d) + phase)

    def truth(self, points):
        moved = points + self.residual(points)
        return moved @ self.affine[: self.d, : self.d].T + self.affine[: self.d, -1]

    def predicted(self, extra):
        """``predict`` that says the truth and ``extra(points)`` (mm)."""

        def predict(network, fixed, moving, **options):
            assert fixed.shape == moving.shape == self.grid_frame.shape
            points = self._grid(self.grid_frame)
            vectors = self.residual(points) + extra(points)
            # Into voxels of the grid by its matrix, on the other way than io's.
            return np.linalg.solve(
                self.grid_frame.matrix, vectors[..., None]
            )[..., 0].astype(np.float32)  # fmt: skip

        return predict


@pytest.fixture
def registered(monkeypatch):
    def run(scene, extra, initial=None):
        monkeypatch.setattr(module, "predict", scene.predicted(extra))
        monkeypatch.setattr(module, "compile_ahead", lambda *_, **__: None)
        network = dense(scene.d, SPACING)
        return module.register(
            scene.fixed,
            scene.moving,
            network,
            initial=scene.affine if initial is None else initial,
            intensity="none",
            voxel_size=SPACING,
        )

    return run


def landmarks(scene, count=200):
    rng = np.random.default_rng(0)
    high = np.array(scene.fixed_frame.shape) - 2.0
    return to_world(scene.fixed_frame, rng.uniform(1.0, high, (count, scene.d)))


@cases
def test_landmark_errors_are_the_errors_of_the_prediction(registered, tmp_path, case):
    scene = Scene(case)

    def wrong(points):
        return scene.residual(points, size=1.5, phase=1.0)

    result = registered(scene, wrong)
    write_transform(tmp_path / "transform.h5", result.transform)
    transform = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    points = landmarks(scene)
    mapped = np.array([transform.TransformPoint(p) for p in points.tolist()])
    found = registration_errors(mapped, scene.truth(points))
    expected = np.linalg.norm(wrong(points), axis=1)
    assert expected.min() > 0.1
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@cases
def test_true_prediction_aligns_points_and_images(registered, case):
    scene = Scene(case)
    result = registered(scene, lambda points: np.zeros_like(points))
    points = landmarks(scene)
    mapped = np.array([result.transform.TransformPoint(p) for p in points.tolist()])
    np.testing.assert_allclose(mapped, scene.truth(points), atol=TOLERANCE)
    # The texture is sampled by the moving voxels, linearly.
    inner = (slice(1, -1),) * scene.d
    difference = (result.warped.array - scene.fixed.array)[inner]
    assert np.abs(difference).max() < 0.03 * np.ptp(scene.fixed.array)
    before = scene.texture(scene._grid(scene.fixed_frame)) - scene.fixed.array
    assert np.abs(before[inner]).max() > 0.3 * np.ptp(scene.fixed.array)


@cases
def test_displacement_is_the_whole_map(registered, case):
    scene = Scene(case)
    result = registered(scene, lambda points: np.zeros_like(points))
    points = scene._grid(scene.fixed_frame)
    # Up to half a voxel of the grid the field is continued by its edge.
    inner = (slice(1, -1),) * scene.d
    expected = scene.truth(points) - points
    np.testing.assert_allclose(
        result.displacement[inner], expected[inner], atol=TOLERANCE
    )


def known_start(scene, kind, folder):
    """The true map as what ``initial`` takes."""
    frame = scene.fixed_frame
    if kind == "smaller":
        # A displacement that covers the middle alone is continued by its edge.
        index = (np.array(frame.shape) - 1) / 4
        frame = Frame(np.array(frame.shape) // 2, frame.spacing,
                      to_world(frame, index), frame.direction)  # fmt: skip
    residual = scene.residual(scene._grid(frame))
    if kind == "composite":
        return composite(frame, residual, scene.affine)
    write_displacement(
        folder / "u.mha", total_displacement(frame, residual, scene.affine), frame
    )
    if kind == "chain":
        inverse = np.linalg.inv(scene.affine)
        write_transform(folder / "back.tfm", affine_transform(inverse))
        write_displacement(folder / "u.mha", residual, frame)
        return f"{folder}/u.mha,inverse:{folder}/back.tfm"
    return folder / "u.mha"


@few
@pytest.mark.parametrize("kind", ["composite", "file", "chain"])
def test_the_truth_as_the_start_needs_no_prediction(registered, tmp_path, case, kind):
    """The network sees two equal images, and what is written is the total."""
    scene, images = Scene(case), []

    def nothing(points):
        return -scene.residual(points)

    def seen(predict):
        def call(network, fixed, moving, **options):
            images.extend((fixed, moving))
            return predict(network, fixed, moving, **options)

        return call

    scene.predicted = lambda extra: seen(Scene.predicted(scene, extra))
    result = registered(scene, nothing, known_start(scene, kind, tmp_path))
    inner = (slice(2, -2),) * scene.d
    before = np.ptp(images[0][inner])
    assert np.abs(images[0] - images[1])[inner].max() < 0.06 * before
    points = landmarks(scene)
    for transform in (
        result.transform,
        sitk.DisplacementFieldTransform(
            to_sitk(result.displacement.astype(np.float64), scene.fixed_frame)
        ),
    ):
        mapped = np.array([transform.TransformPoint(p) for p in points.tolist()])
        np.testing.assert_allclose(mapped, scene.truth(points), atol=TOLERANCE)
    assert result.parameters["initial"] == "given"


@few
def test_a_prediction_maps_before_the_start(registered, tmp_path, case):
    """The total is ``T(x + v(x))``, at the border of the image too."""
    scene = Scene(case)

    def found(points):
        return scene.residual(points, size=3.0, phase=2.0)

    start = known_start(scene, "file", tmp_path)
    result = registered(scene, lambda x: found(x) - scene.residual(x), start)
    # Beyond the field that was given, its edge continues it.
    points = landmarks(scene)
    moved = points + found(points)
    index = to_index(scene.fixed_frame, moved)
    inside = ((index > 1) & (index < np.array(scene.fixed_frame.shape) - 2)).all(-1)
    assert 0.5 < inside.mean() < 1.0
    mapped = np.array([result.transform.TransformPoint(p) for p in points.tolist()])
    off = np.linalg.norm(mapped - scene.truth(moved), axis=1)
    assert off[inside].max() < TOLERANCE
    assert off.max() < 0.5


@few
def test_a_smaller_start_is_continued(registered, tmp_path, case):
    scene = Scene(case)
    start = known_start(scene, "smaller", tmp_path)
    result = registered(scene, lambda points: -scene.residual(points), start)
    points = to_world(
        scene.fixed_frame,
        np.random.default_rng(0).uniform(0.3, 0.7, (50, scene.d))
        * (np.array(scene.fixed_frame.shape) - 1),
    )
    mapped = np.array([result.transform.TransformPoint(p) for p in points.tolist()])
    np.testing.assert_allclose(mapped, scene.truth(points), atol=TOLERANCE)
    # No vector jumps to zero: all are near those of the smooth truth.
    grid = scene._grid(scene.fixed_frame)
    assert np.abs(grid + result.displacement - scene.truth(grid)).max() < 5.0


@few
def test_identities_give_what_no_start_gives(registered, tmp_path, case):
    scene = Scene(case)

    def none(points):
        return np.zeros_like(points)

    expected = registered(scene, none, "none")
    frame = scene.fixed_frame
    write_displacement(tmp_path / "u.nii.gz", none(scene._grid(frame)), frame)
    for start in (tmp_path / "u.nii.gz", np.eye(scene.d + 1)):
        result = registered(scene, none, start)
        np.testing.assert_allclose(
            result.displacement, expected.displacement, atol=2e-3
        )
        np.testing.assert_allclose(result.warped.array, expected.warped.array, atol=0.5)
