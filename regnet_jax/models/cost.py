"""The cost of a network, counted from its program without running it.

JAX's own ``cost_analysis`` does not serve: it counts the body of a loop once, and the
operations of the backend at hand.
"""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from regnet_jax.models.registry import MODELS, make_model

# Primitives that only move numbers.
_MOVES = {
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "iota",
    "pad",
    "reshape",
    "rev",
    "select_n",
    "slice",
    "split",
    "squeeze",
    "stop_gradient",
    "transpose",
}


@dataclass(frozen=True)
class Cost:
    """The cost of one application of a network.

    Attributes:
        predictions: displacements that it predicts.
        operations: additions and multiplications, counted separately.
        live: bytes of all arrays that are needed at the same time, at most, without
            weights and images; compilers merge steps and need somewhat less.
        kept: bytes of the inputs of all convolutions, which training keeps.
    """

    predictions: int
    operations: int
    live: int
    kept: int


def parameters(model) -> int:
    """Return the number of trained weights.

    Args:
        model: a network of ``registry``.

    Returns:
        Their number, without running statistics.
    """
    return sum(leaf.size for leaf in jax.tree.leaves(_variables(model)["params"]))


def cost(model, patch) -> Cost:
    """Count the cost of a prediction from a patch.

    Args:
        model: a network of ``registry``.
        patch: spatial shape, voxels.

    Returns:
        The cost, by the plain convolutions of accelerators.
    """
    image = jax.ShapeDtypeStruct((1, *patch, 1), jnp.float32)
    predict = functools.partial(model.apply, train=False)
    program = jax.make_jaxpr(predict)(_variables(model), image, image)
    predictions = math.prod(program.out_avals[0].shape[:-1])
    jaxpr = program.jaxpr
    return Cost(predictions, _operations(jaxpr), _live(jaxpr), _kept(jaxpr))


def _variables(model):
    size = model.support.patch_size(model.support.period)
    patch = jax.ShapeDtypeStruct((1, *(size,) * model.dimensions, 1), jnp.float32)
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), patch, patch)


def _subprograms(equation):
    """Yield the programs within a step and how often each runs.

    Of a choice between platforms it is the last, the default.
    """
    if equation.primitive.name == "cond":
        yield equation.params["branches"][-1].jaxpr, 1
        return
    times = equation.params.get("length", 1)
    for value in equation.params.values():
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr, times
        elif isinstance(value, Jaxpr):
            yield value, times


def _size(variable) -> int:
    return math.prod(variable.aval.shape)


def _is_number(variable) -> bool:
    """Tell whether an array is floating point; indices and booleans do not count."""
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def _operations(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        programs = list(_subprograms(equation))
        if programs:
            total += sum(times * _operations(program) for program, times in programs)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            total += 2 * _size(equation.outvars[0]) * math.prod(kernel[:-1])
        elif name == "dot_general":
            (axes, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            contracted = math.prod(shape[axis] for axis in axes)
            total += 2 * _size(equation.outvars[0]) * contracted
        elif name.startswith("reduce_"):
            total += _size(equation.invars[0])
        elif name not in _MOVES:
            numbers = (v for v in equation.outvars if _is_number(v))
            total += max(map(_size, numbers), default=0)
    return total


def _kept(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        programs = list(_subprograms(equation))
        total += sum(_kept(program) for program, _ in programs)
        if equation.primitive.name == "conv_general_dilated":
            total += _bytes(equation.invars[0])
    return total


def _bytes(variable) -> int:
    return _size(variable) * variable.aval.dtype.itemsize


def _live(jaxpr) -> int:
    """Return the most bytes at a time, with each array freed after its last use."""
    last = {}
    for number, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if not isinstance(variable, Literal):
                last[variable] = number
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, Literal)}
    live, most = {}, 0
    for number, equation in enumerate(jaxpr.eqns):
        within = max(
            (_live(program) for program, _ in _subprograms(equation)), default=0
        )
        live |= {v: _bytes(v) for v in equation.outvars if v in last}
        made = sum(_bytes(v) for v in equation.outvars)
        most = max(most, sum(live.values()) + max(within - made, 0))
        live = {v: size for v, size in live.items() if last[v] > number}
    return most


_HEAD = (
    "network",
    "parameters",
    "receptive field",
    "patch to predictions",
    "kFLOP for each voxel",
    "live",
    "kept for training",
)
_MIB = 2**20


def table(dimensions: int, size: int) -> str:
    """Return the inputs and the cost of every network as a table in Markdown.

    Args:
        dimensions: 2 or 3.
        size: voxels along each axis to predict for.

    Returns:
        Lines of a table; operations are divided by the voxels predicted for, memory is
        MiB for all of them at once.
    """
    rows = [_row(name, dimensions, size) for name in MODELS]
    lines = [_HEAD, ["---"] * len(_HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name, dimensions, size):
    model = make_model(name, dimensions=dimensions)
    support = model.support
    patch = support.patch_size(size // support.stride)
    spent = cost(model, (patch,) * dimensions)
    places = f"{patch} to {size}"
    if support.stride == 2:
        places += ", every 2nd"
    return (
        f"`{name}`",
        f"{parameters(model):,}",
        f"{support.receptive_field}",
        places,
        f"{spent.operations / size**dimensions / 1e3:,.0f}",
        f"{spent.live / _MIB:,.0f}",
        f"{spent.kept / _MIB:,.0f}",
    )
