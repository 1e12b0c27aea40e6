"""Rearrangements that trade steps over space for channels or for the batch.

A phase is the voxels of an array that a step visits from one start: with a step of
two, the even and the odd ones along each axis.
"""

import jax.numpy as jnp


def fit(x, shape):
    """Crops or pads with zeros the far end of every axis.

    Args:
        x: any array.
        shape: as many sizes as ``x`` has axes.

    Returns:
        An array of that shape.
    """
    x = x[tuple(slice(size) for size in shape)]
    return jnp.pad(x, [(0, n - m) for n, m in zip(shape, x.shape, strict=True)])


def _split(x, step):
    """Blocks of whole steps, ``[batch, blocks, step, ..., channel]``, and the axes
    of the blocks and those within them.
    """
    blocks = [-(-n // step) for n in x.shape[1:-1]]
    x = fit(x, [x.shape[0], *(step * n for n in blocks), x.shape[-1]])
    split = [size for n in blocks for size in (n, step)]
    axes = range(1, 1 + len(split))
    return x.reshape(x.shape[0], *split, x.shape[-1]), axes[::2], axes[1::2]


def space_to_channel(x, step: int):
    """Moves blocks of voxels into the channels, with zeros after the far end.

    Args:
        x: ``[batch, *spatial, c]``.
        step: voxels of a block along each axis.

    Returns:
        ``[batch, *ceil(spatial / step), step**d * c]``.
    """
    x, blocks, within = _split(x, step)
    x = x.transpose(0, *blocks, *within, x.ndim - 1)
    return x.reshape(*x.shape[: 1 + len(blocks)], -1)


def space_to_batch(x, step: int):
    """Moves the phases into the batch, with zeros after the far end.

    Args:
        x: ``[batch, *spatial, c]``.
        step: number of phases along each axis.

    Returns:
        ``[step**d * batch, *ceil(spatial / step), c]``, the batch running fastest.
    """
    x, blocks, within = _split(x, step)
    x = x.transpose(*within, 0, *blocks, x.ndim - 1)
    return x.reshape(-1, *x.shape[1 + len(within) :])


def batch_to_space(x, step: int, spatial):
    """Undoes ``space_to_batch``.

    Args:
        x: ``[step**d * batch, *blocks, c]``.
        step: number of phases along each axis.
        spatial: sizes of the result; the far end is cropped to them.

    Returns:
        ``[batch, *spatial, c]``.
    """
    rank = x.ndim - 2
    sizes = [step * n for n in x.shape[1:-1]]
    x = x.reshape(*(step,) * rank, -1, *x.shape[1:])
    pairs = [(rank + 1 + axis, axis) for axis in range(rank)]
    x = x.transpose(rank, *(axis for pair in pairs for axis in pair), x.ndim - 1)
    return fit(x.reshape(x.shape[0], *sizes, -1), [x.shape[0], *spatial, x.shape[-1]])
