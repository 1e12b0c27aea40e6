"""Whole training steps against the same networks in PyTorch.

The steps compute loss, gradients and Adam on given images; sampling is not timed.
"""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.timing import geometric_mean, seconds
from regnet_jax.errors import InputError
from regnet_jax.models import make_model

# Network, patch size, and number of pairs; RegNet predicts at 9^3 positions.
_CASES = (("regnet", 69, 2), ("unet", 64, 2), ("corrnet", 64, 2))
_RATE = 1e-4


def _ours(name, fixed, moving, target):
    """Return a step in JAX that keeps its state, and the number of parameters."""
    model, optimizer = make_model(name, dimensions=3), optax.adam(_RATE)
    init = jax.jit(model.init, static_argnames="train")
    variables = init(jax.random.key(0), fixed[:1], moving[:1], train=False)
    state = [variables, optimizer.init(variables["params"])]

    def error(params, variables):
        field, updates = model.apply(
            {**variables, "params": params},
            *(fixed, moving),
            train=True,
            mutable=["batch_stats"],
        )
        return optax.huber_loss(field, target).mean(), updates

    @jax.jit
    def step(variables, moments):
        value = jax.value_and_grad(error, has_aux=True)
        (loss, updates), gradients = value(variables["params"], variables)
        changes, moments = optimizer.update(gradients, moments)
        params = optax.apply_updates(variables["params"], changes)
        return {**variables, **updates, "params": params}, moments, loss

    def run():
        *state[:], loss = step(*state)
        return loss

    return run, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _theirs(name, fixed, moving, target, *, channels_last: bool):
    """Return the same step in PyTorch."""
    import torch

    from experiments.benchmarks import torch_networks

    networks = {
        "regnet": torch_networks.RegNet,
        "unet": torch_networks.UNet,
        "corrnet": torch_networks.CorrNet,
    }
    order = torch.channels_last_3d if channels_last else torch.contiguous_format
    network = networks[name]().to(memory_format=order)
    arrays = (np.moveaxis(np.asarray(a), -1, 1).copy() for a in (fixed, moving, target))
    fixed, moving, target = (
        torch.from_numpy(a).to(memory_format=order) for a in arrays
    )
    optimizer = torch.optim.Adam(network.parameters(), _RATE)

    def run():
        optimizer.zero_grad()
        loss = torch.nn.functional.huber_loss(network(fixed, moving), target)
        loss.backward()
        optimizer.step()

    return run, sum(p.numel() for p in network.parameters())


def run() -> list[dict]:
    """Time a step of every network.

    Returns:
        A row for each network with the seconds of both, and the library's speed-up over
        PyTorch in the faster of its memory layouts.

    Raises:
        InputError: if PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("--suite step: needs PyTorch; pip install '.[benchmark]'")
    rows = []
    for name, patch, pairs in _CASES:
        keys = jax.random.split(jax.random.key(1), 3)
        shape = (pairs, *(patch,) * 3, 1)
        fixed, moving = (jax.random.uniform(key, shape) for key in keys[:2])
        predictions = 9 if name == "regnet" else patch
        target = jax.random.normal(keys[2], (pairs, *(predictions,) * 3, 3))
        images = (fixed, moving, jnp.asarray(target))
        ours, count = _ours(name, *images)
        both = [_theirs(name, *images, channels_last=c) for c in (False, True)]
        if any(other != count for _, other in both):
            raise AssertionError(f"{name}: {count} and {both[0][1]} parameters differ")
        times = seconds([ours, *(function for function, _ in both)], repeats=3)
        rows.append(
            {
                "case": f"{name}, {pairs} pairs of {patch}^3",
                "seconds": times[0],
                "seconds_torch": times[1],
                "seconds_torch_channels_last": times[2],
                "times_faster_than_torch": min(times[1:]) / times[0],
            }
        )
    mean = geometric_mean([row["times_faster_than_torch"] for row in rows])
    return [*rows, {"case": "geometric mean", "times_faster_than_torch": mean}]
