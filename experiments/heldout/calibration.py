"""Stated against found errors: whether as many lie within their bounds as should."""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from experiments.heldout.artificial import REGIONS, size_name
from experiments.heldout.tables import block
from regnet_jax.evaluation import ErrorEstimate

FRACTION = 0.95
# Classes of bounds, mm.
_BOUNDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, np.inf)
CLASSES = tuple(itertools.starmap(size_name, itertools.pairwise(_BOUNDS)))


def compare_errors(
    found: np.ndarray, stated: ErrorEstimate, regions: dict[str, np.ndarray]
) -> dict[str, dict]:
    """Compare the errors of one pair with their estimate.

    Args:
        found: ``[*spatial]``, length of the error, mm.
        stated: the estimate on the same grid.
        regions: bool ``[*spatial]`` by name; ``body`` is divided into classes by the
            stated bound.

    Returns:
        By region and class of ``CLASSES``: ``voxels``; ``within``, the fraction of them
        whose error is below the stated bound; ``stated`` and ``found``, the 95th
        percentile of the error in mm; and ``width``, the factor of the estimated widths
        with which 95 % would lie within. Groups without a voxel are left out.
    """
    bound = stated.bound(FRACTION)
    groups = dict(regions)
    for name, (low, high) in zip(CLASSES, itertools.pairwise(_BOUNDS), strict=True):
        groups[name] = regions["body"] & (bound >= low) & (bound < high)
    standard = (np.log(np.maximum(found, 1e-6)) - stated.log_mean) / stated.log_sd
    compared = {}
    for name, mask in groups.items():
        mask = mask & stated.known
        if mask.any():
            needed = np.quantile(standard[mask], FRACTION) / ndtri(FRACTION)
            compared[name] = {
                "voxels": int(mask.sum()),
                "within": float((found[mask] <= bound[mask]).mean()),
                "stated": stated.bound_within(mask, FRACTION),
                "found": float(np.quantile(found[mask], FRACTION)),
                "width": float(needed),
            }
    return compared


def summarise(rows: Sequence[dict]) -> list[dict]:
    """Summarise the comparisons of all pairs.

    Args:
        rows: from ``artificial.measure_case``.

    Returns:
        A row for each method and group: ``method``, ``group``, ``pairs``, and the
        quantities of ``compare_errors``, each the mean over pairs, those of a class
        weighted by its voxels.
    """
    lines = []
    for method in dict.fromkeys(m for row in rows for m in row["calibration"]):
        for group in (*REGIONS, *CLASSES):
            each = [
                row["calibration"][method][group]
                for row in rows
                if group in row["calibration"].get(method, {})
            ]
            if not each:
                continue
            weights = [one["voxels"] if group in CLASSES else 1 for one in each]
            means = {
                name: float(np.average([one[name] for one in each], weights=weights))
                for name in ("within", "stated", "found", "width")
            }
            voxels = sum(one["voxels"] for one in each)
            lines.append(
                {"method": method, "group": group, "pairs": len(each)}
                | {"voxels": voxels, **means}
            )
    return lines


_HEAD = ("pairs", "within", "stated p95", "found p95", "width")


def as_text(lines: Sequence[dict]) -> str:
    """Return the summary for a terminal.

    Args:
        lines: from ``summarise``.

    Returns:
        A table; one for each method.
    """
    blocks = []
    for method in dict.fromkeys(line["method"] for line in lines):
        own = [line for line in lines if line["method"] == method]
        cells = [
            [
                str(line["pairs"]),
                f"{100 * line['within']:.1f} %",
                f"{line['stated']:.2f}",
                f"{line['found']:.2f}",
                f"{line['width']:.2f}",
            ]
            for line in own
        ]
        title = (
            f"Stated and found errors, mm; bounds of {FRACTION:.0%}; means over pairs,"
            " below the regions over their voxels"
        )
        blocks.append(block(title, _HEAD, own, cells))
    return "\n\n".join(blocks)
