"""How near a network comes to the truth of held-out artificial pairs."""

from collections.abc import Sequence

import numpy as np

from experiments.heldout.cases import Case
from regnet_jax.evaluation import body_mask, endpoint_errors, endpoint_statistics
from regnet_jax.io import Frame, displacement_from_world, from_sitk, to_sitk
from regnet_jax.registration import Network, register
from regnet_jax.synthesis import ArtificialPair


def visible_body(pair: ArtificialPair) -> np.ndarray:
    """Voxels of the body in the fixed image that lie in the moving image, too."""
    u = pair.displacement
    points = np.moveaxis(np.indices(u.shape[:-1]), 0, -1) + u
    inside = ((points >= 0) & (points <= np.array(u.shape[:-1]) - 1)).all(axis=-1)
    return inside & body_mask(pair.fixed[..., 0])


def assess(case: Case, network: Network, spacing: float, steps: Sequence[int]) -> dict:
    """Registers one case as ``experiments.register`` does, without alignment.

    Args:
        case: from ``make_cases``.
        network: of its dimension.
        spacing: of its voxels, mm.
        steps: of refinement; the case is registered for each entry.

    Returns:
        ``volume``, ``family``, ``errors``: endpoint statistics (mm) over the visible
        body ``before`` and ``after`` each number of steps.
    """
    truth, mask = spacing * case.pair.displacement, visible_body(case.pair)
    d = truth.shape[-1]
    frame = Frame(truth.shape[:-1], (spacing,) * d, (0.0,) * d, np.eye(d))
    images = [
        from_sitk(to_sitk(image[..., 0], frame), case.volume)
        for image in (case.pair.fixed, case.pair.moving)
    ]
    fields = {"before": np.zeros_like(truth)}
    for count in steps:
        found = register(*images, network, initial="none", refine=count)
        vectors = spacing * displacement_from_world(frame, found.displacement)
        fields["network" if not count else "refined"] = vectors
    errors = {
        name: endpoint_statistics(endpoint_errors(field, truth, mask))
        for name, field in fields.items()
    }
    return {"volume": case.volume, "family": case.family, "errors": errors}


def summarise(rows: Sequence[dict]) -> dict:
    """Means over pairs of what ``assess`` gave, and ratios to before.

    Returns:
        By method: ``n``, ``mean`` and ``sd`` of the pairs' mean errors (mm), mean of
        their 95th percentiles ``p95``, and ``ratio`` and ``p95_ratio`` of both to
        those before (None where nothing moves).
    """
    result = {}
    for method in rows[0]["errors"]:
        means, tails = (
            np.array([row["errors"][method][name] for row in rows])
            for name in ("mean", "p95")
        )
        result[method] = {
            "n": len(rows),
            "mean": float(means.mean()),
            "sd": float(means.std(ddof=1)) if len(rows) > 1 else 0.0,
            "p95": float(tails.mean()),
        }
    before = result["before"]
    for values in result.values():
        for name, ratio in (("mean", "ratio"), ("p95", "p95_ratio")):
            values[ratio] = values[name] / before[name] if before[name] else None
    return result
