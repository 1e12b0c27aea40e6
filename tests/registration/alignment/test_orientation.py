"""Mirrored images are warned of, and half a turn is undone."""

import logging

import numpy as np
import pytest

from regnet_jax.registration.alignment.linear import align
from tests.helpers.bodies import FRAMES, SHIFT, corner_error, image_of, motion_of, turn


def reversed_pair(signs):
    """The body, and the body turned a little and reversed along some axes."""
    d = len(signs)
    true = motion_of(turn(d, 8) @ np.diag(signs).astype(float), SHIFT)
    return true, image_of(FRAMES[d][0]), image_of(FRAMES[d][1], true)


@pytest.mark.parametrize(
    ("signs", "kind"),
    [
        ((-1, 1), "rigid"),
        ((1, -1), "affine"),
        ((-1, -1), "affine"),
        ((-1, 1, 1), "affine"),
        ((1, 1, -1), "rigid"),
        ((-1, -1, 1), "affine"),
        ((1, -1, -1), "rigid"),
        ((-1, -1, -1), "rigid"),
    ],
    ids=str,
)
def test_reversed_axes_are_undone_where_a_turn_explains_them(signs, kind, caplog):
    true, fixed, moving = reversed_pair(signs)
    with caplog.at_level(logging.WARNING):
        found = align(fixed, moving, kind=kind)
    axes = " and ".join(a for a, sign in zip("xyz", signs, strict=False) if sign < 0)
    if np.prod(signs) > 0:
        assert corner_error(found, true) < 0.5
        assert f"turned by half a turn ({axes} are reversed)" in caplog.text
    else:
        assert np.linalg.det(found) > 0
        assert f"looks mirrored along {axes};" in caplog.text


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_images_of_one_orientation_get_no_such_warning(d, noise, caplog):
    true = motion_of(turn(d, 12), SHIFT)
    fixed, moving = image_of(FRAMES[d][0]), image_of(FRAMES[d][1], true)
    rng = np.random.default_rng(0)
    for image in (fixed, moving):
        image.array[...] += rng.normal(0, noise, image.array.shape)
    with caplog.at_level(logging.WARNING):
        align(fixed, moving)
    assert "mirrored" not in caplog.text
    assert "half a turn" not in caplog.text


def test_a_mirrored_symmetric_body_is_not_told_from_its_image(caplog):
    """Its reversal is no evidence of a wrong header."""
    fixed, moving = image_of(FRAMES[3][0]), image_of(FRAMES[3][1])
    fixed.array[...] = (fixed.array + fixed.array[..., ::-1]) / 2
    with caplog.at_level(logging.WARNING):
        align(fixed, fixed)
        align(fixed, moving)
    assert "mirrored" not in caplog.text
