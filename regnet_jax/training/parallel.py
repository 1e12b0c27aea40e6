"""Data parallelism: the only file that knows there is more than one device.

State is replicated and each device draws its own part of the global batch, so the
only communication is the sum of gradients and of batch-norm statistics.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

AXIS = "devices"


def sum_over_devices(tree):
    """Adds a tree of arrays over all devices, inside a data-parallel step.

    Args:
        tree: any pytree.

    Returns:
        The sums, the same on every device.
    """
    return jax.lax.psum(tree, AXIS)


def first_device() -> jax.sharding.Sharding:
    """Where arrays lie that a single device of this process holds."""
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def replicate(tree):
    """Places a tree on all local devices, as a data-parallel step leaves it.

    A state that came from elsewhere would make the step compile a second time.

    Args:
        tree: any pytree of arrays.

    Returns:
        The same values.
    """
    copy = jax.pmap(lambda _, t: t, axis_name=AXIS, in_axes=(0, None), out_axes=None)
    return copy(jnp.arange(jax.local_device_count()), tree)


def data_parallel(step: Callable, *, samples: int) -> Callable:
    """Spreads a training step over all local devices.

    Args:
        step: ``step(state, stream, indices, scans) -> (state, metrics)``, where
            indices are the global numbers of the samples that this device draws,
            and state and metrics leave it equal on all devices.
        samples: global batch, a multiple of the number of local devices.

    Returns:
        ``step(state, stream, scans=()) -> (state, metrics)``, compiled; the given
        state's memory is reused and must not be touched again.

    Raises:
        ValueError: if the batch cannot be spread evenly.
    """
    devices = jax.local_device_count()
    if samples % devices:
        raise ValueError(f"{samples} samples do not spread over {devices} devices")
    indices = jnp.arange(samples).reshape(devices, -1)
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, None, 0, None),
        out_axes=None,
        donate_argnums=0,
    )
    return lambda state, stream, scans=(): mapped(state, stream, indices, scans)
