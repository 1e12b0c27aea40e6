"""One list of options: what is derived from it has all of them, and any new one."""

import dataclasses
import importlib
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
import pytest
import SimpleITK as sitk
from absl import flags

import regnet_jax
from regnet_jax.cli.register import define_options
from regnet_jax.errors import InputError
from regnet_jax.io import PairPaths
from regnet_jax.registration import RegistrationOptions, load_network
from regnet_jax.registration.files import describe_request
from regnet_jax.registration.options import option
from tests.helpers.networks import dense, smooth_image

NAMES = [each.name for each in dataclasses.fields(RegistrationOptions)]
IMAGES = [smooth_image((30, 34), seed) for seed in (0, 1)]
PAIR = PairPaths("pair", Path("fixed.mha"), Path("moving.mha"))


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_a_keyword_of_register(name):
    parameter = inspect.signature(regnet_jax.register).parameters[name]
    default = RegistrationOptions.__dataclass_fields__[name].default
    assert parameter.default == default


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_a_flag_with_its_default(name):
    values = flags.FlagValues()
    define_options(RegistrationOptions, values)
    default = RegistrationOptions.__dataclass_fields__[name].default
    assert values[name].default == default
    assert len(values[name].help) > 20


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_in_the_request(name):
    assert name in describe_request(PAIR.files, load_network, RegistrationOptions())


def test_every_option_is_in_the_parameters_of_a_registration(network2d):
    result = regnet_jax.register(*IMAGES, network2d, initial="none", spacing=2.0)
    assert set(NAMES) <= set(result.parameters)
    json.dumps(result.parameters, allow_nan=False)


def test_a_new_option_is_one_field():
    @dataclass(frozen=True, kw_only=True)
    class Extended(RegistrationOptions):
        dummy: float = field(default=0.5, metadata=option(float, "A new option."))

    values = flags.FlagValues()
    define_options(Extended, values)
    values(["program", "--dummy=0.25"])
    options = Extended(dummy=values["dummy"].value)
    assert options.to_keywords()["dummy"] == 0.25
    request = describe_request(PAIR.files, load_network, options)
    assert request["dummy"] == 0.25
    assert request["fixed"] == str(Path("fixed.mha").absolute())


def test_a_request_knows_the_data_file_of_a_header(tmp_path):
    """Also where the header names it by an absolute path in another folder."""
    header, data = tmp_path / "a.mhd", tmp_path / "far" / "a.raw"
    data.parent.mkdir()
    data.write_bytes(bytes(12))
    header.write_text(f"DimSize = 3 4\nElementDataFile = {data}\n")
    pair = PairPaths(name="a", fixed=header, moving=tmp_path / "gone.mha")

    def states():
        request = describe_request(pair.files, load_network, RegistrationOptions())
        return request["states"]

    before = states()
    assert before == states()
    assert before["moving"] is None
    data.write_bytes(bytes(24))
    assert states()["fixed"] != before["fixed"]


def test_another_transform_to_start_from_is_another_request(tmp_path):
    """A file of the same name with other numbers, and matrices and transforms."""
    path = tmp_path / "start.tfm"

    def started(initial):
        options = RegistrationOptions(initial=initial)
        return describe_request(PAIR.files, load_network, options)["start"]

    def elastix(number, shift, before):
        name = tmp_path / f"TransformParameters.{number}.txt"
        name.write_text(
            '(Transform "TranslationTransform")\n(NumberOfParameters 3)\n'
            f"(TransformParameters {shift} 0 0)\n"
            f'(InitialTransformParametersFileName "{before}")\n'
            '(HowToCombineTransforms "Compose")\n'
            "(FixedImageDimension 3)\n(MovingImageDimension 3)\n"
        )
        return name

    def given(shift):
        transform = sitk.TranslationTransform(3, (shift, 0.0, 0.0))
        sitk.WriteTransform(transform, str(path))
        # What changes is the file that another one starts from.
        chain = elastix(1, 7.0, elastix(0, shift, "NoInitialTransform"))
        # Older ANTs writes a class that SimpleITK lacks.
        older = tmp_path / "Affine.txt"
        older.write_text(
            "#Insight Transform File V1.0\n#Transform 0\n"
            "Transform: MatrixOffsetTransformBase_double_3_3\n"
            f"Parameters: 1 0 0 0 1 0 0 0 1 {shift} 0 0\nFixedParameters: 0 0 0\n"
        )
        matrix = np.eye(4)
        matrix[0, 3] = shift
        vectors = np.full((3, 4, 5, 3), shift)
        field = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(vectors, True))
        all_of_them = (path, f"{path},{path}", chain, older, matrix, field)
        return [started(each) for each in all_of_them]

    first, again, other = given(1.0), given(1.0), given(2.0)
    assert None not in first
    assert first == again
    assert not set(first) & set(other)
    assert len(set(first)) == len(first)
    nothing = ("affine", tmp_path, "gone.tfm", "x" * 300)
    assert [started(each) for each in nothing] == [None] * 4


def test_the_checksum_of_an_inverse_needs_no_inversion(tmp_path, monkeypatch):
    path, shift = tmp_path / "start.tfm", tmp_path / "shift.tfm"
    vectors = np.random.default_rng(0).normal(size=(3, 4, 5, 3))
    field = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(vectors, True))
    inverted = []
    monkeypatch.setattr(
        importlib.import_module("regnet_jax.io.transforms"),
        *("_inverse", lambda *given: inverted.append(given)),
    )

    def started(initial):
        options = RegistrationOptions(initial=initial)
        return describe_request(PAIR.files, load_network, options)["start"]

    def checksums(length):
        translation = sitk.TranslationTransform(3, (length, 0.0, 0.0))
        sitk.WriteTransform(translation, str(shift))
        both = sitk.CompositeTransform([translation, field])
        sitk.WriteTransform(both, str(path))
        names = (str(path), f"inverse:{path}", f"inverse:{path},{shift}")
        names += (f"inverse:{path},inverse:{shift}", f"inverse:{shift},{path}")
        return [started(name) for name in names]

    first, again, other = checksums(1.0), checksums(1.0), checksums(2.0)
    assert first == again
    assert len({*first, *other, None}) == 2 * len(first) + 1
    assert not inverted


def test_other_weights_of_the_same_name_are_another_request(network2d):
    same = dataclasses.replace(network2d)
    leaves = jax.tree.map(lambda x: x + 1e-3, network2d.variables)
    others = dataclasses.replace(network2d, variables=leaves)
    shrunk = dataclasses.replace(network2d.config, shrinkage=0.5)
    used = dataclasses.replace(network2d, config=shrunk)
    found = [
        describe_request(PAIR.files, load_network, RegistrationOptions(model=network))
        for network in (network2d, same, others, used)
    ]
    assert found[0] == found[1]
    assert found[2] != found[0] != found[3]
    assert found[0]["model"] == found[2]["model"]


def test_options_as_json_name_what_json_does_not_know(network2d):
    options = RegistrationOptions(
        model=network2d, initial=np.eye(3), refine=np.int64(3), memory=np.float32(2.0)
    )
    expected = {"model": network2d.config.name, "initial": "given", "refine": 3}
    assert expected.items() <= options.to_dict().items()
    json.dumps(options.to_dict(), allow_nan=False)
    shift = sitk.TranslationTransform(2)
    assert RegistrationOptions(initial=shift).to_dict()["initial"] == "given"
    path = Path("run") / "a"
    assert RegistrationOptions(model=path).to_dict()["model"] == str(path)


def test_options_are_checked_when_made_and_cannot_be_changed():
    with pytest.raises(InputError, match="refine: is -1; give a whole number"):
        RegistrationOptions(refine=-1)
    with pytest.raises(InputError, match="preset: is 'best'; give one of fast, def"):
        RegistrationOptions(preset="best")
    with pytest.raises(InputError, match="preset: is None; give one of fast, default"):
        RegistrationOptions(preset=None)
    with pytest.raises(InputError, match=r"slice_axis: is \['axial'\]; give one of"):
        RegistrationOptions(slice_axis=["axial"])
    with pytest.raises(InputError, match="voxel_size: is 0; give mm above zero"):
        RegistrationOptions(voxel_size=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        RegistrationOptions().refine = 3


def test_module_of_register_is_not_hidden_by_the_function():
    import regnet_jax.registration.register as module

    assert inspect.ismodule(module)
    assert module.register is regnet_jax.register


@pytest.mark.parametrize("given", [0.0, -1.0, np.nan, np.inf, "2", [2.0], True])
def test_a_voxel_size_is_a_positive_number(given):
    with pytest.raises(InputError, match="voxel_size"):
        RegistrationOptions(voxel_size=given)


@pytest.mark.parametrize(
    ("preset", "fineness", "passes", "both"),
    [
        ("fast", 1.0, (2, 1), False),
        ("fast", 1.5, (2, 1), False),
        ("default", 1.0, (2, 1, 1), False),
        ("default", 1.5, (4, 2, 1), False),
        ("accurate", 1.0, (2, 1, 1), True),
        ("accurate", 1.5, (4, 2, 1), True),
    ],
)
def test_a_preset_chooses_the_passes(monkeypatch, preset, fineness, passes, both):
    network, used = dense(2, 3.0, (1.0, 2.0), extra_pass=True), []
    use = dataclasses.replace(network.config, fineness=fineness)
    network = dataclasses.replace(network, config=use)
    module = importlib.import_module("regnet_jax.registration.register")

    def predict(network, fixed, moving, **_):
        used.append((network.config.factors, network.both_orders))
        return np.zeros((*fixed.shape, 2), np.float32)

    monkeypatch.setattr(module, "predict", predict)
    regnet_jax.register(
        *IMAGES, network, initial="none", spacing=3.0, preset=preset, refine=0
    )
    assert used == [(passes, both)]


@pytest.mark.parametrize(
    ("options", "voxels", "steps"),
    [
        ({}, 2.0, 0),
        ({"voxel_size": 2.5}, 2.5, 0),
        ({"memory": 16.0}, 3.0, 0),
        ({"memory": 16.0, "voxel_size": 2.5}, 2.5, 0),
        ({"preset": "fast"}, 3.0, 0),
        ({"preset": "fast", "voxel_size": 2.5}, 2.5, 0),
        ({"preset": "accurate"}, 2.0, 36),
        ({"preset": "accurate", "refine": 0}, 2.0, 0),
        ({"preset": "accurate", "voxel_size": 2.5}, 2.5, 36),
        ({"preset": "fast", "refine": 2}, 3.0, 2),
    ],
)
def test_a_preset_chooses_what_is_not_given(options, voxels, steps):
    network = dense(2, 3.0, (1.0, 2.0), extra_pass=True)
    use = dataclasses.replace(network.config, fineness=1.5)
    network = dataclasses.replace(network, config=use)
    result = regnet_jax.register(
        *IMAGES, network, initial="none", spacing=3.0, **options
    )
    assert result.grid.spacing == pytest.approx((voxels, voxels))
    assert result.parameters["refine"] == steps
    assert ("refinement" in result.seconds) == (steps > 0)
    assert not result.parameters["voxel_size"]["adapted"]
