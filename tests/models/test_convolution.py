"""`convolve` against `lax.conv_general_dilated` and finite differences."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec
from jax.test_util import check_grads

from regnet_jax.models import convolution
from regnet_jax.models.convolution import convolve

# Sizes, taps and channels in and out: odd, unequal, many to few and back.
SHAPES = [
    ((7, 8, 9), (3, 3, 3), 2, 3),
    ((6, 5, 7), (1, 2, 3), 3, 2),
    ((5, 4, 6), (1, 1, 1), 2, 3),
    ((9, 12), (3, 3), 1, 4),
    ((7, 5), (2, 1), 3, 2),
]


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def reference(x, kernel, stride=1, dilation=1, padding="VALID"):
    rank = x.ndim - 2
    spatial = "DHW"[-rank:]
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * rank,
        padding,
        rhs_dilation=(dilation,) * rank,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
    )


def arrays(spatial, taps, c_in, c_out, batch=2):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *spatial, c_in))
    kernel = rng.standard_normal((*taps, c_in, c_out))
    return jnp.asarray(x), jnp.asarray(kernel)


def value_and_gradients(function, x, kernel):
    """Output, and gradients of a loss that weighs every output differently."""

    def loss(x, kernel):
        y = function(x, kernel)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, kernel)
    return y, gradients


def assert_same(left, right):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
        left,
        right,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_values_and_gradients_are_those_of_lax(shape, stride, dilation):
    x, kernel = arrays(*shape)
    options = {"stride": stride, "dilation": dilation}
    ours = jax.jit(
        lambda x, k: value_and_gradients(lambda *a: convolve(*a, **options), x, k)
    )(x, kernel)
    theirs = value_and_gradients(lambda *a: reference(*a, **options), x, kernel)
    assert_same(ours, theirs)


def test_larger_strides_and_dilations():
    x, kernel = arrays((11, 13), (4, 2), 2, 3)
    for stride, dilation in itertools.product((1, 3), (1, 3)):
        ours = convolve(x, kernel, stride=stride, dilation=dilation)
        assert_same(ours, reference(x, kernel, stride, dilation))


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_same_padding(stride, dilation):
    x, kernel = arrays((7, 6, 5), (3, 2, 3), 2, 2)
    options = {"stride": stride, "dilation": dilation, "padding": "SAME"}
    assert_same(convolve(x, kernel, **options), reference(x, kernel, **options))


def test_blocks_of_the_kernel_gradient_cover_all_planes(monkeypatch):
    x, kernel = arrays((7, 8, 9), (3, 3, 3), 2, 3)
    theirs = value_and_gradients(reference, x, kernel)
    for rows in (1, 2 * 6 * 7, 10**6):
        monkeypatch.setattr(convolution, "_BLOCK_ROWS", rows)
        assert_same(value_and_gradients(convolve, x, kernel), theirs)


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[3]], ids=str)
def test_finite_differences(shape):
    x, kernel = arrays(*shape, batch=1)
    check_grads(convolve, (x, kernel), order=2, modes=["rev"])


def test_vmap_over_either_argument():
    x, kernel = arrays((5, 6, 7), (3, 3, 3), 2, 2)
    xs, kernels = jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel])
    for axes in [(0, 0), (0, None), (None, 0)]:
        pair = (xs if axes[0] == 0 else x, kernels if axes[1] == 0 else kernel)
        ours, theirs = (
            jax.vmap(lambda *a, f=f: value_and_gradients(f, *a), axes)(*pair)
            for f in (convolve, reference)
        )
        assert_same(ours, theirs)


@pytest.mark.parametrize("count", [1, 2])
def test_pmap(count):
    x, kernel = arrays((5, 6, 7), (3, 3, 3), 2, 2)
    xs = jnp.stack([x, 2 * x])[:count]
    run = jax.pmap(
        lambda x, k: value_and_gradients(convolve, x, k),
        in_axes=(0, None),
        devices=jax.devices()[:count],
    )
    theirs = jax.vmap(lambda x: value_and_gradients(reference, x, kernel))(xs)
    assert_same(run(xs, kernel), theirs)


@pytest.mark.parametrize("count", [1, 2])
def test_shard_map_sums_the_gradient_of_a_shared_kernel(count):
    x, kernel = arrays((7, 8, 9), (3, 3, 3), 2, 3)
    mesh = jax.make_mesh(
        (count,),
        ("device",),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=jax.devices()[:count],
    )
    split, whole = PartitionSpec("device"), PartitionSpec()
    for option in ("none", "stride", "dilation"):
        ours, theirs = (
            functools.partial(f, **({} if option == "none" else {option: 2}))
            for f in (convolve, reference)
        )
        sharded = jax.shard_map(
            functools.partial(value_and_gradients, ours),
            mesh=mesh,
            in_specs=(split, whole),
            out_specs=(split, (split, whole)),
        )
        assert_same(jax.jit(sharded)(x, kernel), value_and_gradients(theirs, x, kernel))


def test_scanned_and_rematerialised():
    x, kernel = arrays((6, 6, 6), (1, 1, 1), 2, 2)

    def layers(function, x, kernel):
        body = jax.checkpoint(lambda y, k: (function(y, k), None))
        return lax.scan(body, x, jnp.stack([kernel, kernel]))[0]

    ours = value_and_gradients(lambda *a: layers(convolve, *a), x, kernel)
    theirs = value_and_gradients(lambda *a: layers(reference, *a), x, kernel)
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "options", "message"),
    [
        ((1, 5, 5, 2), (3, 3, 3, 2, 2), {}, "2D or 3D"),
        ((1, 5, 2), (3, 2, 2), {}, "2D or 3D"),
        ((1, 5, 5, 2), (3, 3, 1, 2), {}, "channels"),
        ((1, 5, 2, 2), (3, 3, 2, 2), {}, "smaller"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"dilation": 2}, "smaller"),
        ((1, 5, 5, 2), (3, 3, 2, 2), {"padding": "FULL"}, "padding"),
    ],
)
def test_bad_shapes_are_named(x_shape, kernel_shape, options, message):
    with pytest.raises(ValueError, match=message):
        convolve(jnp.zeros(x_shape), jnp.zeros(kernel_shape), **options)


def test_phases_return():
    x, _ = arrays((5, 6, 7), (1, 1, 1), 2, 1)
    split = convolution.space_to_batch(x, 2)
    assert split.shape == (16, 3, 3, 4, 2)
    np.testing.assert_array_equal(split[2:4, :, :, :3], x[:, ::2, ::2, 1::2])
    assert_same(convolution.batch_to_space(split, 2, x.shape[1:-1]), x)
