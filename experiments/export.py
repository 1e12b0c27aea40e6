"""Puts a checkpoint of a run among the shipped weights.

Example:
    python -m experiments.export --workdir runs/lung3d --name lung

Afterwards `--model lung` of the other binaries means these weights. They are plain
arrays of half precision with a checksum; write the model card beside them.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments import cli
from regnet_jax import pretrained
from regnet_jax.training.checkpoint import read_config, restore_variables
from regnet_jax.training.config import to_json

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_BEST = flags.DEFINE_bool(
    "best", False, "Take the checkpoint with the best evaluation, not the newest."
)
_NAME = flags.DEFINE_string("name", None, "What to call the network.", required=True)


def main():
    """Reads the run, writes the weights, and says where they are."""
    folder = Path(_WORKDIR.value)
    config = read_config(folder)
    variables = restore_variables(folder, best=_BEST.value)
    # The place of the scans is this machine's affair.
    config = dataclasses.replace(config, scans=Path(config.scans).name)
    home = pretrained.write(_NAME.value, to_json(config), variables)
    print(f"wrote {home}; describe the network in {home / pretrained.CARD}")


if __name__ == "__main__":
    cli.run(main)
