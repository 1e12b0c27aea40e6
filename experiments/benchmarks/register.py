"""Time the prediction of a whole pair by every network, in one pass."""

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from experiments import configs
from experiments.benchmarks.timing import seconds
from regnet_jax.cli.common import peak_gib
from regnet_jax.models import MODELS, make_model
from regnet_jax.registration.inference.network import make_network
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.synthesis import chest
from regnet_jax.training.config import with_model
from regnet_jax.training.inference import inference_config

_SHAPE = (160, 160, 160)


def _untrained(name):
    """Return an untrained network of one pass, which is as fast as a trained one."""
    config = with_model(configs.load("lung3d"), name, 32)
    data = dataclasses.replace(config.data, scales=(1.0,))
    model = make_model(name, dimensions=3)
    patch = jnp.zeros((1, *config.patch_shape, 1))
    init = jax.jit(model.init, static_argnames="train")
    variables = init(jax.random.key(0), patch, patch, train=False)
    config = dataclasses.replace(config, data=data)
    return make_network(inference_config(config), variables)


def _predicted(name: str) -> dict:
    """Return the seconds, and the peak memory of this process, which must be new."""
    volume = np.asarray(chest(jax.random.key(0), _SHAPE, spacing=2.0)[..., 0])
    network = _untrained(name)
    (time,) = seconds([lambda: predict(network, volume, volume)], repeats=1)
    return {"case": name, "seconds": time, "peak_gib": peak_gib()}


def run() -> list[dict]:
    """Time the prediction on a grid of 160^3 voxels, each in a process of its own.

    Returns:
        A row for each network: seconds, peak memory in GiB with sampling and
        compilation, and the ratio of the seconds to those of the first.
    """
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, max_tasks_per_child=1) as pool:
        rows = list(pool.map(_predicted, MODELS))
    for row in rows:
        row["times_the_first"] = row["seconds"] / rows[0]["seconds"]
    return rows
