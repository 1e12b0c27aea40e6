"""Anatomical building blocks as signed distances, negative inside.

Points are a tuple of coordinate arrays (z, y, x) in millimetres. The distances are
exact or good to first order at the surface, which is all a soft edge needs.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from regnet_jax.geometry.bspline import bspline_field, control_points


def ellipsoid(points, centre, radii):
    """Return the signed distance to an ellipsoid with its axes along the coordinates.

    Args:
        points: tuple of coordinate arrays, mm. Fewer centres and radii than
            coordinates give a cylinder: pass only the coordinates that count.
        centre: one number per coordinate, mm.
        radii: one number per coordinate, mm.

    Returns:
        An array like each coordinate, mm.
    """
    scaled = [(p - c) / r for p, c, r in zip(points, centre, radii, strict=True)]
    norm = jnp.sqrt(sum(s**2 for s in scaled) + 1e-6)
    slope = jnp.sqrt(
        sum((s / r) ** 2 for s, r in zip(scaled, radii, strict=True)) + 1e-12
    )
    return norm * (norm - 1) / (slope + 1e-6)


def capsule(points, start, end, radius):
    """Return the signed distance to a line segment thickened by a radius.

    Args:
        points: tuple of coordinate arrays, mm.
        start: one end of the segment, mm.
        end: the other end, mm.
        radius: mm.

    Returns:
        An array like each coordinate, mm.
    """
    axis = [e - s for s, e in zip(start, end, strict=True)]
    length = sum(a**2 for a in axis)
    along = sum((p - s) * a for p, s, a in zip(points, start, axis, strict=True))
    t = jnp.clip(along / length, 0, 1)
    squares = [
        (p - s - t * a) ** 2 for p, s, a in zip(points, start, axis, strict=True)
    ]
    return jnp.sqrt(sum(squares) + 1e-6) - radius


def periodic(x, period):
    """Return the signed distance to the nearest multiple of the period.

    Args:
        x: any array, mm.
        period: mm.

    Returns:
        An array like ``x``, in [-period / 2, period / 2].
    """
    return x - period * jnp.round(x / period)


def inside(distance, softness):
    """Return the membership with a soft edge, as of partial volume.

    Args:
        distance: signed distance, mm.
        softness: width of the edge, mm.

    Returns:
        An array like ``distance`` in (0, 1).
    """
    return jax.nn.sigmoid(-distance / softness)


def blend(image, value, membership):
    """Paint a value over an image where the membership is one.

    Args:
        image: array.
        value: number or array of the image's shape.
        membership: array of the image's shape, in [0, 1].

    Returns:
        An array like ``image``.
    """
    return image + (value - image) * membership


# Standard deviation of a cubic B-spline field of unit normal coefficients, for one
# axis, on average over the positions between two knots.
_AXIS_DEVIATION = 0.479**0.5


def smooth_noise(key, shape: Sequence[int], textures: Mapping[str, tuple]):
    """Sample random fields with given correlation lengths.

    All are sampled at once: compiling a random generator costs more than running it.

    Args:
        key: random key.
        shape: spatial shape.
        textures: name -> (distance of the B-spline control points in voxels, number
            of independent fields).

    Returns:
        Name -> ``[*shape, number]`` with mean 0 and variance near 1.
    """
    grids = {
        name: (*(control_points(n, scale) for n in shape), number)
        for name, (scale, number) in textures.items()
    }
    ends = list(itertools.accumulate(math.prod(grid) for grid in grids.values()))
    values = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
    unit = _AXIS_DEVIATION ** len(shape)
    fields = {}
    for (name, grid), value in zip(grids.items(), values, strict=True):
        scale = [textures[name][0]] * len(shape)
        fields[name] = bspline_field(value.reshape(grid) / unit, shape, scale)
    return fields


def tubes(noise, scale: float, radius):
    """Return branching tubes: where two smooth noise fields vanish together.

    The zero set of a smooth field is a surface and two surfaces meet in curves, so
    the network needs no loop and no tree; in a slice it shows as dots and streaks, as
    vessels do.

    Args:
        noise: ``[*shape, 2]``, from ``smooth_noise``.
        scale: distance of the noise's control points in voxels, which is near half
            the distance of neighbouring tubes.
        radius: about the radius of the tubes in voxels, a number or ``[*shape]``.

    Returns:
        ``[*shape]`` in [0, 1], one on the centre lines.
    """
    # The fields change by about 1.2 over one control-point distance.
    width = 1.2 * radius / scale
    return jnp.exp(-0.5 * jnp.sum(noise**2, axis=-1) / width**2)
