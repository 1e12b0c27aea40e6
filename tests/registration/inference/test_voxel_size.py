"""The voxel size that fits the size of what the images show."""

import numpy as np
import pytest

from regnet_jax.errors import InputError
from regnet_jax.registration.inference.voxel_size import (
    check_voxel_size,
    choose_voxel_size,
)
from regnet_jax.spatial import Frame


def frame(shape, spacing):
    d = len(shape)
    spacing = (spacing,) * d if np.isscalar(spacing) else spacing
    return Frame(shape, spacing, (0.0,) * d, np.eye(d))


@pytest.mark.parametrize(
    "image",
    [
        frame((128, 256, 256), (1.95, 1.95, 2.5)),
        frame((27, 183, 152), (1.3, 1.3, 5.0)),
        frame((400, 512, 512), 0.8),
        frame((900, 512, 512), (0.97, 0.97, 2.0)),
        frame((256, 256), 1.5),
        frame((1, 200, 200), (1.5, 1.5, 8.0)),
        frame((3, 512, 512), (0.7, 0.7, 0.6)),
        frame((4, 320, 3), (0.8, 0.8, 1.0)),
    ],
    ids=["chest", "liver", "thin", "whole body", "slice", "one slice", "slab", "beam"],
)
def test_images_of_people_get_the_voxels_of_the_network(image):
    assert choose_voxel_size(image, image, 2.0) == 2.0


@pytest.mark.parametrize("factor", [16.0, 2000.0, 1 / 30.0])
@pytest.mark.parametrize("shape", [(64, 60, 76), (60, 76)], ids=str)
def test_others_get_as_many_voxels_as_a_chest_has(factor, shape):
    chest = frame(shape, 300.0 / np.prod(shape) ** (1 / len(shape)))
    other = frame(shape, np.divide(chest.spacing, factor))
    got = choose_voxel_size(other, other, 2.0)
    # Not finer than half of the voxels of the images themselves.
    want = max(2.0, chest.spacing[0] / 2 if factor > 1 else 0) / factor
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_larger_image_decides():
    chest, crop = frame((64, 60, 76), 4.0), frame((9, 10, 11), 4.0)
    assert choose_voxel_size(chest, crop, 2.0) == 2.0
    assert choose_voxel_size(crop, chest, 2.0) == 2.0


def test_a_voxel_size_fits_the_image():
    image = frame((30, 40, 50), (2.0, 3.0, 4.0))
    assert check_voxel_size(None, image) is None
    assert check_voxel_size(np.float32(1.5), image) == 1.5
    with pytest.raises(InputError, match="billion voxels; choose a larger one"):
        check_voxel_size(0.05, image)
    with pytest.raises(InputError, match="choose a smaller one"):
        check_voxel_size(61.0, image)
