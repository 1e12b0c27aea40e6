"""Intensities as the networks take them."""

import jax.numpy as jnp


def scale_hounsfield(image):
    """Hounsfield units to [0, 1], the scaling of RegNet 2017.

    Args:
        image: any shape, HU. Air outside the scanner's range and metal are cut to
            [-1000, 3095].

    Returns:
        ``(HU + 1000) / 4095``.
    """
    return jnp.clip((image + 1000.0) / 4095.0, 0.0, 1.0)
