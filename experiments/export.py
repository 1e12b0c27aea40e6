"""Add a checkpoint of a run to the shipped weights.

Example:
    python -m experiments.export --workdir runs/lung3d --name lung

With --mean_with the weights are the mean of two networks, one of which started its
training from the other; the mean keeps abilities of the first that the second lost.
Statistics of batch normalisation are estimated anew, on pairs as in the training; its
scans are needed where the network has any. Afterwards --model lung of the other
commands means these weights. They are plain arrays of half precision with a checksum.
Write the model card CARD.md beside them.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from absl import flags

from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.pretrained import CARD, InferenceConfig, read_weights
from regnet_jax.pretrained.inference import read_inference
from regnet_jax.pretrained.weights import write_shipped
from regnet_jax.training.checkpoint import read_config, restore_variables
from regnet_jax.training.config import to_json
from regnet_jax.training.normalisation import reestimate_statistics

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_BEST = flags.DEFINE_bool(
    "best", False, "Take the checkpoint with the best evaluation, not the newest."
)
_MEAN_WITH = flags.DEFINE_string(
    "mean_with", None, "Network that ships, or folder of a run, to average with."
)
_NAME = flags.DEFINE_string("name", None, "Name of the network.", required=True)


def mean_weights(variables, config: InferenceConfig, name: str):
    """Return the mean of the weights of two networks.

    Args:
        variables: of the first.
        config: how the first is used.
        name: of the second: a shipped network or the folder of a run.

    Returns:
        Variables.

    Raises:
        InputError: if the networks are of different kinds.
    """
    other_config, other = read_weights(name)
    shapes, other_shapes = (jax.tree.map(np.shape, tree) for tree in (variables, other))
    if other_config.model != config.model or shapes != other_shapes:
        raise InputError(f"--mean_with {name}: is not the network of --workdir")
    return jax.tree.map(lambda a, b: 0.5 * (np.asarray(a) + b), variables, other)


def main():
    """Read the run, write the weights, and print where they are."""
    folder = Path(_WORKDIR.value)
    config, inference = read_config(folder), read_inference(folder)
    variables = restore_variables(folder, best=_BEST.value)
    if _MEAN_WITH.value:
        variables = mean_weights(variables, inference, _MEAN_WITH.value)
    cache = common.cache_folder() / "volumes"
    variables = reestimate_statistics(variables, config, cache=cache)
    # The folder of the scans on this machine is of no use elsewhere.
    scans = dataclasses.replace(config.scans, file=Path(config.scans.file).name)
    config = dataclasses.replace(config, scans=scans)
    inference = dataclasses.replace(inference, name=_NAME.value)
    home = write_shipped(inference, variables, training=to_json(config))
    print(f"wrote {home}; describe the network in {home / CARD}")


if __name__ == "__main__":
    common.run(main)
