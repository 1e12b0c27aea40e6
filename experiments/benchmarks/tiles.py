"""Predict a large pair by tiles within a memory limit, and measure the seams."""

import time

import jax
import numpy as np

from regnet_jax.cli.common import peak_gib
from regnet_jax.geometry import upsample
from regnet_jax.hounsfield import body_mask
from regnet_jax.registration import load_network
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.synthesis import chest

_SHAPE = (400, 512, 512)
_CAP = 6.0
# A crop that can be predicted at once, and a memory limit that makes tiles of it.
_CROP = (slice(100, 300), slice(128, 384), slice(128, 384))
_CROP_CAP = 3.0
# Voxels by which the moving image is shifted.
_SHIFT = (2, -3, 4)


def _volume():
    """Return a chest of 4 mm, interpolated, with the noise of a scan."""
    coarse = chest(jax.random.key(0), [n // 4 for n in _SHAPE], spacing=4.0)
    volume = np.array(upsample(coarse, 4, _SHAPE)[..., 0])
    rng = np.random.default_rng(0)
    for plane in volume:
        plane += 10.0 * rng.standard_normal(plane.shape, np.float32)
    return volume


def _seams(network, fixed, moving):
    """Return the largest difference between tiled and untiled fields, voxels."""
    images = [image[_CROP] for image in (fixed, moving)]
    whole, tiled = (
        predict(network, *images, memory=cap, progress=True)
        for cap in (None, _CROP_CAP)
    )
    return float(np.abs(tiled - whole).max())


def run() -> list[dict]:
    """Predict a large pair with the shipped network.

    Returns:
        A row with the seconds, including compilation; peak memory of the process and
        its limit, GiB; the largest difference that tiles make in a crop of the images,
        and the median error in the body, voxels.
    """
    fixed = _volume()
    moving = np.roll(fixed, _SHIFT, (0, 1, 2))
    network = load_network("lung")
    began = time.perf_counter()
    field = predict(network, fixed, moving, memory=_CAP, progress=True)
    passed = time.perf_counter() - began
    peak = peak_gib()
    # Last, as the untiled crop may raise the peak memory above that of the tiles.
    seams = _seams(network, fixed, moving)
    error = np.abs(field[body_mask(fixed)] - np.asarray(_SHIFT, np.float32))
    return [
        {
            "case": f"{_SHAPE[0]} x {_SHAPE[1]} x {_SHAPE[2]}",
            "seconds": passed,
            "peak_gib": peak,
            "cap_gib": _CAP,
            "seams": seams,
            "median_error": float(np.median(error)),
        }
    ]
