"""RegNet against the network of the paper, patch by patch, written plainly."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from regnet_jax.models.layers.blocks import max_pool
from regnet_jax.models.regnet import RegNet

# Odd and even, none equal, with room for several predictions.
PATCHES = {2: (57, 60), 3: (54, 53, 56)}


def random_variables(model):
    """Weights of a sensible size, and statistics far from those of a new network."""
    rng = np.random.default_rng(0)
    images = [jax.ShapeDtypeStruct((1, *(53,) * model.dimensions, 1), jnp.float32)] * 2
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), *images)

    def draw(path, leaf):
        name = path[-1].key
        normal = rng.standard_normal(leaf.shape)
        if name == "kernel":
            value = normal * np.sqrt(2.0 / np.prod(leaf.shape[:-1]))
        elif name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:  # biases and means
            value = 0.2 * normal
        return jnp.asarray(value, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_images(shape, batch=1):
    rng = np.random.default_rng(1)
    return [
        jnp.asarray(rng.uniform(size=(batch, *shape, 1)), jnp.float32) for _ in range(2)
    ]


@functools.cache
def network(dimensions):
    """Return the variables of a network, and its compiled prediction."""
    model = RegNet(dimensions, use_bias=True)
    predict = functools.partial(model.apply, train=False)
    return random_variables(model), jax.jit(predict)


def network_of_the_paper(variables, fixed, moving):
    """Displacements of the centres of patches, ``[patches, *(53,) * d, 1]``."""
    rank = fixed.ndim - 2
    spatial = "DHW"[-rank:]
    layers = itertools.count()

    def convolution(x):
        layer = variables["params"][f"Conv_{next(layers)}"]
        names = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
        strides = (1,) * rank
        y = lax.conv_general_dilated(
            x, layer["kernel"], strides, "VALID", dimension_numbers=names
        )
        return y + jnp.expand_dims(layer["bias"], range(1 + rank))

    def activated(x, count):
        for _ in range(count):
            x = convolution(x)
            number = norms.pop(0)
            affine = variables["params"][f"BatchNorm_{number}"]
            seen = variables["batch_stats"][f"BatchNorm_{number}"]
            scale = affine["scale"] / jnp.sqrt(seen["var"] + 1e-3)
            shift = affine["bias"] - seen["mean"] * scale
            scale, shift = (jnp.expand_dims(v, range(1 + rank)) for v in (scale, shift))
            x = jnp.maximum(x * scale + shift, 0.0)
        return x

    norms = list(range(26))
    near = (slice(None), *(slice(12, 41),) * rank)  # 29 at full resolution
    far = (slice(None), *(slice(None, None, 2),) * rank)  # 27 that sample 53
    full = [activated(image[near], 3) for image in (fixed, moving)]
    full = activated(jnp.concatenate(full, -1), 2)
    full = nn.max_pool(full, (2,) * rank, (2,) * rank)
    low = [activated(image[far], 3) for image in (fixed, moving)]
    low = activated(jnp.concatenate(low, -1), 6)
    assert full.shape[1:-1] == low.shape[1:-1] == (9,) * rank
    merged = activated(jnp.concatenate([full, low], -1), 5)
    return convolution(merged).reshape(-1, rank)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_large_patch_gives_the_displacements_of_the_paper_patch_by_patch(dimensions):
    patch = PATCHES[dimensions]
    images = random_images(patch)
    starts = list(itertools.product(*(range(0, n - 52, 2) for n in patch)))
    patches = [
        jnp.concatenate(
            [image[(slice(None), *(slice(s, s + 53) for s in at))] for at in starts]
        )
        for image in images
    ]
    variables, predict = network(dimensions)
    expected = jax.jit(network_of_the_paper)(variables, *patches)
    outputs = ((n - 53) // 2 + 1 for n in patch)
    expected = expected.reshape(1, *outputs, dimensions)
    assert np.std(expected) > 0.05

    field = predict(variables, *images)
    np.testing.assert_allclose(field, expected, atol=1e-4)
    assert field.dtype == jnp.float32


def test_displacement_belongs_to_the_centre_of_its_receptive_field():
    support = RegNet.support
    assert support.margin == support.reach == support.receptive_field // 2 == 26
    variables, predict = network(2)
    fixed, moving = random_images(PATCHES[2])
    field = predict(variables, fixed, moving)
    # Even ones: far from a prediction only every second voxel is sampled.
    for voxel in [(28, 30), (2, 30), (28, 58)]:
        changed = fixed.at[0, voxel[0], voxel[1], 0].add(5.0)
        changes = np.any(predict(variables, changed, moving) != field, -1)[0]
        at = support.stride * np.argwhere(changes) + support.margin
        assert len(at)
        assert np.abs(at - np.asarray(voxel)[None]).max() <= support.reach


def convolution_weights(model):
    params = jax.eval_shape(lambda: random_variables(model))["params"]
    layers = [layer for name, layer in params.items() if name.startswith("Conv")]
    return sum(leaf.size for leaf in jax.tree.leaves(layers))


def test_number_of_weights_is_the_papers():
    assert convolution_weights(RegNet(3, use_bias=True)) == 903_044
    # Each layer: (taps * channels in + 1) * channels out.
    early = (9 * 1 + 1) * 16 + 2 * (9 * 16 + 1) * 16
    full = (9 * 32 + 1) * 25 + (9 * 25 + 1) * 30
    low = full + 2 * (9 * 25 + 1) * 25 + 2 * (9 * 30 + 1) * 30
    merged = (9 * 60 + 1) * 60 + (9 * 60 + 1) * 70 + (9 * 70 + 1) * 75
    merged += (9 * 75 + 1) * 150 + (150 + 1) * 150 + (150 + 1) * 2
    expected = 4 * early + full + low + merged
    assert convolution_weights(RegNet(2, use_bias=True)) == expected == 316_777
    # Batch normalisation makes all biases but the last redundant.
    biases = 4 * 48 + 55 + 165 + 60 + 70 + 75 + 150 + 150
    assert convolution_weights(RegNet(2)) == expected - biases


@pytest.mark.parametrize(
    ("patch", "outputs"), [((53, 54), (1, 1)), ((69, 100, 55), (9, 24, 2))]
)
def test_every_second_voxel_with_room_around_it_is_predicted(patch, outputs):
    model = RegNet(len(patch))
    variables = jax.eval_shape(lambda: random_variables(model))
    image = jax.ShapeDtypeStruct((2, *patch, 1), jnp.float32)
    predict = functools.partial(model.apply, train=False)
    field = jax.eval_shape(predict, variables, image, image)
    assert field.shape == (2, *outputs, len(patch))


def test_training_reaches_all_weights_and_updates_the_statistics():
    model = RegNet(2)
    variables = random_variables(model)
    images = random_images((55, 56), batch=2)

    @jax.jit
    def step(params):
        def loss(params):
            field, updates = model.apply(
                {**variables, "params": params},
                *images,
                train=True,
                mutable=["batch_stats"],
            )
            return jnp.sum(field**2), updates["batch_stats"]

        return jax.grad(loss, has_aux=True)(params)

    gradients, statistics = step(variables["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient != 0), path
    before = jax.tree.leaves(variables["batch_stats"])
    after = jax.tree.leaves(statistics)
    assert all(np.all(a != b) for a, b in zip(after, before, strict=True))


def test_devices_share_their_statistics():
    variables = random_variables(RegNet(2))
    images = random_images((53, 54), batch=4)

    def train(model, *images):
        return model.apply(variables, *images, train=True, mutable=["batch_stats"])

    field, alone = jax.jit(functools.partial(train, RegNet(2)))(*images)
    parts, together = jax.pmap(
        functools.partial(train, RegNet(2, axis_name="device")),
        axis_name="device",
        devices=jax.devices()[:2],
    )(*(image.reshape(2, 2, *image.shape[1:]) for image in images))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    close(parts.reshape(field.shape), field)
    jax.tree.map(lambda a, b: (close(a[0], b), close(a[1], b)), together, alone)


def test_max_pool_is_that_of_flax():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 7, 6, 5, 3)), jnp.float32)

    def squares(pool):
        return jax.value_and_grad(lambda x: jnp.sum(pool(x) ** 2))(x)

    ours = squares(lambda x: max_pool(x))
    theirs = squares(lambda x: nn.max_pool(x, (2, 2, 2), (2,) * 3))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), ours, theirs)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 60, 52, 1), "53"),
        ((1, 53, 53, 53, 1), "2D"),
    ],
)
def test_small_patches_and_other_dimensions_are_refused(shape, message):
    image = jnp.zeros(shape)
    with pytest.raises(ValueError, match=message):
        RegNet(2).init(jax.random.key(0), image, image, train=False)
