"""Local correlation of two images, with its gradient written out.

Source: B. Avants et al., "Symmetric diffeomorphic image registration with
cross-correlation", Medical Image Analysis 12(1), 2008.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

# Standard deviation that the correlation treats as noise, as a fraction of the range of
# images in [0, 1].
NOISE = 0.01


def mean_over_cube(image, radius: int):
    """Return the mean over a cube around each voxel, with zeros beyond the border.

    Args:
        image: ``[*spatial]``.
        radius: half of the width of the cube, voxels.

    Returns:
        ``[*spatial]``.
    """
    axes, width = range(image.ndim), 2 * radius + 1
    for axis in axes:
        # Slices would be fused with what the image is computed by, which is then
        # computed anew for each of them.
        window = [width if a == axis else 1 for a in axes]
        pads = [(radius, radius) if a == axis else (0, 0) for a in axes]
        zero = jnp.zeros((), image.dtype)
        image = lax.reduce_window(image, zero, lax.add, window, (1,) * len(axes), pads)
    return image / width**image.ndim


def local_correlation_coefficient(first, second, radius: int, *, noise: float = NOISE):
    """Correlate two images in a cube around each voxel.

    Args:
        first: ``[*spatial]``.
        second: ``[*spatial]``.
        radius: half of the width of the cube, voxels.
        noise: standard deviation of noise, which does not count as structure.

    Returns:
        ``[*spatial]`` in [-1, 1], near zero where an image is flat.
    """
    return _correlate(first, second, radius, noise)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate(first, second, radius, noise):
    return _correlate_forward(first, second, radius, noise)[0]


def _correlate_forward(first, second, radius, noise):
    mean, other_mean = (mean_over_cube(image, radius) for image in (first, second))
    variance = mean_over_cube(first**2, radius) - mean**2
    other_variance = mean_over_cube(second**2, radius) - other_mean**2
    covariance = mean_over_cube(first * second, radius) - mean * other_mean
    scale = lax.rsqrt(
        (jnp.maximum(variance, 0.0) + noise**2)
        * (jnp.maximum(other_variance, 0.0) + noise**2)
    )
    correlation = covariance * scale
    known = (first, mean, variance), (second, other_mean, other_variance)
    return correlation, (*known, scale, correlation)


def _correlate_backward(radius, noise, residuals, gradient):
    one, other, scale, correlation = residuals
    # The mean over cubes, with zeros beyond the border, is its own transpose.
    by_covariance = gradient * scale
    shared = mean_over_cube(by_covariance, radius)

    def towards(image, mean, variance, another, another_mean):
        by_variance = gradient * correlation / (jnp.maximum(variance, 0.0) + noise**2)
        by_variance = jnp.where(variance > 0.0, by_variance, 0.0)
        by_means = by_variance * mean - by_covariance * another_mean
        return (
            another * shared
            - image * mean_over_cube(by_variance, radius)
            + mean_over_cube(by_means, radius)
        )

    return towards(*one, *other[:2]), towards(*other, *one[:2])


_correlate.defvjp(_correlate_forward, _correlate_backward)
