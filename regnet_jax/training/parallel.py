"""Data parallelism: the only file that knows there is more than one device.

State is replicated and each device draws its own share of the global batch, so the
only communication is the sum of gradients and of batch-norm statistics.

This file owns ``pmap``, which spreads the step over the devices of one process. Of
several processes, the results of a ``pmap`` cannot be written to a checkpoint, so there
``shard_map`` does the same. All other files call ``data_parallel``, ``replicate`` and
``local_values`` and cannot tell which of the two it was.
"""

import os
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"

# Under a launcher that JAX knows, the variable that tells how many processes it
# started; on a TPU pod, the names of its hosts.
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
    """Make this process one of several that train together, before anything else.

    Args:
        coordinator: ``HOST:PORT`` of process 0; None under a launcher that JAX knows.
        count: how many processes there are.
        number: of this one, from 0.
    """
    jax.distributed.initialize(coordinator, count, number)


def is_main() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def is_distributed() -> bool:
    """Return whether this process trains together with others."""
    return jax.process_count() > 1


def broadcast_from_main(value: float) -> float:
    """Return the number that process 0 has, in all processes."""
    if not is_distributed():
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float64(value)))


def is_preempted(call: int) -> bool:
    """Return whether one of several processes was sent SIGTERM.

    Args:
        call: how many calls there were before, the same in all processes.

    Returns:
        True in all of them at the same call; False for a single process, where a
        signal is the program's own affair.
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

    A state that came from elsewhere would make the step compile a second time.
    Nothing is sent: every process gives the same values.

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
        step: ``step(state, indices, *shared) -> (state, metrics)``, where indices
            are the global numbers of the samples that this device draws, and state
            and metrics leave it equal on all devices.
        samples: global batch, a multiple of the number of devices.

    Returns:
        ``step(state, *shared) -> (state, metrics)``, compiled; the given state's
        memory is reused and must not be touched again.

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
            # As with pmap, the step itself says what is summed over devices.
            check_vma=False,
        )(state, indices, shared)

    return lambda state, *shared: spread(state, indices, shared)


def _indices(samples: int) -> np.ndarray:
    """Return a row of sample numbers for each device."""
    devices = jax.device_count()
    if samples % devices:
        raise ValueError(f"{samples} samples do not spread over {devices} devices")
    return np.arange(samples, dtype=np.int32).reshape(devices, -1)
