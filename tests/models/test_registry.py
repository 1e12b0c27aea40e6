"""Networks by name."""

import pytest

from regnet_jax.errors import InputError
from regnet_jax.models import MODELS, make_model
from regnet_jax.models.regnet import RegNet


def test_make_model_passes_options_on():
    model = make_model("regnet", dimensions=2, axis_name="device", use_bias=True)
    assert model == RegNet(2, "device", use_bias=True)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_network_exists_in_2d_and_3d(name, dimensions):
    assert make_model(name, dimensions=dimensions).dimensions == dimensions


def test_make_model_names_the_known_models():
    with pytest.raises(InputError, match=r"'regnet3'.*regnet") as error:
        make_model("regnet3", dimensions=3)
    assert "\n" not in str(error.value)


def test_make_model_names_the_unknown_option():
    with pytest.raises(InputError, match="width"):
        make_model("regnet", dimensions=3, width=2)


@pytest.mark.parametrize("dimensions", [1, 4])
def test_make_model_refuses_other_dimensions(dimensions):
    with pytest.raises(InputError, match="dimensions"):
        make_model("regnet", dimensions=dimensions)
