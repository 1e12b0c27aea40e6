"""Convolutions against XLA's own, and PyTorch's where it is installed."""

import importlib.util
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import geometric_mean, seconds
from regnet_jax.models.layers.convolution import convolve
from regnet_jax.models.layers.cpu_convolution import convolve_by_xla

# Voxels on each axis, channels in and out.
_CASES = ((45, 16, 16), (37, 32, 25), (24, 60, 70), (64, 24, 24))


def _forward_and_backward(function):
    def loss(x, kernel):
        return jnp.sum(function(x, kernel) ** 2)

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


def _torch(x, kernel, *, backward: bool, channels_last: bool):
    """Return a function that computes the same in PyTorch."""
    import torch

    order = torch.channels_last_3d if channels_last else torch.contiguous_format
    x = torch.from_numpy(np.moveaxis(np.array(x), -1, 1).copy()).to(memory_format=order)
    kernel = np.transpose(np.array(kernel), (4, 3, 0, 1, 2)).copy()
    kernel = torch.from_numpy(kernel).to(memory_format=order)
    if not backward:
        return lambda: torch.nn.functional.conv3d(x, kernel)
    x.requires_grad_(True)
    kernel.requires_grad_(True)

    def run():
        loss = (torch.nn.functional.conv3d(x, kernel) ** 2).sum()
        return torch.autograd.grad(loss, (x, kernel))

    return run


def run() -> list[dict]:
    """Time every case forward, and forward and backward.

    PyTorch is timed in both memory layouts, and the faster one is taken.

    Returns:
        A row for each case with seconds and the library's speed-up, and the geometric
        mean of the speed-ups.
    """
    rows = []
    for (size, c_in, c_out), backward in itertools.product(_CASES, (False, True)):
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (1, *(size,) * 3, c_in))
        kernel = jax.random.normal(keys[1], (3, 3, 3, c_in, c_out))
        wrap = _forward_and_backward if backward else jax.jit
        jitted = [wrap(function) for function in (convolve, convolve_by_xla)]
        functions = [lambda f=f, x=x, k=kernel: f(x, k) for f in jitted]
        layouts = (False, True) if importlib.util.find_spec("torch") else ()
        theirs = [
            _torch(x, kernel, backward=backward, channels_last=layout)
            for layout in layouts
        ]
        times = seconds([*functions, *theirs])
        rows.append(
            {
                "case": f"{size}^3, {c_in} to {c_out}",
                "direction": "forward and backward" if backward else "forward",
                "seconds": times[0],
                "seconds_xla": times[1],
                "times_faster_than_xla": times[1] / times[0],
            }
        )
        if theirs:
            rows[-1]["seconds_torch"] = min(times[2:])
            rows[-1]["times_faster_than_torch"] = min(times[2:]) / times[0]
    mean = {"case": "geometric mean"}
    for key in (key for key in rows[0] if key.startswith("times_faster")):
        mean[key] = geometric_mean([row[key] for row in rows])
    return [*rows, mean]
