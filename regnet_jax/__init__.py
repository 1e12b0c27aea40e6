"""regnet_jax: nonrigid registration learned from artificial deformations.

Conventions, followed in every module:

Arrays
    Images are ``[z, y, x, channel]`` in 3D and ``[y, x, channel]`` in 2D,
    with a leading batch axis where a function says so. Core functions have
    no batch axis: ``jax.vmap`` adds it.
Displacement fields
    A displacement vector field (DVF) ``u`` is ``[z, y, x, 3]`` or
    ``[y, x, 2]``. It lives on the grid of the fixed image, its components
    are in array-axis order (z, y, x), its unit is the voxel of that grid, and
    it maps fixed to moving: ``fixed(x) ~ moving(x + u(x))``, as in ITK.
Composition
    ``compose(u, v)`` is the field of "first u, then v":
    ``u(x) + v(x + u(x))``.
World coordinates
    Millimetres, (x, y, z) order, origin, spacing and direction cosines exist
    only in ``regnet_jax.io`` and in what a user sees.
Artificial pairs
    Draw a volume ``I`` and a field ``u``; moving is ``I``, fixed is ``I``
    warped by ``u``, and ``u`` is the target, known exactly.
Randomness
    ``key`` is the first argument wherever randomness is used. Keys derive by
    ``fold_in(stream, step, global sample index)``, so a batch is a pure
    function of (seed, step) whatever the number of devices.
Errors
    What comes from outside and cannot be used raises
    ``regnet_jax.errors.InputError`` with a line for a person.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    """``regnet_jax.register``; found when it is asked for, so that importing the
    package loads neither JAX nor SimpleITK.
    """
    if name == "register":
        from regnet_jax.registration.call import register

        return register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
