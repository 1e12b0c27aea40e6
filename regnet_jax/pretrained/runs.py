"""Weights from the checkpoints of a training run."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from regnet_jax.errors import InputError

# Subfolder of the checkpoints in the folder of a run.
CHECKPOINTS = "checkpoints"
# The best checkpoint is the one with the smallest value of this measure.
RATIO = "ratio"
# The entry of a checkpoint's metadata with the checksum of ``weights_of`` its state.
SUM_OF_WEIGHTS = "weights_sha256"


def ratio(metrics: Mapping) -> float:
    """Return the measure by which checkpoints are compared; smaller is better.

    Args:
        metrics: of the evaluation, with ``RATIO``.

    Returns:
        The measure; infinity in place of NaN, as for a checkpoint without evaluation.
    """
    value = metrics[RATIO]
    return math.inf if math.isnan(value) else value


def checksum_of_values(tree) -> str:
    """Return a checksum of arrays, by which a flipped byte is found.

    Args:
        tree: of arrays of this process.

    Returns:
        SHA-256, hexadecimal.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def weights_of(state: Mapping) -> dict:
    """Return the part of a stored state that predictions depend on."""
    return {name: state[name] for name in ("variables", "average") if name in state}


def restore_variables(folder: Path, *, best: bool = False):
    """Read the variables of a checkpoint of a run.

    Args:
        folder: of the run.
        best: take the checkpoint with the best evaluation instead of the newest.

    Returns:
        The variables for the model's ``apply``, with the EMA of the weights if the run
        keeps one.

    Raises:
        InputError: if the folder holds no checkpoint, if the checkpoint cannot be read,
            is damaged or is not finite, or if ``best`` is set and no checkpoint was
            evaluated.
    """
    # Imported only here, as a registration with shipped weights does not need it.
    import orbax.checkpoint as ocp

    folder = Path(folder)
    if not (folder / CHECKPOINTS).is_dir():
        raise InputError(f"{folder}: no checkpoints here; name the --workdir of a run")
    # No ``read_only``, with which Orbax warns about its own defaults.
    options = ocp.CheckpointManagerOptions(best_fn=ratio, best_mode="min", create=False)
    path = (folder / CHECKPOINTS).resolve()
    with ocp.CheckpointManager(path, options=options) as manager:
        step = manager.best_step() if best else manager.latest_step()
        if step is None:
            raise InputError(f"{folder}: no finished checkpoint; train further")
        if best and not math.isfinite(ratio(manager.metrics(step))):
            raise InputError(
                f"{folder}: no checkpoint has an evaluation that is finite, so none is"
                " the best; train further, or take the newest"
            )
        # The run may have used other devices; restore to the first of this process.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        args = ocp.args.StandardRestore(fallback_sharding=here)
        try:
            state = manager.restore(step, args=args)
        except Exception as error:
            raise InputError(
                f"{folder}: checkpoint {step} cannot be read; train further, which"
                " sets it aside"
            ) from error
        written = (manager.metadata(step).custom_metadata or {}).get(SUM_OF_WEIGHTS)
    # Checkpoints of early versions have no checksum of their weights alone.
    if written is not None and written != checksum_of_values(weights_of(state)):
        raise InputError(
            f"{folder}: the weights of checkpoint {step} are not those that were"
            " written; train further, which sets it aside"
        )
    average = {"params": state["average"]} if "average" in state else {}
    variables = state["variables"] | average
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise InputError(
            f"{folder}: the weights of checkpoint {step} are not finite, so it predicts"
            f" nothing; remove {folder / CHECKPOINTS / str(step)} to take the one"
            " before, or train again with a lower learning_rate"
        )
    return variables
