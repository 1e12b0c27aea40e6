"""Displacement fields: warp, compose, invert, exponentiate, Jacobian."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from regnet_jax.geometry.interpolation import sample_at

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Num

# Damping of the inversion, and the fraction of vectors that may exceed its tolerance.
_STEP, _EXCEPTIONS = 0.4, 1e-4


def _targets(displacement):
    """Return the coordinates on each axis that the field maps its voxels to."""
    *shape, d = displacement.shape
    voxels = [lax.broadcasted_iota(displacement.dtype, shape, a) for a in range(d)]
    return [x + displacement[..., a] for a, x in enumerate(voxels)]


def warp(
    volume: Num[Array, "*volume c"],
    displacement: Float[Array, "*spatial d"],
    *,
    order: int = 1,
    fill: float | None = None,
) -> Num[Array, "*spatial c"]:
    """Return the image ``x -> volume(x + displacement(x))``, on the field's grid.

    Args:
        volume: ``[*spatial, channel]``, the moving image.
        displacement: ``[*fixed spatial, d]``, voxels, array-axis order.
        order: interpolation, see ``sample``.
        fill: value outside the moving image, see ``sample``.

    Returns:
        ``[*fixed spatial, channel]``.
    """
    return sample_at(volume, _targets(displacement), order=order, fill=fill)


def compose(
    first: Float[Array, "*spatial d"], second: Float[Array, "*spatial d"]
) -> Float[Array, "*spatial d"]:
    """Return the field that applies one field first, then another.

    Args:
        first: ``[*spatial, d]``, voxels.
        second: ``[*spatial, d]``, voxels; continued by its edge outside.

    Returns:
        ``first(x) + second(x + first(x))``: ``[*spatial, d]``. Warping by
        ``second`` and the result by ``first`` is warping once by this.
    """
    return first + warp(second, first)


def invert(
    displacement: Float[Array, "*spatial d"],
    *,
    iterations: int = 200,
    tolerance: float = 1e-4,
) -> Float[Array, "*spatial d"]:
    """Return the field that undoes a displacement field.

    Damped fixed-point iteration ``v <- v - s (v + u(x + v))``. With ``s = 1`` it is
    that of Chen et al. ("A simple fixed-point approach to invert a deformation field",
    Medical Physics 35(1), 2008), which diverges where the derivatives of the field
    exceed one; with ``s = 0.4`` fields that stretch to five times the length are
    inverted, too. Where the field folds there is no inverse, and the result is the last
    iterate.

    Args:
        displacement: ``[*spatial, d]``, voxels.
        iterations: largest number of steps.
        tolerance: the iteration ends when ``compose(result, displacement)`` is shorter,
            voxels, but at one voxel in 10,000.

    Returns:
        ``[*spatial, d]``: ``compose(result, displacement)`` is near zero. Its
        derivatives are those of the exact inverse.
    """
    return _invert(displacement, iterations, tolerance)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _invert(displacement, iterations: int, tolerance: float):
    def is_unfinished(state):
        number, _, residual = state
        return (number < iterations) & exceeds(residual, tolerance)

    def step(state):
        number, inverse, residual = state
        inverse = inverse - _STEP * residual
        return number + 1, inverse, compose(inverse, displacement)

    start = (0, jnp.zeros_like(displacement), displacement)
    return lax.while_loop(is_unfinished, step, start)[1]


@_invert.defjvp
def _invert_derivative(iterations, tolerance, primals, tangents):
    """By the implicit function theorem, from ``v + u(x + v) = 0``."""
    (displacement,), (change,) = primals, tangents
    inverse = _invert(displacement, iterations, tolerance)

    def along(axis: int):
        direction = jnp.zeros_like(inverse).at[..., axis].set(1.0)
        residual = functools.partial(compose, second=displacement)
        return jax.jvp(residual, (inverse,), (direction,))[1]

    slope = jnp.stack([along(a) for a in range(inverse.shape[-1])], axis=-1)
    right = -warp(change, inverse)[..., None]
    return inverse, jnp.linalg.solve(slope, right)[..., 0]


def exceeds(field: Float[Array, "*spatial d"], tolerance: float):
    """Tell whether more than one vector in 10,000 is longer than a tolerance.

    Args:
        field: ``[*spatial, d]``.
        tolerance: in the unit of the field.

    Returns:
        A boolean scalar.
    """
    longer = jnp.sum(field**2, axis=-1) > tolerance**2
    return jnp.mean(longer) > _EXCEPTIONS


def exponentiate(
    velocity: Float[Array, "*spatial d"], *, squarings: int = 7
) -> Float[Array, "*spatial d"]:
    """Return the displacement of a flow along a stationary velocity for unit time.

    Scaling and squaring (Arsigny et al., "A log-Euclidean framework for statistics on
    diffeomorphisms", MICCAI 2006): a short step, composed with itself repeatedly.

    Args:
        velocity: ``[*spatial, d]``, voxels per unit of time; continued by its edge.
        squarings: the step is ``2**-squarings`` of the time.

    Returns:
        ``[*spatial, d]``, voxels. ``exponentiate(-velocity)`` is its inverse.
    """

    def square(_, displacement):
        return compose(displacement, displacement)

    return lax.fori_loop(0, squarings, square, velocity / 2**squarings)


def jacobian_matrix(
    displacement: Float[Array, "*spatial d"],
) -> Float[Array, "*spatial d d"]:
    """Return the derivatives of the map ``x -> x + displacement(x)``.

    Central differences inside, one-sided at the border, as ``numpy.gradient``.

    Args:
        displacement: ``[*spatial, d]``, voxels, at least two voxels on each axis.

    Returns:
        ``[*spatial, d, d]``; entry ``[i, j]`` is the derivative of component i
        along axis j.
    """
    dimensions = displacement.shape[-1]
    columns = jnp.gradient(displacement, axis=tuple(range(dimensions)))
    identity = jnp.eye(dimensions, dtype=displacement.dtype)
    matrix = jnp.stack(columns, axis=-1)
    return matrix + jnp.broadcast_to(identity, matrix.shape)


def jacobian_determinant(
    displacement: Float[Array, "*spatial d"],
) -> Float[Array, "*spatial"]:
    """Return the ratio of volumes after and before the map; at or below 0 it folds.

    Args:
        displacement: ``[*spatial, d]``, voxels, at least two voxels on each axis.

    Returns:
        ``[*spatial]``.
    """
    d = displacement.shape[-1]
    # By components: a matrix at every voxel would be written to memory first.
    rows = []
    for i in range(d):
        slopes = jnp.gradient(displacement[..., i], axis=tuple(range(d)))
        rows.append([slope + (i == j) for j, slope in enumerate(slopes)])
    return _determinant(rows)


def determinant(m: Float[Array, "*batch d d"]) -> Float[Array, "*batch"]:
    """Return the determinants of many small matrices.

    Args:
        m: ``[..., d, d]``, d being 2 or 3.

    Returns:
        ``[...]``.
    """
    d = m.shape[-1]
    return _determinant([[m[..., i, j] for j in range(d)] for i in range(d)])


def _determinant(rows):
    """Return the determinants of matrices of two or three rows of arrays."""
    # Written out: a batched LU of millions of 3 x 3 matrices is far slower.
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
