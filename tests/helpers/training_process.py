"""Trains the tiny model, alone or as one of several processes.

python -m tests.helpers.training_process FOLDER STEPS [HOST:PORT COUNT NUMBER]
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import jax

from regnet_jax.models import registry
from regnet_jax.training import parallel
from regnet_jax.training.config import EvaluationConfig
from tests.helpers import tiny


def main(folder, steps, coordinator=None, count=None, number=None):
    jax.config.update("jax_num_cpu_devices", 4 // int(count or 1))
    if coordinator:
        parallel.join_processes(coordinator, count=int(count), number=int(number))
    registry.MODELS["tiny"] = tiny.Tiny
    config = tiny.TINY
    if int(steps) > config.steps:
        config = dataclasses.replace(
            config, steps=int(steps), evaluation=EvaluationConfig(every=10**6)
        )
    if number and os.environ.get("SIGTERM_TO") == number:
        os.kill(os.getpid(), signal.SIGTERM)
    evaluation = tiny.train(config, Path(folder), until=int(steps))
    print("evaluated" if evaluation else "stopped", jax.device_count())


if __name__ == "__main__":
    main(*sys.argv[1:])
