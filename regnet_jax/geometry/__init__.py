"""Displacement fields and images on regular grids, in 2D and 3D.

Everything is pure, batchless, and usable under ``jit``, ``vmap`` and ``grad``.
"""

from regnet_jax.geometry.bspline import bspline_field, prefilter
from regnet_jax.geometry.continuation import continue_smoothly
from regnet_jax.geometry.fields import (
    compose,
    exponentiate,
    invert,
    jacobian_determinant,
    jacobian_matrix,
    warp,
)
from regnet_jax.geometry.interpolation import along_axis, identity_grid, sample
from regnet_jax.geometry.pyramids import ceil_div, downsample, upsample, upsample_field
from regnet_jax.geometry.smoothing import gaussian_smooth

__all__ = [
    "along_axis",
    "bspline_field",
    "ceil_div",
    "compose",
    "continue_smoothly",
    "downsample",
    "exponentiate",
    "gaussian_smooth",
    "identity_grid",
    "invert",
    "jacobian_determinant",
    "jacobian_matrix",
    "prefilter",
    "sample",
    "upsample",
    "upsample_field",
    "warp",
]
