"""Large programs, compiled no longer than it pays."""

import functools
from collections.abc import Callable, Sequence

import jax

# A network on a new grid takes LLVM 24 s of one core at its usual level 3, and 7 s at
# this one, and then runs as fast: the time is spent in products and convolutions, which
# come from libraries.
_LIGHT = {"xla_backend_optimization_level": 1}


def program(function: Callable, *, static_argnames: Sequence[str]) -> Callable:
    """``jax.jit`` of a whole network, for callers on the host.

    JAX takes options of the compiler at the outermost ``jit`` alone, so what others may
    compose, as ``Network.apply``, is not compiled so.

    Args:
        function: pure.
        static_argnames: names, as of ``jax.jit``.

    Returns:
        The compiled function. The platform is looked up at the first call.
    """

    @functools.cache
    def compiled(platform):
        options = _LIGHT if platform == "cpu" else None
        return jax.jit(
            function, static_argnames=static_argnames, compiler_options=options
        )

    @functools.wraps(function)
    def call(*arguments, **options):
        return compiled(jax.default_backend())(*arguments, **options)

    return call
