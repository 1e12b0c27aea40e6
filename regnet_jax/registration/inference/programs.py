"""The programs of a prediction: traced once and for all, and prepared ahead.

Python traces a network for each shape of an image, which takes half a second, and a
warp in a thirtieth, while the compiled program is loaded from JAX's cache in a tenth of
that. So traced programs are kept beside that cache, as ``jax.export`` writes them.
"""

import contextlib
import functools
import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib.version
import numpy as np
from jax import export

# LLVM takes 24 s to compile a network for a new grid at its default level 3, and 7 s at
# this level. The program is as fast: its time is spent in matrix products and
# convolutions, which come from libraries.
_LIGHT = {"xla_backend_optimization_level": 1}
# The folder of traced programs in JAX's cache; each file begins with the digest of the
# rest.
_FOLDER = "regnet_jax_traced"
_DIGEST = 32
# Modules whose classes and functions this package and Python's version determine.
_STABLE = ("regnet_jax.", "builtins")
_PACKAGE = Path(__file__).resolve().parents[2]
# The settings of JAX: where programs are kept, whether, and those that tracing
# depends on.
_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
)


class KeptProgram:
    """A function whose programs are kept, compiled with little optimisation on CPUs.

    JAX accepts compiler options only at the outermost ``jit``, so it must not be called
    within another ``jit``.
    """

    def __init__(self, function: Callable, *, static_argnames: Sequence[str] = ()):
        """Wrap a function, which is compiled for the platform of its first call.

        Args:
            function: pure; static arguments are given by keyword, all others by
                position, as arrays.
            static_argnames: as for ``jax.jit``.
        """
        self._function = function
        self._programs: dict[Any, Any] = {}
        self._awaited: dict[Any, Future] = {}

        @functools.cache
        def compiled(platform: str):
            return jax.jit(
                function,
                static_argnames=static_argnames,
                compiler_options=_options(platform),
            )

        self._compiled = compiled

    def __call__(self, *arguments, **static):
        """Call the function, by the program that was prepared for such arguments."""
        key = _kind(arguments, static)
        if key not in self._programs:
            self._programs[key] = self._obtain(key, arguments, static)
        try:
            return self._programs[key](*arguments)
        except (TypeError, ValueError):
            # Compiled for another device, which JAX finds before it begins. What fails
            # later, such as for want of memory, is a RuntimeError and would fail again.
            self._programs[key] = self._jitted(static)
        return self._programs[key](*arguments)

    def _obtain(self, key, arguments, static) -> Callable:
        """Return the program that was prepared, or compile it."""
        try:
            if key in self._awaited:
                return self._awaited.pop(key).result()
            return self._lower(arguments, static).compile()
        except Exception:  # Cancelled or failed.
            return self._jitted(static)

    def _jitted(self, static) -> Callable:
        """Let JAX choose the program from now on, so that none is compiled in vain."""
        return functools.partial(self._compiled(jax.default_backend()), **static)

    def prepare(self, pool: Executor, *arguments, **static) -> None:
        """Begin to compile a program, for which calls then wait.

        Args:
            pool: of threads.
            *arguments: of the calls; ``jax.ShapeDtypeStruct`` may stand for arrays.
            **static: of the calls.
        """
        key = _kind(arguments, static)
        if key not in self._awaited and key not in self._programs:
            self._awaited[key] = pool.submit(
                lambda: self._lower(arguments, static).compile()
            )

    def _lower(self, arguments, static):
        """Trace the function, or read what was traced before, and lower it."""
        platform = jax.default_backend()
        file = self._file(arguments, static)
        traced = file and (_read(file) or self._trace(file, arguments, static))
        if not traced:
            return self._compiled(platform).lower(*arguments, **static)

        def again(*arguments):
            return traced.call(*jax.tree.leaves(arguments))

        return jax.jit(again, compiler_options=_options(platform)).lower(*arguments)

    def _trace(self, file: Path, arguments, static) -> export.Exported | None:
        """Trace the function and keep that; None if JAX cannot write the program."""
        # Of arrays alone, as the classes that hold them cannot be written.
        leaves, structure = jax.tree.flatten(arguments)

        def function_of_arrays(*leaves):
            return self._function(*jax.tree.unflatten(structure, leaves), **static)

        traced = export.export(jax.jit(function_of_arrays))(*leaves)
        try:
            program = bytes(traced.serialize())
        except ValueError:
            return None
        _write(file, program)
        return traced

    def _file(self, arguments, static) -> Path | None:
        """Return where the traced program is kept; None if it is not to be kept.

        The name follows from all that the program depends on.
        """
        cache, enabled, *settings = (getattr(jax.config, name) for name in _SETTINGS)
        if not cache or not enabled:
            return None
        given = (self._function, *(type(value) for value in static.values()))
        # What is defined elsewhere may change while this package stays the same.
        if not all(each.__module__.startswith(_STABLE) for each in given):
            return None
        structure, kinds, *values = _kind(arguments, static)
        versions = [each.__version__ for each in (jax, jaxlib.version, flax)]
        names = [f"{each.__module__}.{each.__qualname__}" for each in given]
        where = _digest_of_code(), versions, jax.default_backend(), settings
        text = repr([*where, names, str(structure), kinds, values])
        return Path(cache) / _FOLDER / hashlib.sha256(text.encode()).hexdigest()


def _options(platform: str) -> dict | None:
    return _LIGHT if platform == "cpu" else None


def _kind(arguments, static) -> tuple:
    """Return what tells the programs of a function apart."""
    leaves, structure = jax.tree.flatten(arguments)
    kinds = tuple((np.shape(leaf), str(np.dtype(leaf.dtype))) for leaf in leaves)
    return structure, kinds, *sorted(static.items())


@functools.cache
def _digest_of_code() -> str:
    """Return the digest of all modules of this package."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(_PACKAGE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _read(file: Path) -> export.Exported | None:
    """Read a traced program; None if there is none, or a damaged one."""
    try:
        content = file.read_bytes()
        digest, program = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(program).digest() != digest:
            return None
        return export.deserialize(bytearray(program))
    except (OSError, ValueError):
        return None


def _write(file: Path, program: bytes) -> None:
    """Keep a traced program; without room for it, it is traced again the next time."""
    temporary = file.with_name(f".{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(hashlib.sha256(program).digest() + program)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
