"""What a network costs, counted from its program without running it."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from regnet_jax.models.registry import MODELS, make_model
from regnet_jax.models.support import Support

# Steps that only move numbers.
_MOVES = {
    *("broadcast_in_dim", "concatenate", "convert_element_type", "copy", "gather"),
    *("iota", "pad", "reshape", "rev", "select_n", "slice", "squeeze", "stop_gradient"),
    *("transpose", "dynamic_slice", "dynamic_update_slice", "split"),
}


@dataclass(frozen=True)
class Cost:
    """What one application of a network takes.

    Attributes:
        answers: displacements that it gives.
        operations: additions and multiplications, each for itself.
        live: bytes of all arrays that are needed at the same time, at most, without
            weights and images; compilers merge steps and need somewhat less.
        kept: bytes of the inputs of all convolutions, which training keeps.
    """

    answers: int
    operations: int
    live: int
    kept: int


def parameters(model) -> int:
    """The number of trained weights.

    Args:
        model: a network of ``registry``.

    Returns:
        Their number, running statistics not counted.
    """
    return sum(leaf.size for leaf in jax.tree.leaves(_variables(model)["params"]))


def cost(model, window) -> Cost:
    """What a window costs.

    Args:
        model: a network of ``registry``.
        window: spatial shape, voxels.

    Returns:
        The cost of a prediction, by the plain convolutions of accelerators.
    """
    image = jax.ShapeDtypeStruct((1, *window, 1), jnp.float32)
    predict = functools.partial(model.apply, train=False)
    program = jax.make_jaxpr(predict)(_variables(model), image, image)
    answers = math.prod(program.out_avals[0].shape[:-1])
    jaxpr = program.jaxpr
    return Cost(answers, _operations(jaxpr), _live(jaxpr), _kept(jaxpr))


def window_of(support: Support, answers: int) -> int:
    """The voxels that a number of answers along an axis takes.

    Args:
        support: of the network.
        answers: along the axis.

    Returns:
        Voxels of the window.
    """
    return 2 * support.margin + support.stride * (answers - 1) + 1


def _variables(model):
    size = window_of(model.support, model.support.period)
    window = jax.ShapeDtypeStruct((1, *(size,) * model.dimensions, 1), jnp.float32)
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), window, window)


def _parts(equation):
    """The programs within a step, how often each runs; of a choice, the last."""
    if equation.primitive.name == "cond":
        # A choice between platforms ends with what all others do.
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
    """Not an index or a truth."""
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def _operations(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        parts = list(_parts(equation))
        if parts:
            total += sum(times * _operations(part) for part, times in parts)
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
        parts = list(_parts(equation))
        total += sum(_kept(part) for part, _ in parts)
        if equation.primitive.name == "conv_general_dilated":
            total += _bytes(equation.invars[0])
    return total


def _bytes(variable) -> int:
    return _size(variable) * variable.aval.dtype.itemsize


def _live(jaxpr) -> int:
    """The most bytes at a time, each array freed after its last use."""
    last = {}
    for number, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if not isinstance(variable, Literal):
                last[variable] = number
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, Literal)}
    live, most = {}, 0
    for number, equation in enumerate(jaxpr.eqns):
        within = max((_live(part) for part, _ in _parts(equation)), default=0)
        live |= {v: _bytes(v) for v in equation.outvars if v in last}
        made = sum(_bytes(v) for v in equation.outvars)
        most = max(most, sum(live.values()) + max(within - made, 0))
        live = {v: size for v, size in live.items() if last[v] > number}
    return most


_HEAD = (
    *("network", "parameters", "receptive field", "answers of a window"),
    *("kFLOP a voxel", "live", "kept for training"),
)
_MIB = 2**20


def table(dimensions: int, size: int) -> str:
    """What every network looks at and takes, in Markdown.

    Args:
        dimensions: 2 or 3.
        size: voxels along each axis for which there shall be answers.

    Returns:
        Lines of a table; operations are divided by the voxels answered for, memory is
        MiB for all of them at once.
    """
    rows = [_row(name, dimensions, size) for name in MODELS]
    lines = [_HEAD, ["---"] * len(_HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name, dimensions, size):
    model = make_model(name, dimensions=dimensions)
    support = model.support
    window = window_of(support, size // support.stride)
    spent = cost(model, (window,) * dimensions)
    places = f"{window} to {size}"
    if support.stride > 1:
        places += f", every {support.stride}nd"
    return (
        f"`{name}`",
        f"{parameters(model):,}",
        f"{support.receptive_field}",
        places,
        f"{spent.operations / size**dimensions / 1e3:,.0f}",
        f"{spent.live / _MIB:,.0f}",
        f"{spent.kept / _MIB:,.0f}",
    )
