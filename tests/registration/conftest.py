"""Networks without training."""

from networks import network2d  # noqa: F401
