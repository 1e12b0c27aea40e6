"""Prediction of a whole pair by every network that ships or can be built."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import configs
from experiments.benchmarks.timing import peak_gib, seconds
from regnet_jax.models import make_model
from regnet_jax.registration.network import make_network
from regnet_jax.registration.prediction import predict
from regnet_jax.synthesis import chest

_SHAPE = (160, 160, 160)
# Untrained networks take as long as trained ones.
_CONFIGS = ("lung3d", "regnet3d_2017")


def _untrained(name):
    config = configs.load(name)
    model = make_model(config.model, dimensions=3)
    window = jnp.zeros((1, *(config.data.window,) * 3, 1))
    variables = model.init(jax.random.key(0), window, window, train=False)
    return make_network(config, variables)


def run() -> list[dict]:
    """Times the prediction on a grid of 160^3 voxels.

    Returns:
        A row for each network: seconds, the ratio to the first, and the most memory
        the process has held until then, GiB.
    """
    volume = np.asarray(chest(jax.random.key(0), _SHAPE, spacing=2.0)[..., 0])
    rows = []
    for name in _CONFIGS:
        network = _untrained(name)
        (time,) = seconds([lambda n=network: predict(n, volume, volume)], repeats=2)
        rows.append({"case": name, "seconds": time, "peak_gib": peak_gib()})
    for row in rows:
        row["times_the_first"] = row["seconds"] / rows[0]["seconds"]
    return rows
