"""How far a registration may be wrong at every voxel, by the network's own estimate."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from regnet_jax.errors import InputError
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
        log_mean: ``[*frame.shape]``, mean of the logarithm of the error in mm.
        log_sd: of the same shape, its standard deviation.
        known: bool of the same shape, where the fixed image shows the body and the
            moving image shows something; elsewhere nothing is known of the error.
        frame: the grid.
    """

    log_mean: np.ndarray
    log_sd: np.ndarray
    known: np.ndarray
    frame: Frame

    def bound(self, fraction: float = 0.95) -> np.ndarray:
        """Return the distance within which the error lies with some probability.

        Args:
            fraction: the probability, above 0 and below 1.

        Returns:
            ``[*frame.shape]`` float32, mm; infinite where nothing is known.
        """
        bound = np.exp(self.log_mean + ndtri(fraction) * self.log_sd)
        return np.where(self.known, bound, np.inf).astype(np.float32)

    def bound_within(self, region: np.ndarray, fraction: float = 0.95) -> float:
        """Return the distance within which the errors of a part of a region lie.

        Args:
            region: ``[*frame.shape]``, not zero inside. A mask on the grid of an image
                is for the estimate there, see ``on``.
            fraction: of the region, above 0 and below 1.

        Returns:
            mm; NaN where nothing is known in the region.

        Raises:
            InputError: if the mask is not on the grid.
        """
        region = np.asarray(region) != 0
        if region.shape != self.known.shape:
            raise InputError(
                f"region: has the shape {region.shape} and the estimate"
                f" {self.known.shape}; take the estimate on the grid of the mask,"
                " errors.on(frame)"
            )
        inside = np.flatnonzero(region & self.known)
        if not inside.size:
            return float("nan")
        inside = inside[:: max(1, inside.size // _MOST_VOXELS)]
        mean, width = (each.ravel()[inside] for each in (self.log_mean, self.log_sd))
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

        Returns:
            The estimate on that grid, unknown where it was unknown.
        """
        mean, width = (
            resample(Image(array, self.frame, "errors"), frame, smooth=False).array
            for array in (self.log_mean, self.log_sd)
        )
        known = Image(self.known.astype(np.uint8), self.frame, "known")
        known = resample(known, frame, interpolation="nearest").array > 0
        return ErrorEstimate(mean, width, known, frame)
