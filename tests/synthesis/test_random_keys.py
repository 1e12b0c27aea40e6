"""No random key is consumed twice, by ``split``, ``fold_in`` or a sampler."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import configs
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest, random_regions
from regnet_jax.synthesis.generator import make_generator
from regnet_jax.synthesis.pairs import another_patient, two_scans
from regnet_jax.synthesis.volumes.scans import ScanBank, crop
from regnet_jax.training.step import sample_batch

SHAPES = {2: (25, 28), 3: (13, 15, 14)}
# Primitives that derive numbers or keys from a key. The others pass it on.
CONSUMERS = {
    "random_bits": "taken",
    "random_split": "taken",
    "random_fold_in": "folded",
}


def _is_key(variable):
    return jax.dtypes.issubdtype(variable.aval.dtype, jax.dtypes.prng_key)


def _calls(equation):
    """The programs that an equation calls, each with the values it is given."""
    inputs = equation.invars
    if equation.primitive.name == "cond":
        return [(branch.jaxpr, inputs[1:]) for branch in equation.params["branches"]]
    if equation.primitive.name == "while":
        first, second = (equation.params[f"{n}_nconsts"] for n in ("cond", "body"))
        carry = inputs[first + second :]
        return [
            (equation.params["cond_jaxpr"].jaxpr, [*inputs[:first], *carry]),
            (
                equation.params["body_jaxpr"].jaxpr,
                [*inputs[first : first + second], *carry],
            ),
        ]
    programs = [
        equation.params[name]
        for name in ("jaxpr", "call_jaxpr")
        if name in equation.params
    ]
    return [(getattr(p, "jaxpr", p), inputs) for p in programs]


def _consumptions(jaxpr):
    """Return how the keys of a program are consumed, and complain about repetitions.

    A key may be folded with several numbers, but not be split or sampled from, too:
    ``fold_in(key, i)`` can be the key that ``split(key)`` has at ``i``.
    """
    used: dict = {}

    def add(variable, consumed):
        if not isinstance(variable, jax.extend.core.Literal) and _is_key(variable):
            used[variable] = used.get(variable, Counter()) + consumed

    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in CONSUMERS:
            add(equation.invars[0], Counter([CONSUMERS[name]]))
            continue
        alternatives: dict = {}
        for program, inputs in _calls(equation):
            inner = _consumptions(program)
            for variable, given in zip(program.invars, inputs, strict=True):
                if variable in inner:
                    # Of the branches of a condition one is run.
                    before = alternatives.get(given, Counter())
                    alternatives[given] = before | inner[variable]
        for variable, consumed in alternatives.items():
            add(variable, consumed)
    for variable, consumed in used.items():
        assert consumed["taken"] <= 1, (variable, consumed)
        assert not (consumed["taken"] and consumed["folded"]), (variable, consumed)
    return used


def _check(function, *args):
    used = _consumptions(jax.make_jaxpr(function)(jax.random.key(0), *args).jaxpr)
    assert used


def _bank(dimensions):
    shape = (2, *(n + 3 for n in SHAPES[dimensions]), 1)
    sizes = np.full((2, dimensions), shape[1:-1], np.int32)
    return ScanBank(np.zeros(shape, np.float32), sizes)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("make", [chest, random_regions])
def test_volumes(make, dimensions):
    _check(lambda key: make(key, SHAPES[dimensions], spacing=4.0))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_crops(dimensions):
    _check(lambda key: crop(key, _bank(3), SHAPES[dimensions]))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_pairs(dimensions, name):
    def make(key, volume):
        patient_key, pair_key, scans_key = jax.random.split(key, 3)
        volume = another_patient(patient_key, volume, spacing=4.0)
        pair = artificial_pair(pair_key, volume, FAMILIES[name], spacing=4.0)
        return two_scans(scans_key, pair, spacing=4.0)

    _check(make, jnp.zeros((*SHAPES[dimensions], 1)))


@pytest.mark.parametrize(
    ("name", "at_once"),
    [
        ("lung2d", 1),
        ("lung3d_confident", 1),
        ("mr3d", 1),
        ("regnet2d_2017", 2),
        ("regnet3d_axial", 1),
        ("unet3d_2019", 1),
    ],
)
def test_batches_of_configs(name, at_once):
    generate = make_generator(configs.load(name).data)
    _check(lambda key: sample_batch(generate, key, 3, jnp.arange(2), at_once=at_once))


def test_repetitions_are_found():
    def sampled_twice(key):
        return jax.random.uniform(key) + jax.random.normal(key)

    def folded_and_split(key):
        return jax.random.key_data(jax.random.fold_in(key, 1)), jax.random.split(key)

    def within_a_branch(key):
        number = jax.random.uniform(key)
        return jax.lax.cond(
            number < 0.5, lambda: jax.random.normal(key), lambda: number
        )

    for function in (sampled_twice, folded_and_split, within_a_branch):
        with pytest.raises(AssertionError):
            _check(function)
