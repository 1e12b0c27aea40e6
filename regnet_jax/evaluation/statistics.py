"""Summaries of errors; every ± of the project is ``sample_deviation``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Num

_RESAMPLES = 2000


def sample_deviation(values: Num[np.ndarray, " n"] | Sequence[float]) -> float:
    """Return the sample standard deviation (``ddof=1``), the ± of all tables.

    Args:
        values: ``[n]``.

    Returns:
        The deviation; NaN for fewer than two values, since one value does not spread.
    """
    values = np.asarray(values, np.float64)
    return float(values.std(ddof=1)) if values.size > 1 else float("nan")


@dataclass(frozen=True)
class ErrorStatistics:
    """Summary of the errors (mm) of the landmarks or the voxels of one pair.

    Attributes:
        n: number of errors.
        mean: their mean; like the other numbers NaN if there are none.
        sd: their sample standard deviation, NaN for a single one.
        median: their median.
        p95: their 95th percentile.
        max: the largest.
        mean_ci95: lower and upper end of the bootstrap percentile interval of the
            mean; None where it was not asked for.
    """

    n: int
    mean: float
    sd: float
    median: float
    p95: float
    max: float
    mean_ci95: tuple[float, float] | None = None

    def to_dict(self) -> dict:
        """Return the numbers by name, as they go into JSON."""
        values = asdict(self)
        if self.mean_ci95 is None:
            del values["mean_ci95"]
        else:
            values["mean_ci95"] = list(self.mean_ci95)
        return values


def error_statistics(
    errors: Num[Array | np.ndarray, " n"] | Sequence[float], *, interval: bool = False
) -> ErrorStatistics:
    """Summarise errors.

    Args:
        errors: ``[n]``, mm.
        interval: compute the 95 % bootstrap interval of the mean, too. It is the same
            in every call, takes the errors as independent and describes this pair
            alone.

    Returns:
        The statistics.
    """
    errors = np.asarray(errors, np.float64)
    n = errors.size
    if not n:
        nan = float("nan")
        return ErrorStatistics(0, nan, nan, nan, nan, nan)
    return ErrorStatistics(
        n=n,
        mean=float(errors.mean()),
        sd=sample_deviation(errors),
        median=float(np.median(errors)),
        p95=float(np.percentile(errors, 95)),
        max=float(errors.max()),
        mean_ci95=_bootstrap_interval(errors) if interval else None,
    )


def _bootstrap_interval(errors: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    n = errors.size
    means = [errors[rng.integers(0, n, n)].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
