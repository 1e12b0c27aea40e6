"""Arrays and numbers as they are given: made plain, or refused with one line."""

import numpy as np

from regnet_jax.errors import InputError, shown

# What ITK holds, so that the first that holds a type is the smallest.
_NAMES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
_HELD = tuple(map(np.dtype, _NAMES))


def as_array(
    given, name: str, *, wanted: str = "an array of real numbers"
) -> np.ndarray:
    """Real numbers, in a type that ITK holds and the byte order of the machine.

    A type that ITK lacks becomes the smallest that holds its values: bool uint8,
    float16 and bfloat16 float32, four-bit integers int8 and uint8. Extended precision
    becomes float64. No other type is changed, and nothing is copied without need.

    Args:
        given: a NumPy or JAX array of any layout, whatever has ``__array__``, or
            nested lists.
        name: what messages call it.
        wanted: what messages ask for instead of something that is no array at all.

    Returns:
        The array.

    Raises:
        InputError: no array can be made of it; it does not hold real numbers; some of
            it is masked.
    """
    try:
        array = np.asarray(given)
    except Exception as error:  # Whatever the ``__array__`` of a stranger raises.
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name}: no array can be made of it ({line}); give {wanted}"
        ) from None
    if not array.ndim and array.dtype.kind in "OSUT":
        raise InputError(
            f"{name}: {shown(given)} is of type {type(given).__name__}; give {wanted}"
        )
    masked = _count_masked(given)
    if masked:
        raise InputError(
            f"{name}: {masked} of {array.size} values are masked; fill them, for"
            " example by array.filled(array.min())"
        )
    with np.errstate(over="ignore"):  # Then a value is infinite, which is seen later.
        return array.astype(_held_type(array.dtype, name), copy=False)


def as_numbers(given, name: str, *, wanted: str = "numbers") -> np.ndarray:
    """Finite real numbers as float64; args are those of ``as_array``.

    Raises:
        InputError: as ``as_array``; and of truth values, NaN and infinite values.
    """
    numbers = as_array(given, name, wanted=wanted)
    if np.asarray(given).dtype == bool:
        raise InputError(f"{name}: holds truth values; give {wanted}")
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InputError(f"{name}: holds NaN or infinite values; give finite numbers")
    return numbers


def _held_type(dtype: np.dtype, name: str) -> np.dtype:
    if dtype.kind == "c":
        raise InputError(
            f"{name}: holds complex numbers; give their magnitude or their real part"
        )
    for held in _HELD:
        if np.can_cast(dtype, held):
            return held
    if np.can_cast(dtype, np.float64, "same_kind"):
        return np.dtype(np.float64)
    raise InputError(
        f"{name}: holds {dtype} where real numbers are needed; convert it, for example"
        " by array.astype(np.float32)"
    )


def _count_masked(given) -> int:
    """How many values are masked, also where a list holds masked slices."""
    pieces = given if isinstance(given, list | tuple) else [given]
    return sum(int(np.ma.getmaskarray(p).sum()) for p in pieces if np.ma.is_masked(p))
