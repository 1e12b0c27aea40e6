"""Trains a network on artificial deformations; the same command again resumes.

Example:
    python -m experiments.train --config regnet2d_2017 --workdir runs/regnet2d_2017
"""

from pathlib import Path

import jax
from absl import flags

from experiments import cli, configs
from regnet_jax.errors import InputError
from regnet_jax.models import make_model
from regnet_jax.synthesis import FAMILIES
from regnet_jax.training import config as settings
from regnet_jax.training.loop import METRICS, describe, train

_CONFIG = flags.DEFINE_string("config", None, "Experiment to run.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, config, metrics.", required=True
)
_STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Stop at this step; the default is the end of the experiment.",
    lower_bound=1,
)
_OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "KEY=VALUE, for example data.spacing=2.0; may be repeated."
)

_COUNTS = ("pairs", "steps", "save_every", "evaluate_every", "evaluation_pairs")


def _check(config):
    """Refuses what has the right type and cannot be run, before anything is made."""
    data, devices = config.data, jax.local_device_count()
    unknown = [name for name in data.families if name not in FAMILIES]
    if unknown:
        known = ", ".join(FAMILIES)
        raise InputError(f"data.families={unknown[0]}: unknown; there are {known}")
    numbers = {
        **{f"data.{key}": getattr(data, key) for key in ("spacing", "windows")},
        **{key: getattr(config, key) for key in _COUNTS},
    }
    for key, value in numbers.items():
        if not 0 < value < float("inf"):
            raise InputError(f"{key}={value}: give a positive number")
    if config.pairs % devices:
        raise InputError(f"pairs={config.pairs}: give a multiple of {devices} devices")
    if len(data.shape) not in (2, 3) or min(data.shape) < data.window:
        shape = ",".join(map(str, data.shape))
        raise InputError(
            f"data.shape={shape}: give 2 or 3 numbers, none below the window of"
            f" {data.window} voxels"
        )
    make_model(config.model, dimensions=len(data.shape))


def main():
    """Reads the flags, trains, and says what was written."""
    config = settings.override(configs.load(_CONFIG.value), _OVERRIDE.value)
    _check(config)
    folder = Path(_WORKDIR.value)
    evaluation = train(config, folder, until=_STEPS.value)
    for family, result in evaluation.items():
        print(f"{family:8s}{describe(result)}")
    print(f"wrote checkpoints, config.json and {METRICS} to {folder}")


if __name__ == "__main__":
    cli.run(main)
