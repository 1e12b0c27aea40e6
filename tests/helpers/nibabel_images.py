"""What nibabel holds of an image, for tests that run without nibabel."""

from typing import NamedTuple

import numpy as np

from regnet_jax.spatial import to_sitk


class NibabelImage(NamedTuple):
    """The attributes that the library reads, as nibabel's images have them."""

    dataobj: np.ndarray
    affine: np.ndarray | None


def ras_affine(frame):
    """[4, 4], voxel (i, j, k) to mm in RAS, of the points that SimpleITK gives."""
    d = frame.ndim
    image = to_sitk(np.zeros(frame.shape, np.uint8), frame)
    first, *others = (
        np.array(image.TransformIndexToPhysicalPoint(index))
        for index in np.vstack([np.zeros(d, int), np.eye(d, dtype=int)]).tolist()
    )
    affine = np.eye(4)
    affine[:d, 3] = first
    affine[:d, :d] = np.transpose([point - first for point in others])
    affine[:2] *= -1
    return affine


def nibabel_image(image):
    """A ``regnet_jax.Image`` as nibabel would hold it."""
    return NibabelImage(image.array.T, ras_affine(image.frame))
