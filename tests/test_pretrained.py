"""Shipped weights: what is written is read, and nothing else."""

import numpy as np
import pytest

from regnet_jax import pretrained
from regnet_jax.errors import InputError

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
