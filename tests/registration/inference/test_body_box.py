"""The box around a body: its place, its crop, and the way back."""

import numpy as np
import pytest

from regnet_jax.registration.inference.boxes import body_box

MARGIN, STEP = 8, 16
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
    body = body_box(image)
    assert body.grid == shape
    assert body.start == tuple(max(a - MARGIN, 0) for a in first)
    ends = zip(last, shape, strict=True)
    assert body.stop == tuple(min(b + 1 + MARGIN, n) for b, n in ends)


@pytest.mark.parametrize("case", BODIES)
def test_crops_are_restored_to_their_place(case):
    image = scene(case)
    body = body_box(image)
    d = image.ndim
    index = np.moveaxis(np.indices(image.shape), 0, -1).astype(np.float32)
    part = body.crop(index, -5.0)
    assert part.dtype == np.float32
    sizes = np.subtract(body.stop, body.start)
    assert part.shape == (*(-(-n // STEP) * STEP for n in sizes), d)
    filled = np.ones(part.shape[:-1], bool)
    filled[tuple(slice(n) for n in sizes)] = False
    assert (part[filled] == -5.0).all()
    assert (part[~filled] != -5.0).all()
    # Each voxel of the grid gets the vector of the nearest one in the box.
    low, high = np.array(body.start), np.array(body.stop) - 1
    np.testing.assert_array_equal(body.restore(part), np.clip(index, low, high))
    np.testing.assert_array_equal(
        body.crop(image, -1000.0), body.crop(image[..., None], -1000.0)[..., 0]
    )


@pytest.mark.parametrize("shape", [(9, 14), (1, 5), (7, 33, 2)])
def test_without_a_body_the_box_is_the_grid(shape):
    body = body_box(np.full(shape, -1000.0))
    assert (body.start, body.stop) == ((0,) * len(shape), shape)
    field = np.random.default_rng(0).normal(size=(*shape, len(shape)))
    field = field.astype(np.float32)
    np.testing.assert_array_equal(body.restore(body.crop(field, 0.0)), field)
