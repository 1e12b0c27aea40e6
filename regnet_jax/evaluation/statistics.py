"""Summaries of errors; every ± of the project is ``sample_deviation``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Num

_RESAMPLES = 2000
# Errors below it, mm, are those of a registration that most uses can live with.
_SMALL = 2.0


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
            mean; None where it was not asked for, and for a single error.
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
        mean_ci95=_bootstrap_interval(errors) if interval and n > 1 else None,
    )


def _bootstrap_interval(errors: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    n = errors.size
    means = [errors[rng.integers(0, n, n)].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def bootstrap_interval(
    values: Num[np.ndarray, " n"] | Sequence[float],
    clusters: Sequence[Hashable],
    *,
    relative_to: Num[np.ndarray, " n"] | Sequence[float] | None = None,
) -> tuple[float, float]:
    """Return the 95 % interval of a mean, or of the ratio of two, over clusters.

    Pairs of one patient resemble each other, so it is patients that are drawn with
    replacement, each with all of its pairs (the cluster bootstrap, percentile
    interval). It is the same in every call. With fewer than about ten clusters such
    intervals are too narrow.

    Source: Field and Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69,
    2007.

    Args:
        values: ``[n]``.
        clusters: ``[n]``, the cluster of each value, such as the patient of a pair.
        relative_to: ``[n]``, none negative: the interval is that of the sum of the
            values as a fraction of the sum of these; None for that of the mean.

    Returns:
        Lower and upper end; NaN for a single cluster, and where all of ``relative_to``
        is zero.
    """
    values = np.asarray(values, np.float64)
    others = np.ones(values.shape) if relative_to is None else np.asarray(relative_to)
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    index, count = [names[name] for name in clusters], len(names)
    if count < 2:
        return float("nan"), float("nan")
    sums, scales = (
        np.bincount(index, weights=x, minlength=count) for x in (values, others)
    )
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    tops, bottoms = drawn @ sums, drawn @ scales
    # Draws of nothing but pairs in which nothing moves have no ratio.
    ratios = tops[bottoms > 0] / bottoms[bottoms > 0]
    if not ratios.size:
        return float("nan"), float("nan")
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True)
class PairErrors:
    """The errors of a registration, mm, over some of the voxels of one pair.

    Attributes:
        voxels: their number, at least one.
        before: mean error of the zero field.
        mean: mean error.
        median: median error.
        p95: 95th percentile.
        under_2mm: fraction of the voxels with an error below 2 mm.
    """

    voxels: int
    before: float
    mean: float
    median: float
    p95: float
    under_2mm: float


def pair_errors(
    errors: Num[np.ndarray, " n"], before: Num[np.ndarray, " n"]
) -> PairErrors:
    """Summarise the errors of one pair.

    Args:
        errors: ``[n]``, mm, at least one.
        before: ``[n]``, of the zero field.

    Returns:
        The summary.
    """
    errors = np.asarray(errors, np.float64)
    return PairErrors(
        voxels=errors.size,
        before=float(np.mean(before, dtype=np.float64)),
        mean=float(errors.mean()),
        median=float(np.median(errors)),
        p95=float(np.percentile(errors, 95)),
        under_2mm=float(np.mean(errors < _SMALL)),
    )


@dataclass(frozen=True)
class Statistics:
    """Errors over pairs, mm. All pairs have the same weight, however large they are.

    Attributes:
        pairs: number of pairs.
        patients: number of their patients.
        mean: mean over pairs of their mean errors.
        sd: sample standard deviation of the pairs' mean errors.
        mean_ci95: bootstrap interval of ``mean``.
        median: mean over pairs of their median errors.
        p95: mean over pairs of their 95th percentiles.
        under_2mm: mean over pairs of their fractions of voxels below 2 mm.
        ratio: ``mean`` as a fraction of that of the zero field; NaN where nothing
            moves.
        ratio_ci95: bootstrap interval of ``ratio``.
        moving: number of pairs in which something moves.
        worse: number of these whose mean error is larger than that of the zero field.
        worse_fraction: ``worse`` as a fraction of ``moving``; NaN where nothing moves.
        interval_over: ``patients``, or ``pairs`` where there is one patient alone;
            intervals over pairs say nothing about other patients.
    """

    pairs: int
    patients: int
    mean: float
    sd: float
    mean_ci95: tuple[float, float]
    median: float
    p95: float
    under_2mm: float
    ratio: float
    ratio_ci95: tuple[float, float]
    moving: int
    worse: int
    worse_fraction: float
    interval_over: str


def statistics_over_pairs(
    errors: Sequence[PairErrors], patients: Sequence[str]
) -> Statistics:
    """Summarise the errors of pairs.

    Args:
        errors: of each pair, at least one.
        patients: of each pair.

    Returns:
        The statistics.
    """
    means = np.array([e.mean for e in errors])
    before = np.array([e.before for e in errors])
    unit, clusters = _clusters(patients)
    moving = before > 0
    # So that NaN counts as worse.
    worse = ~(means <= before)[moving]
    return Statistics(
        pairs=len(errors),
        patients=len(set(patients)),
        mean=float(means.mean()),
        sd=sample_deviation(means),
        mean_ci95=bootstrap_interval(means, clusters),
        median=float(np.mean([e.median for e in errors])),
        p95=float(np.mean([e.p95 for e in errors])),
        under_2mm=float(np.mean([e.under_2mm for e in errors])),
        ratio=float(means.sum() / before.sum()) if moving.any() else float("nan"),
        ratio_ci95=bootstrap_interval(means, clusters, relative_to=before),
        moving=int(moving.sum()),
        worse=int(worse.sum()),
        worse_fraction=float(worse.mean()) if worse.size else float("nan"),
        interval_over=unit,
    )


@dataclass(frozen=True)
class PairedDifference:
    """How one method differs from another on the same pairs, in the unit of a measure.

    Attributes:
        pairs: number of pairs.
        patients: number of their patients.
        mean: mean over pairs of the differences, which is the difference of the means;
            for errors, negative where the method is the better one.
        sd: their sample standard deviation.
        mean_ci95: bootstrap interval of ``mean``.
        smaller: number of pairs on which the method has the smaller value.
        interval_over: as in ``Statistics``.
    """

    pairs: int
    patients: int
    mean: float
    sd: float
    mean_ci95: tuple[float, float]
    smaller: int
    interval_over: str


def paired_difference(
    values: Num[np.ndarray, " n"] | Sequence[float],
    reference: Num[np.ndarray, " n"] | Sequence[float],
    patients: Sequence[str],
) -> PairedDifference:
    """Compare two methods on the same pairs. All pairs have the same weight.

    Args:
        values: ``[n]``, of a method on each pair, at least one, such as mean errors.
        reference: ``[n]``, of the method that it is compared with.
        patients: ``[n]``, of each pair.

    Returns:
        Values of the method minus those of the reference.
    """
    differences = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    unit, clusters = _clusters(patients)
    return PairedDifference(
        pairs=len(differences),
        patients=len(set(patients)),
        mean=float(differences.mean()),
        sd=sample_deviation(differences),
        mean_ci95=bootstrap_interval(differences, clusters),
        smaller=int((differences < 0).sum()),
        interval_over=unit,
    )


def _clusters(patients: Sequence[str]) -> tuple[str, Sequence[Hashable]]:
    """Return what is drawn in the bootstrap: patients, or the pairs of a single one."""
    if len(set(patients)) > 1:
        return "patients", patients
    return "pairs", range(len(patients))
