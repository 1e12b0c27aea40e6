"""Train a network on artificial deformations; the same command again resumes.

Example:
    python -m experiments.train --config regnet2d_2017 --workdir runs/regnet2d_2017

--config is the name of a file in experiments/configs, or the path of a .py file of your
own that defines CONFIG. --override data.spacing=4.0 changes a value of it. SIGTERM
saves and ends a run early. A step whose loss, gradient or weights are not finite ends
the run with status 3; the newest checkpoint is then the state before that step.
Processes that Slurm, Open MPI or a TPU pod starts together train together; elsewhere
--coordinator, --processes and --process_id join them. All of them must be able to read
and write --workdir. At its end a run writes its curves to curves.png in that folder;
tensorboard --logdir DIR shows them with images.
"""

import json
from pathlib import Path

from absl import flags

from experiments import configs
from experiments.real_pairs import make_measure
from regnet_jax.cli import common
from regnet_jax.errors import InputError
from regnet_jax.files import write_atomically
from regnet_jax.reporting import training_figure
from regnet_jax.training import parallel
from regnet_jax.training.config import name_former_keys, override
from regnet_jax.training.logs import METRICS, describe
from regnet_jax.training.loop import train

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "Experiment to run: a name, or the path of a .py file with a CONFIG.",
    required=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, config, metrics.", required=True
)
_STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Stop at this step; the default is the end of the experiment.",
    lower_bound=1,
)
_MINUTES = flags.DEFINE_float(
    "minutes",
    None,
    "Stop and save after this time; the same command again resumes.",
    lower_bound=0.0,
)
_OVERRIDE = flags.DEFINE_multi_string(
    "override",
    [],
    "KEY=VALUE, for example optimizer.learning_rate=5e-4; may be repeated.",
)
_REAL_PAIRS = flags.DEFINE_string(
    "real_pairs", None, "CSV or JSON of pairs with landmarks or labels to evaluate on."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0, where no launcher sets it; auto leaves it to JAX.",
)
_PROCESSES = flags.DEFINE_integer(
    "processes", None, "Number of processes that train together.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Number of this process, from 0.", lower_bound=0
)


def _join():
    """Join the other processes of a distributed run, if there are any."""
    given = (_COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value)
    alone = given == (None, None, None)
    if given == ("auto", None, None) or (alone and parallel.launched_with_others()):
        parallel.join_processes()
    elif not alone:
        incomplete = given[0] == "auto" or any(value is None for value in given)
        if incomplete or given[2] >= given[1]:
            raise InputError(
                "--coordinator, --processes and --process_id: give all three, the last"
                " below the number of processes, or none, or --coordinator auto alone"
            )
        parallel.join_processes(given[0], count=given[1], number=given[2])


def _draw_curves(folder: Path) -> None:
    """Plot the numbers of every step that the run has logged."""
    lines = (folder / METRICS).read_text("utf-8").splitlines()
    figure = training_figure([json.loads(line) for line in lines])
    write_atomically(folder / "curves.png", lambda name: figure.savefig(name, dpi=110))


def main():
    """Read the flags, train, and print what was written."""
    _join()
    config = override(configs.load(_CONFIG.value), _OVERRIDE.value)
    folder = Path(_WORKDIR.value)
    measure = make_measure(config, _REAL_PAIRS.value) if _REAL_PAIRS.value else None
    with name_former_keys(_OVERRIDE.value):
        evaluation = train(
            config,
            folder,
            until=_STEPS.value,
            minutes=_MINUTES.value,
            measure=measure,
            cache=common.cache_folder() / "volumes",
        )
    if not parallel.is_main():
        return
    if not evaluation:
        print("stopped before the last step; the same command again goes on")
    _draw_curves(folder)
    for family, result in evaluation.items():
        print(f"{family:12s} {describe(result)}")
    print(f"wrote checkpoints, config.json, {METRICS} and curves.png to {folder}")


if __name__ == "__main__":
    common.run(main)
