"""Trains a network on artificial deformations; the same command again resumes.

Example:
    python -m experiments.train --config regnet2d_2017 --workdir runs/regnet2d_2017
"""

from pathlib import Path

from absl import flags

from experiments import cli, configs
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


def main():
    """Reads the flags, trains, and says what was written."""
    config = settings.override(configs.load(_CONFIG.value), _OVERRIDE.value)
    folder = Path(_WORKDIR.value)
    evaluation = train(config, folder, until=_STEPS.value)
    for family, result in evaluation.items():
        print(f"{family:12s} {describe(result)}")
    print(f"wrote checkpoints, config.json and {METRICS} to {folder}")


if __name__ == "__main__":
    cli.run(main)
