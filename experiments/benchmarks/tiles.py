"""A large pair, predicted tile by tile within a cap of memory, and its seams."""

import time

import jax
import numpy as np

from experiments.toolkit.memory import peak_gib
from regnet_jax.geometry import upsample
from regnet_jax.registration import load_network
from regnet_jax.registration.prediction import predict
from regnet_jax.synthesis import chest

_SHAPE = (400, 512, 512)
_CAP = 6.0
# Voxels by which the moving image is shifted.
_SHIFT = (2, -3, 4)


def _volume():
    """A chest drawn at 4 mm and interpolated, with the texture of a scan's noise."""
    coarse = chest(jax.random.key(0), [n // 4 for n in _SHAPE], spacing=4.0)
    volume = np.array(upsample(coarse, 4, _SHAPE)[..., 0])
    rng = np.random.default_rng(0)
    for plane in volume:
        plane += 10.0 * rng.standard_normal(plane.shape, np.float32)
    return volume


def _roughness(field, axis):
    """Mean second difference across each plane that is normal to an axis."""
    field = np.moveaxis(field, axis, 0)
    return np.array(
        [
            np.abs(field[i - 1] - 2 * field[i] + field[i + 1])[::4, ::4].mean()
            for i in range(1, len(field) - 1)
        ]
    )


def run() -> list[dict]:
    """Predicts with the shipped network.

    Returns:
        A row: seconds, with compilation; peak memory of the process, and cap, GiB; and
        the roughness of the field across the roughest plane, in that of the rougher
        half of planes. A seam would stand out.
    """
    fixed = _volume()
    moving = np.roll(fixed, _SHIFT, (0, 1, 2))
    network = load_network("lung")
    began = time.perf_counter()
    field = predict(network, fixed, moving, memory=_CAP, progress=True)
    passed = time.perf_counter() - began
    peak = peak_gib()
    ratios = []
    for axis in range(3):
        rough = _roughness(field, axis)
        ratios.append(float(rough.max() / np.quantile(rough, 0.75)))
    error = float(np.median(np.abs(field - np.asarray(_SHIFT, np.float32))))
    return [
        {
            "case": f"{_SHAPE[0]} x {_SHAPE[1]} x {_SHAPE[2]}",
            "seconds": passed,
            "peak_gib": peak,
            "cap_gib": _CAP,
            "roughest_plane": max(ratios),
            "median_error": error,
        }
    ]
