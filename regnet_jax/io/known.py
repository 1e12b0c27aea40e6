"""The files of a pair, read and checked against each other."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.images import Image, check_pair, read_frame, read_image
from regnet_jax.io.labels import read_labels
from regnet_jax.io.landmarks import read_landmarks
from regnet_jax.io.pairs import Pair
from regnet_jax.io.resampling import read_mask


class KnownPair(NamedTuple):
    """A pair in memory, with what is known of it.

    Attributes:
        fixed: image that stays.
        moving: image that is warped.
        fixed_mask: where to align the fixed image, or None.
        moving_mask: the same for the moving image.
        points: fixed and moving landmarks that correspond, ``[n, d]``, mm; or None.
        labels: fixed and moving label maps, or None.
    """

    fixed: Image
    moving: Image
    fixed_mask: Image | None = None
    moving_mask: Image | None = None
    points: tuple[np.ndarray, np.ndarray] | None = None
    labels: tuple[Image, Image] | None = None


def check_files(pair: Pair, dimensions: int | None = None) -> list[str]:
    """What keeps a pair from being used, as far as headers tell.

    Args:
        pair: its paths.
        dimensions: that its images must have; None for any.

    Returns:
        A line for each thing that is wrong; none where nothing is.
    """
    problems = []

    def attempt(read, *arguments):
        try:
            return read(*arguments)
        except (InputError, OSError) as error:
            problems.append(str(error))
            return None

    fixed, moving = attempt(read_frame, pair.fixed), attempt(read_frame, pair.moving)
    known = fixed or moving
    wanted = dimensions or (known and known.ndim)
    others = (pair.fixed_mask, pair.moving_mask, pair.fixed_labels, pair.moving_labels)
    frames = {pair.fixed: fixed, pair.moving: moving}
    frames |= {path: attempt(read_frame, path) for path in others if path}
    problems += [
        f"{path}: is {frame.ndim}D where {wanted}D is needed; list another"
        for path, frame in frames.items()
        if frame and frame.ndim != wanted
    ]
    if pair.fixed_points and pair.moving_points and fixed and moving:
        paths = (pair.fixed_points, pair.moving_points)
        attempt(read_landmarks, paths, (fixed, moving))
    if pair.displacement and not Path(pair.displacement).exists():
        problems.append(f"{pair.displacement}: does not exist; check the path")
    return problems


def read_pair(pair: Pair) -> KnownPair:
    """Reads images, masks, landmarks and label maps of a pair.

    Args:
        pair: its paths.

    Returns:
        What the paths hold.

    Raises:
        InputError: if a file cannot be read, or does not fit the others.
    """
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    check_pair(fixed, moving)
    masks = (
        path and read_mask(path, image.frame)
        for path, image in ((pair.fixed_mask, fixed), (pair.moving_mask, moving))
    )
    points = labels = None
    if pair.fixed_points and pair.moving_points:
        paths = (pair.fixed_points, pair.moving_points)
        points = read_landmarks(paths, (fixed.frame, moving.frame))
    if pair.fixed_labels and pair.moving_labels:
        labels = read_labels(pair.fixed_labels), read_labels(pair.moving_labels)
    return KnownPair(fixed, moving, *masks, points, labels)
