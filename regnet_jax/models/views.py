"""What the networks of three resolutions share: layers of each, and their merging.

Source: Sokooti et al., arXiv 1908.10235 (2019). There, coarse features are brought to
finer grids by a transposed convolution that fades at its border, and some layers are
padded by zeros; here nothing is padded, so that all answers of a window are equal in
kind and tiles agree.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from regnet_jax.models.layers import LayeredNet, central, inside
from regnet_jax.models.support import Step, reach, taps

# Features, and dilations of the coarser levels, after the first layer of each.
_FINE = (20, 24, 28, 32, 32, 32)
_HALF = ((30, 1), (32, 2), (34, 2), (36, 2), (38, 2))
_QUARTER = ((40, 1), (42, 2), (44, 2), (46, 2))
_QUARTER_UP = 46
_BRANCH = 40
_MERGED = (120, 50)

# Voxels at full resolution that are lost from the first layer on, and from the merged
# features on; voxels at half that are.
AROUND_FIRST = 2 * (len(_FINE) + len(_MERGED))
AROUND_MERGED = 2 * len(_MERGED)
AROUND_HALF = 2 * sum(dilation for _, dilation in _HALF)
# Windows have to have as many voxels, up to a number that each network adds.
PERIOD = 4


def reach_from_quarter(before: tuple[Step, ...], up: Callable[[int], Step]) -> int:
    """The reach along the way that looks furthest, by the quarter of the resolution.

    Args:
        before: steps from the images to the first features at a quarter.
        up: step to a finer grid, by its factor.

    Returns:
        As ``support.reach``.
    """
    layers = [taps(dilation) for _, dilation in _QUARTER]
    after = [*(up(2), taps(1)) * 2, *[taps(1)] * len(_MERGED)]
    return reach([*before, *layers, *after], PERIOD)


class ThreeViews(LayeredNet):
    """Layers at full, half and a quarter of the resolution, merged at the finest."""

    def merged(self, first, half, quarter, refine: Callable, answers, *, train: bool):
        """Features of the three resolutions as a displacement.

        Args:
            first: features of the first layer at full resolution; at least
                ``AROUND_FIRST`` voxels more than answers.
            half: the same at half the resolution, as many as needed.
            quarter: the same at a quarter.
            refine: brings features to a grid twice as fine, without its border.
            answers: how many are wanted, on each axis; there may be up to three
                before them, and others after.
            train: normalise by the batch and update ``batch_stats``.

        Returns:
            ``[batch, *answers, d]``, voxels.
        """
        maps = [half]
        for features, dilation in _HALF:
            maps.append(self.layer(maps[-1], features, dilation=dilation, train=train))
        for features, dilation in _QUARTER:
            quarter = self.layer(quarter, features, dilation=dilation, train=train)
        quarter = _beside(refine(quarter), maps[-2])
        quarter = self.layer(quarter, _QUARTER_UP, train=train)
        branches = [_beside(refine(x), first) for x in (maps[-1], quarter)]
        branches = [self.layer(x, _BRANCH, train=train) for x in branches]
        sizes = branches[0].shape[1:-1]
        fine = central(first, [n + 2 * len(_FINE) for n in sizes])
        for features in _FINE:
            fine = self.layer(fine, features, train=train)
        x = jnp.concatenate([fine, *branches], -1)
        for features in _MERGED:
            x = self.layer(x, features, train=train, activation=nn.elu)
        return self.displacement(x)[inside([PERIOD - 1] * len(answers), answers)]


def _beside(x, other):
    """``x`` and the middle of a larger map as its further channels."""
    return jnp.concatenate([x, central(other, x.shape[1:-1])], -1)
