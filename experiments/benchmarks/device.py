"""Registration and training on whatever device JAX finds, and their memory."""

import dataclasses
import math
import time

import jax
import numpy as np

from experiments import configs
from experiments.benchmarks.timing import seconds, start_steps
from regnet_jax.registration.inference.network import load_network
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.registration.refinement import refine_on_body
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest

_SHAPE, _SPACING = (160, 160, 160), 2.0
_REFINEMENT = 50
# Training steps in a timed call.
_STEPS = 10


def run() -> list[dict]:
    """Time prediction, refinement and training of the shipped network for chest CT.

    Returns:
        A row for each with the device, the seconds and the peak memory of the device
        up to then, GiB, or NaN where it does not report it; and for training pairs per
        second, and the fraction of the time that the sampling takes.
    """
    key = jax.random.key(0)
    volume = chest(key, _SHAPE, spacing=_SPACING)
    pair = artificial_pair(
        key, volume, FAMILIES["respiratory"], spacing=_SPACING, noise=5.0
    )
    images = [np.asarray(pair.fixed[..., 0]), np.asarray(pair.moving[..., 0])]
    network = load_network("lung")
    field = predict(network, *images)
    (predicting,) = seconds([lambda: predict(network, *images)], repeats=3)
    rows = [_row("prediction, 160^3 voxels", predicting)]

    def refined():
        return refine_on_body(*images, field, steps=_REFINEMENT, spacing=_SPACING)

    (refining,) = seconds([refined], repeats=3)
    rows.append(_row(f"{_REFINEMENT} steps of refinement, 160^3 voxels", refining))
    return [*rows, _training()]


def _training() -> dict:
    """Time steps of `lung`: with many pairs at once on an accelerator, two on a CPU."""
    config = configs.load("lung3d_long")
    batch, at_once = config.batch_size, config.pairs_at_once
    if jax.default_backend() == "cpu":
        batch, at_once = 2, 1
    devices = jax.device_count()
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, scan_probability=0.0),
        batch_size=batch * devices,
        pairs_at_once=at_once,
        steps_per_call=_STEPS,
    )
    advance, times = start_steps(config), []
    # To compile; with sampling alone; with updates.
    for end in (0, 0, 10**6):
        began = time.perf_counter()
        advance(end)
        times.append((time.perf_counter() - began) / _STEPS)
    _, sampling, step = times
    row = _row(f"a training step, {config.batch_size} pairs of 64^3 voxels", step)
    rate = config.batch_size / step
    return row | {"pairs_per_second": rate, "generating": sampling / step}


def _row(case: str, time: float) -> dict:
    """Return a row with the device that computed it and its peak of memory so far."""
    device = jax.devices()[0]
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use", math.nan)
    name = f"{jax.device_count()} x {device.device_kind}"
    return {
        "case": case,
        "device": name,
        "seconds": time,
        "device_peak_gib": peak / 2**30,
    }
