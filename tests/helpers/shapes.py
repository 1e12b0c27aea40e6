"""Check the shapes in annotations while examples run."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence

import jax
import pytest

_KINDS = ("Bool", "Float", "Int", "Num")
_SHAPED = re.compile(rf"\b({'|'.join(_KINDS)})\[")


def checked(function: Callable) -> Callable:
    """Return a copy of a function that checks its jaxtyping annotations when called.

    The library imports jaxtyping for type checkers alone, so that its users need not
    install it; here the names are resolved and given to beartype.
    """
    jaxtyping = pytest.importorskip("jaxtyping")
    beartype = pytest.importorskip("beartype")
    names = {name: getattr(jaxtyping, name) for name in _KINDS}
    names |= {"Array": jax.Array, "Sequence": Sequence, "Callable": Callable}
    function = getattr(function, "__wrapped__", function)
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__module__ = function.__module__
    known = {**function.__globals__, **names}
    copy.__annotations__ = typing.get_type_hints(function, known)
    return jaxtyping.jaxtyped(copy, typechecker=beartype.beartype)


def annotated(module: types.ModuleType) -> list[Callable]:
    """Return the public functions of a module that have shapes in their annotations."""
    return [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
        if any(_SHAPED.search(str(a)) for a in function.__annotations__.values())
    ]
