"""CorrNet: what it can do before training, and that training reaches all of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from regnet_jax.models.corrnet import ERROR_LAYERS, ConfidentCorrNet, CorrNet

SMALL = {"features": (6, 8), "decoder": (6, 8, 8)}


def shapes_of(model, size=8):
    image = jax.ShapeDtypeStruct((1, *(size,) * model.dimensions, 1), jnp.float32)
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), image, image)["params"]


def random_variables(model):
    """Weights of a sensible size, none of them zero."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        spread = 0.1
        if path[-1].key == "kernel":
            spread = np.sqrt(2.0 / np.prod(leaf.shape[:-1]))
        value = spread * rng.standard_normal(leaf.shape)
        return jnp.asarray(value, jnp.float32)

    return {"params": jax.tree_util.tree_map_with_path(draw, shapes_of(model))}


def textures(shape, batch=1, seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(0.6 * rng.uniform(size=(batch, *shape, 1)), jnp.float32)


@functools.cache
def predictor(dimensions, **options):
    """Variables that nobody trained, and the compiled prediction."""
    model = CorrNet(dimensions, **SMALL)
    return random_variables(model), jax.jit(
        functools.partial(model.apply, train=False, **options)
    )


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (9, 13), (33, 20), (8, 16), (9, 17, 12), (1, 9, 30), (8, 8, 8), (7, 2, 1)],
)
def test_every_voxel_of_any_shape_gets_a_displacement(shape):
    d = len(shape)
    model = CorrNet(d)
    image = jax.ShapeDtypeStruct((2, *shape, 1), jnp.float32)
    predict = functools.partial(model.apply, train=False)
    field = jax.eval_shape(predict, {"params": shapes_of(model)}, image, image)
    assert field.shape == (2, *shape, d)
    assert field.dtype == jnp.float32


@pytest.mark.parametrize("shape", [(11, 6), (5, 9, 3)])
def test_sizes_between_multiples_are_continued_by_the_edge(shape):
    variables, predict = predictor(len(shape))
    pair = textures((*shape,)), textures(shape, seed=2)
    got = predict(variables, *pair)
    pads = [(0, 0), *((0, -n % 8) for n in shape), (0, 0)]
    whole = predict(variables, *(np.pad(x, pads, mode="edge") for x in pair))
    inside = (slice(None), *(slice(n) for n in shape))
    np.testing.assert_allclose(got, whole[inside], atol=1e-5)
    assert np.std(got) > 0.05


@pytest.mark.parametrize(("dimensions", "shape"), [(2, (8, 8, 8)), (3, (8, 8))])
def test_images_of_another_dimension_are_refused(dimensions, shape):
    image = jnp.zeros((1, *shape, 1))
    with pytest.raises(ValueError, match=rf"for a {dimensions}D network"):
        CorrNet(dimensions).init(jax.random.key(0), image, image, train=False)


@pytest.mark.parametrize(("d", "total"), [(2, 238_239), (3, 850_625)])
def test_number_of_parameters(d, total):
    taps, block = 3**d, 2**d  # of a kernel, and of one with a stride of two
    # Each layer: (taps * channels in + 1) * channels out.
    half = (taps * 3 * block + 1) * 24 + (taps * 24 + 1) * 24
    quarter = (block * 24 + 1) * 32 + 2 * (taps * 32 + 1) * 32
    match = (32 + 1) * 32 + 2  # the projection, its products' sharpness, the prior
    match += (taps * (5**d + 32 + d) + 1) * 48 + (taps * 48 + 1) * 48
    match += (block * 48 + 1) * 64 + 2 * (taps * 64 + 1) * 64
    match += (taps * (48 + 64) + 1) * 48 + (taps * 48 + 1) * d
    correct = (24 + 1) * 24 + 1 + (48 + 1) * 16
    correct += (taps * (3**d + 24 + 16 + d) + 1) * 32 + (taps * 32 + 1) * 32
    correct += (taps * 32 + 1) * d
    got = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(CorrNet(d))))
    assert got == half + quarter + match + correct == total


def test_heads_are_returned_only_if_mutable():
    pair = textures((11, 6)), textures((11, 6), seed=2)
    variables, predict = predictor(2)
    _, predict_all = predictor(2, mutable=("heads",))
    field, said = predict_all(variables, *pair)
    assert set(said["heads"]) == {"matched", "coarse"}
    for (head,) in said["heads"].values():
        assert head.shape == field.shape == (1, 11, 6, 2)
        assert np.abs(head - field).max() > 0.01
    np.testing.assert_allclose(predict(variables, *pair), field, atol=1e-6)


@pytest.mark.parametrize("shape", [(11, 6), (5, 9, 3)])
def test_errors_are_estimated_beside_the_same_prediction(shape):
    d = len(shape)
    pair = textures(shape), textures(shape, seed=2)
    model = ConfidentCorrNet(d, **SMALL)
    variables = random_variables(model)
    apply = functools.partial(model.apply, train=False, mutable=["errors"])
    field, said = jax.jit(apply)(variables, *pair)
    (errors,) = said["errors"]["logarithm"]
    assert errors.shape == (1, *shape, 2)
    assert np.std(errors) > 0.05
    layers = variables["params"].items()
    others = {"params": {k: v for k, v in layers if k not in ERROR_LAYERS}}
    plain = jax.jit(functools.partial(CorrNet(d, **SMALL).apply, train=False))
    np.testing.assert_allclose(plain(others, *pair), field, atol=1e-6)


def test_estimated_errors_train_their_own_layers_alone():
    model = ConfidentCorrNet(2, **SMALL)
    pair = textures((9, 13)), textures((9, 13), seed=2)

    def total(params):
        _, said = model.apply({"params": params}, *pair, train=True, mutable=["errors"])
        return jnp.sum(said["errors"]["logarithm"][0] ** 2)

    gradients = jax.jit(jax.grad(total))(random_variables(model)["params"])
    moved = {k for k, v in gradients.items() if np.any(np.abs(jax.tree.leaves(v)[0]))}
    assert moved == set(ERROR_LAYERS)


def test_pairs_of_a_batch_do_not_affect_each_other():
    variables, predict = predictor(2)
    fixed, moving = textures((9, 13), 2), textures((9, 13), 2, seed=2)
    field = predict(variables, fixed, moving)
    other = predict(variables, fixed.at[1].set(0.0), moving.at[1].multiply(0.3))
    np.testing.assert_array_equal(field[0], other[0])
    assert np.abs(field[1] - other[1]).max() > 0.01


@functools.cache
def untrained():
    """What initialisers give, from random bits that compile fast."""
    model, image = CorrNet(2, **SMALL), jnp.zeros((1, 8, 8, 1))
    init = jax.jit(functools.partial(model.init, train=False))
    return init(jax.random.key(0, impl="unsafe_rbg"), image, image)["params"]


@pytest.mark.parametrize("shift", [(4, -8), (-4, 0)])
def test_untrained_matching_finds_shifts_of_coarse_voxels(shift):
    """Sharp matches of new features find a motion of whole coarse voxels."""
    fixed = textures((76, 81))
    moving = jnp.roll(fixed, shift, axis=(1, 2))
    assert float(untrained()["sharpness_2"]) == 2
    params = {**untrained(), "sharpness_2": jnp.log(1e6)}
    _, predict = predictor(2, mutable=("heads",))
    field, said = predict({"params": params}, fixed, moving)
    inner = (slice(None), *(slice(28, -28),) * 2)
    want = np.broadcast_to(shift, field[inner].shape)
    heads = said["heads"]
    for found in (heads["matched"][0], heads["coarse"][0]):
        np.testing.assert_allclose(found[inner], want, atol=0.05)
    # Corrections are zero before training.
    np.testing.assert_array_equal(heads["matched"][0], heads["coarse"][0])
    np.testing.assert_allclose(field[inner], want, atol=0.05)


def test_strong_prior_keeps_matches_at_zero():
    pair = textures((11, 6)), textures((11, 6), seed=2)
    variables, predict = predictor(2, mutable=("heads",))
    free = predict(variables, *pair)[1]["heads"]["matched"][0]
    params = {**variables["params"], "prior": jnp.float32(9.0)}
    held = predict({"params": params}, *pair)[1]["heads"]["matched"][0]
    assert np.abs(free).max() > 0.05
    np.testing.assert_allclose(held, 0, atol=1e-6)


def shifted(voxels):
    """Smooth textures, and the same moved: ``moving(x + voxels) = fixed(x)`` in y."""
    noise = np.random.default_rng(3).normal(size=(2, 38, 38, 1))
    for axis in (1, 2):
        noise = sum(np.roll(noise, k, axis) for k in range(5))
    image = jnp.asarray(0.3 + 0.03 * noise, jnp.float32)
    return image[:, voxels : 32 + voxels, :32], image[:, :32, :32]


def test_training_learns_a_shift_and_reaches_all_weights():
    model, optimizer = CorrNet(2, **SMALL), optax.adam(5e-3)
    fixed, moving = shifted(3)
    target = jnp.broadcast_to(jnp.asarray([3.0, 0.0]), (2, 32, 32, 2))

    @jax.jit
    def step(params, state):
        def error(params):
            field = model.apply({"params": params}, fixed, moving, train=True)
            return jnp.mean(optax.huber_loss(field, target))

        loss, gradients = jax.value_and_grad(error)(params)
        changes, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, changes), state, loss

    params, state, losses = untrained(), optimizer.init(untrained()), []
    for _ in range(40):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0], losses
    moved = jax.tree.map(
        lambda a, b: float(jnp.max(jnp.abs(a - b))), params, untrained()
    )
    for path, change in jax.tree_util.tree_leaves_with_path(moved):
        assert 0 < change < 1, path
