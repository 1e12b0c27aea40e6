"""Reports of registrations that never happened."""

from regnet_jax.evaluation import Measures, Similarity
from regnet_jax.reporting.schema import RegistrationReport


def make_report(before=None, after=None, **attributes) -> RegistrationReport:
    """Return a report with as little in it as a report can have.

    Args:
        before: measures by name, besides a similarity of 0.5.
        after: measures by name, besides a similarity of 0.75.
        **attributes: that replace or join the others.
    """
    least = {
        "model": "flagship",
        "seconds": {"affine": 2.125, "network": 3.2, "total": 7.31},
        "before": Measures(**{"similarity": Similarity(0.5), **(before or {})}),
        "after": Measures(**{"similarity": Similarity(0.75), **(after or {})}),
        "unmatched_fraction": 0.0,
        "affine": ((1.0, 0.0), (0.0, 1.0)),
        "parameters": {},
        "versions": {"jax_thing": "0.10.1"},
    }
    return RegistrationReport(**(least | attributes))
