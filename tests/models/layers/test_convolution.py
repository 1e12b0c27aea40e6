"""``convolve`` against ``lax.conv_general_dilated`` and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from regnet_jax.models.layers import cpu_convolution
from regnet_jax.models.layers.convolution import Conv, convolve

# Sizes, taps, channels in and out: odd, even, unequal, from few to many and back.
SHAPES = [
    ((7, 8, 9), (3, 3, 3), 2, 3),
    ((6, 5, 7), (1, 2, 3), 3, 2),
    ((5, 4, 6), (1, 1, 1), 2, 3),
    ((9, 12), (3, 3), 1, 4),
    ((7, 5), (2, 1), 3, 2),
]
VOLUME, PLANE = SHAPES[0], SHAPES[3]


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def reference(x, kernel, *, stride=1, dilation=1, padding="VALID"):
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


def with_gradients(function, **options):
    """Output, and both gradients of a loss that weighs every output differently."""

    def loss(x, kernel):
        y = function(x, kernel, **options)
        return jnp.sum(jnp.sin(y)), y

    def run(x, kernel):
        (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, kernel)
        return y, gradients

    return run


def assert_same(left, right):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    jax.tree.map(close, left, right)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"dilation": 2},
        {"stride": 2, "dilation": 2},
        {"stride": 3, "padding": "SAME"},
        {"dilation": 3, "padding": "SAME"},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_convolution_and_its_gradients_are_those_of_lax(shape, options):
    ours, theirs = (
        jax.jit(with_gradients(function, **options))(*arrays(*shape))
        for function in (convolve, reference)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("shape", [VOLUME, PLANE], ids=str)
def test_convolution_gradients_are_finite_differences(shape):
    check_grads(jax.jit(convolve), arrays(*shape, batch=1), order=1, modes=["rev"])


@pytest.mark.parametrize("rows", [1, 2 * 6 * 7, 10**6])
def test_slabs_of_the_kernel_gradient_cover_all_planes(monkeypatch, rows):
    monkeypatch.setattr(cpu_convolution, "_BLOCK", rows)
    volume = arrays((6, 8, 9), (3, 3, 3), 2, 3)
    ours = jax.jit(with_gradients(lambda *a: convolve(*a)))(*volume)
    assert_same(ours, with_gradients(reference)(*volume))


def test_convolution_has_second_derivatives():
    def roughness(function, x, kernel):
        _, gradients = with_gradients(function)(x, kernel)
        return sum(jnp.sum(g**2) for g in gradients)

    ours, theirs = (
        jax.jit(jax.grad(functools.partial(roughness, f), (0, 1)))(*arrays(*VOLUME))
        for f in (convolve, reference)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)], ids=str)
def test_convolution_maps_over_either_argument(axes):
    pair = [
        array if axis is None else jnp.stack([array, -0.5 * array])
        for array, axis in zip(arrays(*VOLUME), axes, strict=True)
    ]
    ours, theirs = (
        jax.jit(jax.vmap(with_gradients(f), axes))(*pair) for f in (convolve, reference)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("count", [1, 2])
def test_convolution_runs_under_pmap(count):
    x, kernel = arrays(*VOLUME)
    xs = jnp.stack([x, -0.5 * x])[:count]
    devices = jax.devices()[:count]
    ours, theirs = (
        jax.pmap(with_gradients(f), in_axes=(0, None), devices=devices)(xs, kernel)
        for f in (convolve, reference)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2}], ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_shard_map_sums_the_gradient_of_a_shared_kernel(count, options):
    mesh = jax.make_mesh(
        (count,), ("device",), (AxisType.Auto,), devices=jax.devices()[:count]
    )
    split, whole = PartitionSpec("device"), PartitionSpec()
    ours = jax.shard_map(
        with_gradients(convolve, **options),
        mesh=mesh,
        in_specs=(split, whole),
        out_specs=(split, (split, whole)),
    )
    pair = arrays(*VOLUME)
    assert_same(jax.jit(ours)(*pair), with_gradients(reference, **options)(*pair))


def test_convolution_is_rematerialised_in_a_scan():
    def layers(function, x, kernel):
        body = jax.checkpoint(lambda y, k: (function(y, k, padding="SAME"), None))
        return lax.scan(body, x, jnp.stack([kernel, -kernel]))[0]

    ours, theirs = (
        jax.jit(with_gradients(functools.partial(layers, f)))(
            *arrays((5, 6, 4), (3, 3, 3), 2, 2)
        )
        for f in (convolve, reference)
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2}], ids=str)
def test_other_platforms_get_the_plain_convolution(options):
    pair = arrays(*VOLUME)
    run = jax.jit(with_gradients(convolve, **options)).trace(*pair)
    text = run.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "stablehlo.while" not in text
    assert "stablehlo.while" in run.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize(
    ("x", "kernel", "options", "message"),
    [
        ((1, 5, 5, 2), (3, 3, 3, 2, 2), {}, "both 2D or both 3D"),
        ((1, 5, 2), (3, 2, 2), {}, "both 2D or both 3D"),
        ((1, 5, 5, 2), (3, 3, 1, 2), {}, "channels"),
        ((1, 5, 2, 2), (3, 3, 2, 2), {}, "smaller"),
        ((1, 4, 4, 2), (3, 3, 2, 2), {"dilation": 2}, "smaller"),
        ((1, 5, 5, 2), (3, 3, 2, 2), {"padding": "FULL"}, "FULL"),
    ],
)
def test_convolution_refuses_shapes_that_do_not_fit(x, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        convolve(jnp.zeros(x), jnp.zeros(kernel), **options)


def test_layer_adds_its_bias_and_computes_in_its_type():
    x, _ = arrays(*PLANE)
    layer = Conv(4, (3, 3), stride=2, padding="SAME", dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x)
    kernel, bias = variables["params"]["kernel"], jnp.arange(4.0, dtype=jnp.float32)
    assert kernel.shape == (3, 3, 1, 4)
    assert kernel.dtype == jnp.float32
    y = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    assert y.dtype == jnp.bfloat16
    plain = reference(x, kernel.astype(x.dtype), stride=2, padding="SAME")
    expected = plain + bias.reshape(1, 1, 1, 4)
    np.testing.assert_allclose(y.astype(x.dtype), expected, atol=0.05)
    without = Conv(4, (3, 3), use_bias=False).init(jax.random.key(0), x)
    assert list(without["params"]) == ["kernel"]


@pytest.mark.parametrize("function", [convolve, cpu_convolution.convolve_by_xla])
@pytest.mark.parametrize("rank", [2, 3])
def test_bfloat16_is_added_in_float32(function, rank):
    """Sums of 4096 numbers would be off by far more than what rounds the result."""
    rng = np.random.default_rng(5)
    shape = {2: (1, 9, 8, 455), 3: (1, 4, 5, 3, 152)}[rank]
    x = jnp.asarray(rng.uniform(0.5, 1, shape), jnp.bfloat16)
    kernel = rng.uniform(0.5, 1, (*(3,) * rank, shape[-1], 4))
    kernel = jnp.asarray(kernel, jnp.bfloat16)
    exact = (a.astype(jnp.float32) for a in (x, kernel))
    want = cpu_convolution.convolve_by_xla(*exact)
    got, pull = jax.vjp(function, x, kernel)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, rtol=2**-8)
    assert [g.dtype for g in pull(got)] == [jnp.bfloat16] * 2
