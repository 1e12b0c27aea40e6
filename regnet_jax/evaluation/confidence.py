"""How far a registration may be wrong at every voxel, by the network's own estimate."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from regnet_jax.spatial import Frame, Image, resample

# Enough voxels for a percentile of a region.
_MOST_VOXELS = 200_000
# Bisections of the logarithm of a bound, which reach a billionth.
_BISECTIONS = 40


@dataclass(frozen=True, eq=False)
class ErrorEstimate:
    """The estimated distribution of the error at every voxel of a grid.

    The logarithm of the error, the distance in mm between where a point was mapped to
    and where it lies, is taken as normally distributed.

    Attributes:
        mean: ``[*frame.shape]``, of the logarithm of the error in mm.
        width: of the same shape, its standard deviation.
        known: bool of the same shape, where both images show the body; elsewhere
            nothing is known of the error.
        frame: the grid.
    """

    mean: np.ndarray
    width: np.ndarray
    known: np.ndarray
    frame: Frame

    def bound(self, fraction: float = 0.95) -> np.ndarray:
        """Return the distance within which the error lies with some probability.

        Args:
            fraction: the probability, between 0 and 1.

        Returns:
            ``[*frame.shape]`` float32, mm; infinite where nothing is known.
        """
        bound = np.exp(self.mean + ndtri(fraction) * self.width)
        return np.where(self.known, bound, np.inf).astype(np.float32)

    def bound_within(self, region: np.ndarray, fraction: float = 0.95) -> float:
        """Return the distance within which the errors of a part of a region lie.

        Args:
            region: bool ``[*frame.shape]``.
            fraction: of the region, between 0 and 1.

        Returns:
            mm; NaN where nothing is known in the region.
        """
        inside = np.flatnonzero(region & self.known)
        if not inside.size:
            return float("nan")
        inside = inside[:: max(1, inside.size // _MOST_VOXELS)]
        mean, width = (each.ravel()[inside] for each in (self.mean, self.width))
        # The quantile of the mixture lies between those of its members.
        ends = mean + ndtri(fraction) * width
        low, high = ends.min(), ends.max()
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if np.mean(ndtr((middle - mean) / width)) < fraction:
                low = middle
            else:
                high = middle
        return float(np.exp(high))

    def on(self, frame: Frame) -> "ErrorEstimate":
        """Return the estimate at the voxels of another grid, by linear interpolation.

        Args:
            frame: the grid.
        """
        mean, width = (
            resample(Image(array, self.frame, "errors"), frame, smooth=False).array
            for array in (self.mean, self.width)
        )
        known = Image(self.known.astype(np.uint8), self.frame, "known")
        known = resample(known, frame, interpolation="nearest").array > 0
        return ErrorEstimate(mean, width, known, frame)
