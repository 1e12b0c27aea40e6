"""Shipped weights: what is written is read, and nothing else."""

import jax
import numpy as np
import pytest

from regnet_jax import pretrained
from regnet_jax.errors import InputError
from regnet_jax.registration import load_network
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest

VARIABLES = {
    "params": {
        "Conv_0": {
            "kernel": np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 3, 2, 3),
            "bias": np.zeros(3, np.float32),
        },
        "sharpness": np.float32(2.0),
    }
}


@pytest.fixture
def home(tmp_path):
    pretrained.write("small", '{"name": "small"}\n', VARIABLES, tmp_path)
    return tmp_path


def test_what_was_written_is_read(home):
    config, variables = pretrained.read("small", home)
    assert config == '{"name": "small"}\n'
    layer = variables["params"]["Conv_0"]
    assert layer["kernel"].dtype == np.float32
    kernel = VARIABLES["params"]["Conv_0"]["kernel"]
    np.testing.assert_allclose(layer["kernel"], kernel, atol=5e-4)
    assert variables["params"]["sharpness"] == 2.0


@pytest.mark.parametrize("place", [0, 200, -1])
def test_a_changed_byte_is_refused(home, place):
    path = home / "small" / "weights.npz"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="checksum"):
        pretrained.read("small", home)


def test_the_summary_is_the_first_paragraph_of_the_card(home):
    assert pretrained.summary("small", home) == "no card yet"
    card = home / "small" / pretrained.CARD
    card.write_text("# small\n\nFor tests\nalone.\n\nNothing more.\n")
    assert pretrained.summary("small", home) == "For tests alone."


@pytest.mark.parametrize("name", pretrained.names())
def test_every_shipped_network_loads_and_has_a_card(name):
    _, variables = pretrained.read(name)
    assert all(np.isfinite(a).all() for a in _leaves(variables))
    assert "no card" not in pretrained.summary(name)


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]


@pytest.mark.parametrize(
    ("name", "shape"), [("lung", (61, 64, 58)), ("lung2d", (99, 118))]
)
def test_a_network_finds_a_deformation_it_never_saw(name, shape):
    volume_key, pair_key = jax.random.split(jax.random.key(77))
    volume = chest(volume_key, shape, spacing=2.0)
    family = FAMILIES["multiscale"].scaled(0.6)
    pair = artificial_pair(pair_key, volume, family, spacing=2.0, noise=10.0)
    found = predict(load_network(name), pair.fixed[..., 0], pair.moving[..., 0])
    body = np.asarray(pair.fixed[..., 0]) > -950
    error, zero = (
        np.linalg.norm(field - pair.displacement, axis=-1)[body].mean()
        for field in (found, 0.0 * found)
    )
    assert zero > 0.5
    assert error < 0.5 * zero
