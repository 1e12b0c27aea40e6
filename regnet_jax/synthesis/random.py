"""Random keys, choices and noise, and the materialisation of arrays within programs."""

import hashlib
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np


def fold_in_text(key, text: str):
    """Return a key that depends on a text, such as the checksum of a scan.

    Args:
        key: random key.
        text: any; 64 bits of its SHA-256 are folded in, so that two texts do not give
            the same key in practice.

    Returns:
        A key.
    """
    digest = hashlib.sha256(text.encode()).digest()
    for word in np.frombuffer(digest[:8], ">u4"):
        key = jax.random.fold_in(key, word)
    return key


def uniform(key, low, high, shape=()):
    """Sample numbers from a range.

    Args:
        key: random key.
        low: lower end; may be traced.
        high: upper end; may be traced.
        shape: of the result.

    Returns:
        ``[*shape]`` float32.
    """
    return jax.random.uniform(key, shape, minval=low, maxval=high)


def with_probability(key, probability: float, sample: Callable, otherwise: Callable):
    """Return ``sample(key)`` with a probability, or ``otherwise()``.

    Only one of the two is run.

    Args:
        key: random key.
        probability: static, in [0, 1]; at 0 nothing is sampled, nor compiled.
        sample: ``sample(key)``.
        otherwise: takes no arguments and returns arrays of the same shapes.

    Returns:
        The result of the function that is run.
    """
    if not probability:
        return otherwise()
    coin_key, sample_key = jax.random.split(key)
    return jax.lax.cond(
        jax.random.bernoulli(coin_key, probability),
        lambda: sample(sample_key),
        otherwise,
    )


def materialise(key, make: Callable):
    """Return ``make()``, run as a program of its own that writes its result to memory.

    On CPUs XLA fuses the computation of an array into the gathers that read it, past
    barriers too, and repeats it for every voxel and corner that they read. It cannot
    know that the condition here always holds. Under ``vmap`` this has no effect.

    Args:
        key: random key; the result does not depend on it, and it is not consumed.
        make: takes no arguments and returns arrays.

    Returns:
        The result of ``make``.
    """
    empty = jax.tree.map(jnp.zeros_like, jax.eval_shape(make))
    word = jax.random.key_data(key).ravel()[0]
    # No square leaves a remainder of 2.
    always = word * word % 4 != 2
    return jax.lax.cond(always, make, lambda: empty)


def gaussian_noise(key, shape: Sequence[int]):
    """Sample independent normal numbers.

    Random bits cost more than all else, so a number takes 16 of them: there are 65,536
    different ones, none beyond 4.4 standard deviations.

    Args:
        key: random key.
        shape: of the result.

    Returns:
        ``[*shape]`` float32.
    """
    size = math.prod(shape)

    def sample():
        words = jax.random.bits(key, ((size + 1) // 2,))
        halves = jnp.concatenate([words & 0xFFFF, words >> 16])[:size]
        # The middles of equal intervals of (-1, 1).
        fraction = (halves.astype(jnp.float32) + 0.5) / 2**15 - 1.0
        return math.sqrt(2.0) * jax.lax.erf_inv(fraction).reshape(shape)

    # Within the gathers of a warp they would be sampled a lane at a time.
    return materialise(key, sample)
