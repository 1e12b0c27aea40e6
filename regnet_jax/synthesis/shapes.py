"""Anatomical building blocks as signed distances, negative inside.

Points are a tuple of coordinate arrays (z, y, x) in millimetres. The distances are
exact or good to first order at the surface, which is all a soft edge needs.
"""

import jax
import jax.numpy as jnp


def ellipsoid(points, centre, radii):
    """Signed distance to an ellipsoid with its axes along the coordinates.

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
    """Signed distance to a line segment thickened by a radius.

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
    """Distance to the nearest multiple of the period, signed, in half a period.

    Args:
        x: any array, mm.
        period: mm.

    Returns:
        An array like ``x``, in [-period / 2, period / 2].
    """
    return x - period * jnp.round(x / period)


def inside(distance, softness):
    """Membership with a soft edge, as partial volume makes it.

    Args:
        distance: signed distance, mm.
        softness: width of the edge, mm.

    Returns:
        An array like ``distance`` in (0, 1).
    """
    return jax.nn.sigmoid(-distance / softness)


def blend(image, value, membership):
    """Paints a value over an image where the membership is one.

    Args:
        image: array.
        value: number or array of the image's shape.
        membership: array of the image's shape, in [0, 1].

    Returns:
        An array like ``image``.
    """
    return image + (value - image) * membership
