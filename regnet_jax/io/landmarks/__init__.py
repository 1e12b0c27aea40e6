"""Landmarks from and to files; ``docs/landmarks.md`` lists the formats.

Points are ``[n, d]`` float64, mm, (x, y, z), LPS as in ITK. Whatever cannot be used
raises ``InputError`` with one line that names the file.
"""

from regnet_jax.io.landmarks.parsed import COORDINATES, Parsed
from regnet_jax.io.landmarks.reading import (
    PointSet,
    load_points,
    read_landmarks,
    read_points,
)
from regnet_jax.io.landmarks.writing import POINT_SUFFIXES, rewrite_points, write_points

__all__ = [
    "COORDINATES",
    "POINT_SUFFIXES",
    "Parsed",
    "PointSet",
    "load_points",
    "read_landmarks",
    "read_points",
    "rewrite_points",
    "write_points",
]
