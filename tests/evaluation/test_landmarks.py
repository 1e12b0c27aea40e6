"""Target registration errors against arithmetic by hand."""

import numpy as np

from regnet_jax.evaluation import registration_errors, snap_to_voxels


def test_registration_errors_are_distances():
    warped = [[0, 0, 0], [1, 2, 3], [-5, 0, 0]]
    moving = [[3, 4, 0], [1, 2, 3], [-5, 0, 2.5]]
    np.testing.assert_allclose(registration_errors(warped, moving), [5, 0, 2.5])
    np.testing.assert_allclose(registration_errors([[0, 0]], [[5, 12]]), [13])


TURN = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])


def test_snap_to_voxels_gives_the_nearest_centre():
    """On an oblique anisotropic grid, against the nearest of all centres."""
    matrix, origin = TURN * (2.5, 1.2, 0.9), np.array([10.0, -20.0, 300.0])
    index = np.moveaxis(np.indices((5, 6, 7)), 0, -1).reshape(-1, 3)
    centres = index @ matrix.T + origin
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (4, 5, 6), (50, 3)) @ matrix.T + origin
    distances = np.linalg.norm(points[:, None] - centres, axis=-1)
    found = snap_to_voxels(points, matrix, origin)
    np.testing.assert_allclose(found, centres[distances.argmin(1)], atol=1e-9)
    np.testing.assert_allclose(snap_to_voxels(found, matrix, origin), found, atol=1e-9)


def test_snap_to_voxels_works_in_2d_and_beyond_the_grid():
    found = snap_to_voxels([[1.4, 3.6], [-7.1, 99.0]], np.diag([1.0, 2.0]), (0.5, 0.0))
    np.testing.assert_allclose(found, [[1.5, 4.0], [-7.5, 100.0]])
    assert found.dtype == np.float64
