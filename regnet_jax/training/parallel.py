"""Data parallelism; no other module deals with more than one device.

The state is replicated and each device samples its own share of the global batch, so
the only communication is the sum of gradients and of batch-norm statistics.

Within one process, ``pmap`` spreads the step over the devices. With several processes
the results of ``pmap`` cannot be written to a checkpoint, so ``shard_map`` is used
there. Other modules call ``data_parallel``, ``replicate`` and ``local_values``, which
hide the difference.
"""

import os
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"

# Variables with the number of processes, set by launchers that JAX supports; on a TPU
# pod, the names of its hosts.
_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_POD = "TPU_WORKER_HOSTNAMES"


def launched_with_others(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether Slurm, Open MPI or a TPU pod started this process with others.

    Args:
        environment: variables of the process.

    Returns:
        True if ``join_processes`` needs no arguments.
    """
    counts = [environment.get(name, "1") for name in _LAUNCHERS]
    hosts = environment.get(_POD, "").split(",")
    return len(hosts) > 1 or any(n.isdigit() and int(n) > 1 for n in counts)


def join_processes(
    coordinator: str | None = None,
    *,
    count: int | None = None,
    number: int | None = None,
) -> None:
    """Join this process to others that train together, before JAX is used.

    Args:
        coordinator: ``HOST:PORT`` of process 0; None under a launcher that JAX
            supports.
        count: number of processes.
        number: index of this process, from 0.
    """
    jax.distributed.initialize(coordinator, count, number)


def is_main() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def is_distributed() -> bool:
    """Return whether this process trains together with others."""
    return jax.process_count() > 1


def broadcast_from_main(value: float) -> float:
    """Return the value of process 0 in all processes."""
    if not is_distributed():
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float64(value)))


def is_preempted(call: int) -> bool:
    """Return whether one of several processes was sent SIGTERM.

    Args:
        call: number of earlier calls, the same in all processes.

    Returns:
        True in all processes at the same call; always False for a single process,
        which handles the signal itself.
    """
    return is_distributed() and multihost_utils.reached_preemption_sync_point(call)


def sum_over_devices(tree):
    """Add a tree of arrays over all devices, inside a data-parallel step.

    Args:
        tree: any pytree.

    Returns:
        The sums, the same on every device.
    """
    return jax.lax.psum(tree, AXIS)


def _everywhere() -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(jax.devices()), (AXIS,)), PartitionSpec())


def replicate(tree):
    """Place a tree on all devices, as a data-parallel step leaves it.

    A state with another placement would make the step compile a second time. Nothing is
    sent, as every process has the same values.

    Args:
        tree: any pytree of arrays.

    Returns:
        The same values.
    """
    sharding = _everywhere()

    def place(array):
        if isinstance(array, jax.Array) and array.sharding == sharding:
            return array
        copies = [jax.device_put(array, device) for device in jax.local_devices()]
        return jax.make_array_from_single_device_arrays(
            jnp.shape(array), sharding, copies
        )

    return jax.tree.map(place, tree)


def local_values(tree):
    """Return a replicated tree on the first device of this process.

    Args:
        tree: any pytree of arrays.

    Returns:
        The same values.
    """

    def first(array):
        replicated = isinstance(array, jax.Array) and len(array.sharding.device_set) > 1
        return array.addressable_shards[0].data if replicated else array

    return jax.tree.map(first, tree)


def data_parallel(step: Callable, *, samples: int) -> Callable:
    """Spread a training step over all devices of all processes.

    Args:
        step: ``step(state, indices, *shared) -> (state, metrics)``, where ``indices``
            are the global indices of the samples of this device; the returned state
            and metrics must be equal on all devices.
        samples: size of the global batch, a multiple of the number of devices.

    Returns:
        ``step(state, *shared) -> (state, metrics)``, compiled; the given state is
        donated and must not be used again.

    Raises:
        ValueError: if the batch cannot be spread evenly.
    """
    return (by_shard_map if is_distributed() else by_pmap)(step, samples=samples)


def by_pmap(step: Callable, *, samples: int) -> Callable:
    """Spread a step over the devices of a single process; see ``data_parallel``."""
    indices = jnp.asarray(_indices(samples))
    mapped = jax.pmap(
        lambda state, row, shared: step(state, row, *shared),
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=None,
        donate_argnums=0,
    )
    return lambda state, *shared: mapped(state, indices, shared)


def by_shard_map(step: Callable, *, samples: int) -> Callable:
    """Spread a step over any number of processes; see ``data_parallel``."""
    rows = _indices(samples)
    everywhere = _everywhere()
    one_each = PartitionSpec(AXIS)
    indices = jax.make_array_from_callback(
        rows.shape, NamedSharding(everywhere.mesh, one_each), lambda index: rows[index]
    )

    @jax.jit(donate_argnums=0)
    def spread(state, indices, shared):
        return jax.shard_map(
            lambda state, row, shared: step(state, row[0], *shared),
            mesh=everywhere.mesh,
            in_specs=(PartitionSpec(), one_each, PartitionSpec()),
            out_specs=PartitionSpec(),
            # As with pmap, the step itself sums over devices.
            check_vma=False,
        )(state, indices, shared)

    return lambda state, *shared: spread(state, indices, shared)


def _indices(samples: int) -> np.ndarray:
    """Return the sample indices of each device as rows."""
    devices = jax.device_count()
    if samples % devices:
        raise ValueError(f"{samples} samples do not spread over {devices} devices")
    return np.arange(samples, dtype=np.int32).reshape(devices, -1)
