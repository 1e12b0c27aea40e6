"""What holds for every network: shapes, weights, support, symmetry, learning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regnet_jax.models import MODELS, make_model
from regnet_jax.models.registry import HALVES
from regnet_jax.models.support import (
    convolution,
    path_reach,
    pooling,
    subsampling,
    upsampling_centres,
    upsampling_nodes,
)

# Convolution weights and biases of the original's code; batch normalisation has two
# more numbers a feature there.
ORIGINAL = {
    "regnet": 903_044,
    "unet": 232_265,
    "multiview": 1_199_609,
    "cropped_unet": 1_261_189,
}
NETWORKS = [*ORIGINAL, "regnet_single", "corrnet"]


def shapes_of(model, size):
    window = jax.ShapeDtypeStruct((1, *(size,) * model.dimensions, 1), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), window, window)
    return variables


def smallest(model):
    """A patch with few targets."""
    return 2 * model.support.margin + 16


def random_variables(model, seed=0):
    """Weights that keep the size of what they are given, none of them zero."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key != "kernel":
            ones = ("scale", "var", "sharpness_1", "sharpness_2")
            return np.full(leaf.shape, path[-1].key in ones, np.float32)
        spread = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    shapes = shapes_of(model, smallest(model))
    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def predictor(name):
    """A 2D network that nobody trained, its weights and its compiled prediction."""
    narrow = {"features": (6, 8), "decoder": (6, 8, 8)} if name == "corrnet" else {}
    model = make_model(name, dimensions=2, **narrow)
    apply = functools.partial(model.apply, train=False)
    return model, random_variables(model), jax.jit(apply)


def textures(shape, seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(0, 1, (1, *shape, 1)), jnp.float32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("extra", [(0, 0), (3, 8), (1, 0, 10)])
def test_every_voxel_with_room_around_it_is_predicted(name, extra):
    model = make_model(name, dimensions=len(extra))
    support = model.support
    window = [2 * support.margin + 1 + n for n in extra]
    image = jax.ShapeDtypeStruct((2, *window, 1), jnp.float32)
    predict = functools.partial(model.apply, train=False)
    field = jax.eval_shape(predict, shapes_of(model, smallest(model)), image, image)
    targets = [len(range(0, n + 1, support.stride)) for n in extra]
    assert field.shape == (2, *targets, len(extra))
    assert field.dtype == jnp.float32


@pytest.mark.parametrize("name", ORIGINAL)
def test_number_of_weights_is_that_of_the_original(name):
    model = make_model(name, dimensions=3, use_bias=True)
    paths = jax.tree_util.tree_leaves_with_path(shapes_of(model, smallest(model)))
    count = sum(leaf.size for path, leaf in paths if "Conv" in path[1].key)
    assert count == ORIGINAL[name]


@pytest.mark.parametrize("name", MODELS)
def test_network_refuses_images_of_another_dimension(name):
    model, image = make_model(name, dimensions=2), jnp.zeros((1, 8, 8, 8, 1))
    with pytest.raises(ValueError, match="for a 2D network"):
        model.init(jax.random.key(0), image, image, train=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_depend_on_no_voxel_beyond_the_reach(name):
    """And at one place of a period, something does on what is nearly as far."""
    model, variables, predict = predictor(name)
    support = model.support
    pair = [textures((2 * support.margin + 160, smallest(model)), s) for s in (1, 2)]
    before = predict(variables, *pair)[0]
    voxels = support.margin + support.stride * np.arange(before.shape[0])
    edge = support.margin + 100 + np.arange(support.period)
    furthest = 0
    for place in edge:
        changed = [image.at[:, place:].set(7.0) for image in pair]
        moved = np.any(predict(variables, *changed)[0] != before, axis=(1, 2))
        furthest = max(furthest, place - voxels[moved].min())
    assert support.reach - 2 * support.stride < furthest <= support.reach


@pytest.mark.parametrize("name", NETWORKS)
def test_shifting_the_images_shifts_the_field(name):
    model, variables, predict = predictor(name)
    support = model.support
    step = support.period // support.stride
    far = support.reach - support.margin  # from there on the border is not seen
    size = 2 * support.reach + 24
    pair = [textures((size + support.period, smallest(model)), s) for s in (1, 2)]
    first = predict(variables, *(image[:, : -support.period] for image in pair))
    second = predict(variables, *(image[:, support.period :] for image in pair))
    inner = slice(far, first.shape[1] - far - step)
    np.testing.assert_allclose(first[:, step:][:, inner], second[:, inner], atol=1e-5)
    assert np.std(first) > 0.05


def mirrored(variables):
    """Kernels that see the first axis the other way round."""

    def flip(path, leaf):
        return np.flip(leaf, 0) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(flip, variables)


@pytest.mark.parametrize(
    ("name", "size"), [("unet", 160), ("multiview", 123), ("cropped_unet", 122)]
)
def test_mirrored_images_and_kernels_give_the_mirrored_field(name, size):
    """The components too: they are the last layer's, and taken as they come."""
    model, variables, predict = predictor(name)
    pair = [textures((size, smallest(model)), s) for s in (1, 2)]
    field = predict(variables, *pair)[:, : size - 2 * model.support.margin]
    other = predict(mirrored(variables), *(jnp.flip(image, 1) for image in pair))
    np.testing.assert_allclose(jnp.flip(other, 1), field, atol=1e-5)
    assert np.std(field) > 0.05


# CorrNet, which normalises nothing, diverges at this rate. Networks that there are with
# half the features, too, learn with these, in less time.
@pytest.mark.parametrize(
    "name", sorted({*MODELS} - {"corrnet", "corrnet_confident", *HALVES})
)
@pytest.mark.slow
def test_network_overfits_one_batch(name):
    model = make_model(name, dimensions=2)
    size = (2 * model.support.margin + 16,) * 2
    images = [
        jnp.concatenate([textures(size, s), textures(size, s + 2)]) for s in (1, 2)
    ]
    window = jnp.zeros((1, *size, 1))
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0, impl="unsafe_rbg"), window, window)
    target = jnp.stack([jnp.asarray([2.0, -1.0]), jnp.asarray([-1.0, 3.0])])[
        :, None, None
    ]
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(variables, state):
        def error(params):
            given = {**variables, "params": params}
            field, said = model.apply(
                given, *images, train=True, mutable=["batch_stats"]
            )
            return jnp.mean((field - target) ** 2), said

        value = jax.value_and_grad(error, has_aux=True)
        (loss, said), gradients = value(variables["params"])
        changes, state = optimizer.update(gradients, state)
        params = optax.apply_updates(variables["params"], changes)
        return {"params": params, **said}, state, loss

    state, losses = optimizer.init(variables["params"]), []
    for _ in range(40):
        variables, state, loss = step(variables, state)
        losses.append(float(loss))
        if losses[-1] < 0.05 * losses[0]:
            break
    assert losses[0] == pytest.approx(3.75, rel=1e-3)  # the zero field's
    assert losses[-1] < 0.05 * losses[0], losses


@pytest.mark.parametrize(
    ("steps", "period", "want"),
    [
        ([convolution(1), convolution(2)], 1, 3),
        ([pooling(2)], 1, 1),
        ([pooling(4), upsampling_centres(4)], 4, 5),
        ([subsampling(2), upsampling_nodes(2)], 2, 1),
        ([subsampling(4), upsampling_nodes(4), convolution(1)], 4, 4),
    ],
)
def test_reach_of_a_path_is_the_one_by_hand(steps, period, want):
    assert path_reach(steps, period) == want
