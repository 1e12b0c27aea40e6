"""Weights of networks that ship and of runs, and how they are used."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from experiments import configs
from regnet_jax import pretrained
from regnet_jax.errors import InputError
from regnet_jax.pretrained import InferenceConfig
from regnet_jax.pretrained.inference import read_inference, write_inference
from regnet_jax.pretrained.weights import read_shipped, write_shipped
from regnet_jax.registration import load_network
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest
from regnet_jax.training import checkpoint
from regnet_jax.training.config import from_json
from regnet_jax.training.inference import inference_config
from tests.helpers.networks import config, inference

VARIABLES = {
    "params": {
        "Conv_0": {
            "kernel": np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 3, 2, 3),
            "bias": np.zeros(3, np.float32),
        },
        "sharpness": np.float32(2.0),
    }
}


USE = InferenceConfig(
    name="small",
    model="corrnet",
    dimensions=2,
    voxel_sizes=(4.0, 2.0),
    extra_pass=True,
    shrinkage=0.2,
    tile=128,
)


@pytest.fixture
def home(tmp_path):
    write_shipped(USE, VARIABLES, training='{"name": "small"}\n', home=tmp_path)
    return tmp_path


def test_written_weights_are_read_with_their_use(home):
    use, variables = read_shipped("small", home)
    assert use == USE
    assert (home / "small" / "config.json").read_text() == '{"name": "small"}\n'
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
        read_shipped("small", home)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dimensions", 4),
        ("voxel_sizes", []),
        ("voxel_sizes", [2.0, 4.0]),
        ("voxel_sizes", [3.0, 2.0]),
        ("extra_pass", 1),
        ("shrinkage", -0.1),
        ("tile", 0),
        ("fineness", 0.0),
        ("unknown", 1),
    ],
)
def test_unusable_inference_files_are_refused(tmp_path, key, value):
    write_inference(tmp_path, USE)
    path = tmp_path / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=f"how a network is used .*{key}"):
        read_inference(tmp_path)


def test_passes_go_from_coarse_to_fine_and_once_more_if_wanted():
    assert USE.factors == (2, 1, 1)
    assert dataclasses.replace(USE, extra_pass=False).factors == (2, 1)
    assert USE.voxel_size == 2.0


def test_runs_without_an_inference_file_are_refused_with_the_remedy(run2d, tmp_path):
    shutil.copytree(run2d, tmp_path, dirs_exist_ok=True)
    (tmp_path / "inference.json").unlink()
    with pytest.raises(
        InputError, match=r"no inference.json .*command of its training"
    ):
        pretrained.read_weights(tmp_path)
    # Training on adds it.
    checkpoint.write_config(tmp_path, config(2, 2.0))
    use, variables = pretrained.read_weights(tmp_path)
    assert use == dataclasses.replace(inference(2, 2.0), tile=128)
    assert set(variables) == {"params", "batch_stats"}


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_networks_are_used_as_their_training_says(name):
    use, _ = pretrained.read_weights(name)
    training = from_json(
        (Path(pretrained.__file__).parent / name / "config.json").read_text()
    )
    assert use == dataclasses.replace(inference_config(training), name=name)


# The last training of the recipe, where its config has another name.
LAST = {"lung": "lung3d_long"}
# What the cards say of trainings that differed from their recipes.
DIFFERENT = {
    "regnet3d_2017": {
        # Of the pairs of that version.
        "data.intensity_models": ("contrast", "blur", "grain"),
        # Each pair had a family of its own.
        "pairs_at_once": 16,
    }
}


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_networks_were_trained_as_their_recipes_say(name):
    """But for the files of the scans, and how many are in memory."""
    folder = Path(pretrained.__file__).parent / name
    shipped = _flat(from_json((folder / "config.json").read_text()))
    recipe = _flat(configs.load(LAST.get(name, name)))
    assert shipped.keys() == recipe.keys()
    found = {
        key: value
        for key, value in shipped.items()
        if value != recipe[key] and key not in ("scans.file", "scans.resident")
    }
    assert found == DIFFERENT.get(name, {})


def _flat(training):
    return flatten_dict(dataclasses.asdict(training), sep=".")


def test_the_summary_is_the_first_paragraph_of_the_card(home):
    assert pretrained.summary("small", home) == "no card yet"
    card = home / "small" / pretrained.CARD
    card.write_text("# small\n\nFor tests\nalone.\n\nNothing more.\n")
    assert pretrained.summary("small", home) == "For tests alone."


@pytest.mark.parametrize("name", pretrained.names())
def test_every_shipped_network_loads_and_has_a_card(name):
    _, variables = pretrained.read_weights(name)
    assert all(np.isfinite(a).all() for a in _leaves(variables))
    assert "no card" not in pretrained.summary(name)


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]


@pytest.mark.parametrize(
    ("name", "shape"), [("lung", (61, 64, 58)), ("lung2d", (99, 118))]
)
@pytest.mark.slow
def test_a_network_finds_a_deformation_it_never_saw(name, shape):
    volume_key, pair_key = jax.random.split(jax.random.key(77))
    volume = jax.jit(functools.partial(chest, shape=shape, spacing=2.0))(volume_key)
    family = FAMILIES["multiscale"].scaled(0.6)
    sample = functools.partial(artificial_pair, family=family, spacing=2.0, noise=10.0)
    pair = jax.jit(sample)(pair_key, volume)
    found = predict(load_network(name), pair.fixed[..., 0], pair.moving[..., 0])
    body = np.asarray(pair.fixed[..., 0]) > -950
    error, zero = (
        np.linalg.norm(field - pair.displacement, axis=-1)[body].mean()
        for field in (found, 0.0 * found)
    )
    assert zero > 0.5
    assert error < 0.5 * zero
