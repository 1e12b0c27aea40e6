"""Boxes around bodies that are known, and the way there and back."""

import numpy as np
import pytest

from regnet_jax.registration.inference.boxes import body_region

MARGIN, STEP = 8, 32
# Shape of the grid, and first and last voxel of a body in it.
BODIES = {
    "2d": ((90, 71), (20, 13), (41, 60)),
    "2d, to the border": ((45, 64), (0, 30), (44, 63)),
    "3d": ((33, 50, 61), (12, 9, 25), (13, 47, 40)),
}


def scene(case):
    shape, first, last = BODIES[case]
    image = np.full(shape, -1000, np.int16)
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    image[box] = 40
    return image


@pytest.mark.parametrize("case", BODIES)
def test_the_box_is_the_body_and_a_margin(case):
    shape, first, last = BODIES[case]
    image = scene(case)
    if image.ndim == 3:
        image.flat[[3, 1700]] = 3000  # a few bright voxels are no body
    region = body_region(image)
    assert region.grid == shape
    assert region.start == tuple(max(a - MARGIN, 0) for a in first)
    ends = zip(last, shape, strict=True)
    assert region.stop == tuple(min(b + 1 + MARGIN, n) for b, n in ends)


@pytest.mark.parametrize("case", BODIES)
def test_what_is_cut_out_comes_back_to_its_place(case):
    image = scene(case)
    region = body_region(image)
    d = image.ndim
    index = np.moveaxis(np.indices(image.shape), 0, -1).astype(np.float32)
    part = region.cut(index, -5.0)
    assert part.dtype == np.float32
    sizes = np.subtract(region.stop, region.start)
    assert part.shape == (*(-(-n // STEP) * STEP for n in sizes), d)
    filled = np.ones(part.shape[:-1], bool)
    filled[tuple(slice(n) for n in sizes)] = False
    assert (part[filled] == -5.0).all()
    assert (part[~filled] != -5.0).all()
    # Each voxel of the grid gets the vector of the nearest one in the box.
    low, high = np.array(region.start), np.array(region.stop) - 1
    np.testing.assert_array_equal(region.restore(part), np.clip(index, low, high))
    np.testing.assert_array_equal(
        region.cut(image, -1000.0), region.cut(image[..., None], -1000.0)[..., 0]
    )


@pytest.mark.parametrize("shape", [(9, 14), (1, 5), (7, 33, 2)])
def test_without_a_body_all_of_the_grid_counts(shape):
    region = body_region(np.full(shape, -1000.0))
    assert (region.start, region.stop) == ((0,) * len(shape), shape)
    field = np.random.default_rng(0).normal(size=(*shape, len(shape)))
    field = field.astype(np.float32)
    np.testing.assert_array_equal(region.restore(region.cut(field, 0.0)), field)
