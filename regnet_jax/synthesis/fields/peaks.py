"""The displacement fields of RegNet 2017: smoothed random peaks.

Source: Sokooti et al., "Nonrigid image registration using multi-scale 3D
convolutional neural networks", MICCAI 2017, section 2.3.

The original puts peaks into an empty image and filters it. A Gaussian-filtered
peak is a Gaussian, and that is a product of one function for each axis, so the
whole field is one matrix product here, exact at any distance from the border.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from regnet_jax.synthesis.fields.deformation import Deformation, rescale_lobes

PEAKS = 100
# Peaks that are zero, so that zero displacement is represented.
ZERO_PEAKS = 2
# Positions tried for peaks that must keep their distance; a volume that has no
# room for more is full long before.
_TRIALS = 2000
_WORD = 32


class PeakFamily(NamedTuple):
    """The parameters of a family, all in millimetres.

    Attributes:
        amplitude: largest component of any displacement.
        sigma: of the Gaussian that smooths the peaks.
        border: width of the border without peaks.
        separation: least distance of peaks along some axis.
        area: targets lie within this distance of a peak.
    """

    amplitude: float
    sigma: float
    border: float = 33.0
    separation: float = 0.0
    area: float = float("inf")


FAMILIES_2017 = {
    "low": PeakFamily(amplitude=20.0, sigma=35.0),
    "medium": PeakFamily(amplitude=15.0, sigma=25.0),
    "high": PeakFamily(amplitude=15.0, sigma=20.0, separation=40.0, area=20.0),
}


def peaks_that_fit(
    shape: Sequence[int], family: PeakFamily, *, spacing: float
) -> tuple[int, int]:
    """Return how many peaks a field has at least and at most.

    Args:
        shape: spatial shape.
        family: not traced.
        spacing: isotropic voxel size, mm.

    Returns:
        Fewest and most: badly placed peaks leave no room for others long before the
        volume is full.
    """
    border = math.ceil(family.border / spacing)
    distance = math.ceil(family.separation / spacing)
    fewest = most = 1
    for size in shape:
        places = size - 2 * min(border, (size - 1) // 2)
        fewest *= math.ceil(places / (2 * distance - 1)) if distance else PEAKS
        most *= math.ceil(places / distance) if distance else PEAKS
    return min(fewest, PEAKS), min(most, PEAKS)


def _positions(key, shape, border, separation):
    """Return integer peak positions ``[PEAKS, d]`` and which of them exist.

    Uniform positions are tried in turn and kept when they lie outside the cubes
    around all those kept before. This is the distribution of the original, which
    samples from the voxels that no cube covers.
    """
    size = jnp.asarray(shape)[None]
    # A volume with no room inside the border keeps its middle voxel.
    low = jnp.minimum(jnp.ceil(border).astype(jnp.int32), (size - 1) // 2)
    trials = jax.random.randint(key, (_TRIALS, len(shape)), low, size - low)

    def attempt(state, trial):
        kept, count = state
        distance = jnp.max(jnp.abs(kept - trial[None]), axis=-1)
        taken = jnp.arange(PEAKS) < count
        free = jnp.all(~taken | (distance >= separation)) & (count < PEAKS)
        kept = jnp.where(free, kept.at[count].set(trial), kept)
        return (kept, count + free), None

    start = (jnp.zeros((PEAKS, len(shape)), trials.dtype), jnp.int32(0))
    (kept, count), _ = jax.lax.scan(attempt, start, trials)
    return kept, jnp.arange(PEAKS) < count


def _sum_of_products(bases, amplitudes):
    """Return ``sum_k amplitudes[k, c] * prod_a bases[a][x_a, k]``, a matrix product."""
    leading = bases[0]
    for basis in bases[1:-1]:
        leading = leading[..., None, :] * basis.reshape(
            (1,) * (leading.ndim - 1) + basis.shape
        )
    last = bases[-1].T[:, :, None] * amplitudes[:, None, :]
    return jnp.tensordot(leading, last, axes=1, precision=jax.lax.Precision.HIGHEST)


def _covered(near):
    """Tell where a peak is near along all axes.

    Args:
        near: ``[n, PEAKS]`` bool for each axis.

    Returns:
        ``[*spatial]`` bool.
    """
    # A bit for each peak: the voxels then cost a few words instead of a product.
    bits = jnp.arange(_WORD, dtype=jnp.uint32)[None, None]
    words = []
    for line in near:
        line = jnp.pad(line, ((0, 0), (0, -PEAKS % _WORD)))
        line = line.reshape(line.shape[0], -1, _WORD).astype(jnp.uint32)
        words.append(jnp.sum(line << bits, axis=-1, dtype=jnp.uint32))
    covered = False
    for one_word in zip(*(w.T for w in words), strict=True):
        together = one_word[0]
        for line in one_word[1:]:
            line = line.reshape((1,) * together.ndim + (-1,))
            together = together[..., None] & line
        covered |= together != 0
    return cast(jax.Array, covered)


def peak_field(key, shape: Sequence[int], family: PeakFamily, *, spacing: float):
    """Sample a field of one of the 2017 families.

    There are a hundred peaks, none within the border, with components that are uniform
    in +-amplitude; the first two are zero. Each component is smoothed by a Gaussian.
    Then its positive lobe is rescaled so that the maximum is the largest sampled peak,
    and the negative lobe likewise. The high-frequency family keeps peaks apart and has
    training targets near them.

    Args:
        key: random key.
        shape: spatial shape, 2D or 3D. In 2D the field is in the plane.
        family: its entries may be traced, so that one compiled function serves all.
        spacing: isotropic voxel size, mm.

    Returns:
        A ``Deformation``.
    """
    position_key, amplitude_key = jax.random.split(key)
    family = jax.tree.map(lambda mm: mm / spacing, family)
    dimensions = len(shape)
    position, exists = _positions(position_key, shape, family.border, family.separation)
    moves = exists & (jnp.arange(PEAKS) >= ZERO_PEAKS)
    peaks = family.amplitude * jax.random.uniform(
        amplitude_key, (PEAKS, dimensions), minval=-1.0, maxval=1.0
    )
    peaks = jnp.where(moves[:, None], peaks, 0.0)
    offsets = [
        jnp.arange(n, dtype=jnp.float32)[:, None] - position[None, :, axis]
        for axis, n in enumerate(shape)
    ]
    smooth = _sum_of_products(
        [jnp.exp(-0.5 * (o / family.sigma) ** 2) for o in offsets], peaks
    )
    highest = jnp.maximum(jnp.max(peaks, axis=0), 0.0)
    lowest = jnp.minimum(jnp.min(peaks, axis=0), 0.0)
    # Peaks that found no room have no area either.
    near = [(jnp.abs(o) <= family.area) & exists[None] for o in offsets]
    return Deformation(rescale_lobes(smooth, highest, lowest), _covered(near))
