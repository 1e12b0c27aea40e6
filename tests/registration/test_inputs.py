"""``regnet_jax.register`` on whatever images are given as."""

from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import SimpleITK as sitk

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.spatial import Frame, Image, to_sitk
from tests.helpers.networks import (
    config,
    inference,
    make_network,
    smooth_image,
    untrained,
)
from tests.helpers.nibabel_images import nibabel_image


@pytest.fixture(scope="module")
def network3d():
    """A 3D network at 4 mm."""
    experiment = config(3, 4.0)
    return make_network(inference(3, 4.0), untrained(experiment).variables)


@pytest.fixture
def pair():
    frame = Frame((30, 34), (2.0, 1.5), (5, 6), np.eye(2))
    return [Image(smooth_image(frame.shape, seed), frame, f"{seed}") for seed in (0, 1)]


def test_register_gives_the_same_for_images_arrays_and_files(pair, network2d, tmp_path):
    images = [to_sitk(image.array, image.frame) for image in pair]
    paths = [tmp_path / f"{image.name}.mha" for image in pair]
    for image, path in zip(images, paths, strict=True):
        sitk.WriteImage(image, str(path))
    options = {"model": network2d, "initial": "center"}
    others = [nibabel_image(image) for image in pair]
    results = [
        regnet_jax.register(*given, **options)
        for given in (images, pair, paths, others)
    ]
    assert np.abs(results[0].displacement).max() > 1.0
    for result in results[1:]:
        np.testing.assert_array_equal(result.displacement, results[0].displacement)
    warped = results[0].warped_sitk
    assert warped.GetSize() == images[0].GetSize()
    assert warped.GetOrigin() == images[0].GetOrigin()
    expected = sitk.Resample(
        images[1], images[0], results[0].transform, sitk.sitkLinear,
        float(pair[1].array.min()),
    )  # fmt: skip
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(expected), atol=1e-3
    )


def test_the_same_image_twice_is_noticed(pair, network2d):
    result = regnet_jax.register(pair[0], pair[0], model=network2d)
    assert any("is the same image as" in notice for notice in result.notices)


def test_initial_translation_is_kept_with_masks(pair, network2d):
    shift = sitk.TranslationTransform(2, (3.0, -2.0))
    mask = to_sitk((pair[0].array > -400).astype(np.uint8), pair[0].frame)
    result = regnet_jax.register(
        *pair, model=network2d, initial=shift, fixed_mask=mask, moving_mask=mask
    )
    np.testing.assert_allclose(result.affine[:2, 2], (3.0, -2.0))
    assert "masks" not in result.report().parameters
    for name in ("fixed_mask", "moving_mask"):
        assert any(n.startswith(f"{name} has no effect") for n in result.notices)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixed": np.eye(5)}, r"fixed: is an array, .* give spacing= in mm"),
        ({"moving": np.eye(5)}, r"moving: is an array, .* give spacing= in mm"),
        ({"spacing": 2.0}, "spacing: is for images that are bare arrays"),
        ({"moving": sitk.Image((4, 4), sitk.sitkVectorFloat32)}, "moving: has 2 comp"),
        ({"moving": sitk.Image((4, 4, 4), sitk.sitkFloat32)}, "fixed is 2D and moving"),
        ({"fixed_mask": sitk.Image((30, 34), sitk.sitkUInt8)}, "fixed_mask: is empty"),
        ({"initial": sitk.AffineTransform(3)}, "transform is 3D"),
        ({"initial": "elastic"}, "initial: 'elastic' is no alignment and no file"),
        ({"initial": Path("gone.tfm")}, "initial: gone.tfm: does not exist"),
        ({"initial": __file__}, "test_inputs.py: is not a whole transform"),
        ({"initial": None}, "initial: .* of type NoneType; give a linear SimpleITK"),
        ({"initial": np.eye(4)}, r"has shape \(4, 4\); give one of 3 x 3"),
        ({"initial": np.eye(3)[:2]}, r"has shape \(2, 3\)"),
        ({"initial": [[1, 0, 0], [0, 1, 0], [5, 6, 1]]}, "ends with the row"),
        ({"initial": [[1, 0, 0], [0, 1]]}, "initial: .* no array can be made of it"),
        ({"initial": np.full((3, 3), np.nan)}, "initial: the matrix: holds NaN"),
        ({"initial": np.diag([1, 0, 1])}, "initial: .* is singular"),
        ({"initial": sitk.AffineTransform([0] * 4, [0, 0])}, "is singular"),
        ({"initial": sitk.TranslationTransform(2, (np.nan, 0))}, "holds NaN"),
        (
            {"initial": sitk.DisplacementFieldTransform(2)},
            "displacement field is empty",
        ),
        ({"initial": sitk.DisplacementFieldTransform(3)}, "transform is 3D"),
        ({"initial": "inverse:gone.tfm"}, "initial: gone.tfm: does not exist"),
        ({"initial": "a.tfm,b.tfm"}, "initial: a.tfm: does not exist"),
        ({"fixed_mask": np.ones((34, 30))}, r"fixed_mask: has shape \(34, 30\) on"),
        ({"moving_mask": True}, r"moving_mask: has shape \(\) on"),
        ({"moving_mask": np.zeros((30, 34), bool)}, "moving_mask: is empty"),
        ({"moving_mask": np.ones((30, 34), complex)}, "moving_mask: holds complex"),
        ({"model": "nothing"}, "nothing: neither a folder nor a shipped"),
        ({"model": ""}, r"\(empty\): neither a folder nor a shipped"),
        ({"model": 50 * "folder"}, "neither a folder nor a shipped"),
        ({"model": 3}, "model: is of type int; give the name"),
        ({"model": "lung"}, "the network is 3D and fixed is 2D"),
        ({"intensity": "pet"}, "pet: is no intensity"),
        ({"intensity": (1, 99)}, r"intensity: is \(1, 99\); give the name"),
        ({"intensity": None}, "intensity: is None"),
        ({"refine": -1}, "refine: is -1; give a whole number"),
        ({"refine": 2.0}, "refine: is 2.0"),
        ({"refine": "50"}, "refine: is '50'"),
        ({"refine": True}, "refine: is True"),
        ({"refine": np.eye(2)}, r"refine: is array\(\[\[1., 0.\], \[0., 1.\]\]\)"),
        ({"memory": 0}, "memory: is 0; give GiB above 0"),
        ({"memory": np.nan}, "memory: is nan"),
        ({"memory": np.inf}, "memory: is inf"),
        ({"memory": "4"}, "memory: is '4'"),
        ({"inverse_consistent": "no"}, "inverse_consistent: is 'no'; give True or"),
        ({"progress": 1}, "progress: is 1; give True or False"),
    ],
)
def test_unusable_argument_is_named_in_one_line(pair, network2d, change, message):
    fixed, moving = (to_sitk(image.array, image.frame) for image in pair)
    given = {"fixed": fixed, "moving": moving, "model": network2d} | change
    with pytest.raises(InputError, match=message) as caught:
        regnet_jax.register(given.pop("fixed"), given.pop("moving"), **given)
    assert "\n" not in str(caught.value)


def test_bare_arrays_with_spacing_give_the_same_as_images(pair, network2d):
    """Also beside an image that has its own, and with masks that are arrays."""
    frame = Frame(pair[0].frame.shape, (2.0, 1.5), (0, 0), np.eye(2))
    images = [to_sitk(image.array, frame) for image in pair]
    mask, other = (image.array > -400 for image in pair)
    options = {"model": network2d, "initial": "rigid"}
    expected = regnet_jax.register(
        *images,
        **options,
        fixed_mask=to_sitk(mask, frame),
        moving_mask=to_sitk(other, frame),
    )
    for fixed, moving, inside in (
        (pair[0].array, pair[1].array, mask),
        (jnp.asarray(pair[0].array), pair[1].array.tolist(), mask.tolist()),
        (images[0], np.asfortranarray(pair[1].array), jnp.asarray(mask)),
        (pair[0].array.astype(">f8"), images[1], mask.astype(">i4")),
    ):
        result = regnet_jax.register(
            fixed, moving, spacing=(2.0, 1.5), **options,
            fixed_mask=inside, moving_mask=other,
        )  # fmt: skip
        np.testing.assert_array_equal(result.displacement, expected.displacement)
        assert result.frame == frame


def test_spacing_of_bare_volumes_is_x_first(network3d):
    arrays = [smooth_image((10, 12, 14), seed) for seed in (0, 1)]
    result = regnet_jax.register(
        *arrays, spacing=(2.0, 3.0, 4.0), model=network3d, initial="none"
    )
    assert result.warped_sitk.GetSize() == (14, 12, 10)
    assert result.warped_sitk.GetSpacing() == (2.0, 3.0, 4.0)
    assert result.parameters["model"] == network3d.config.name


@pytest.mark.parametrize("dtype", [bool, np.float16, ml_dtypes.bfloat16, ">i2", "g"])
def test_type_that_itk_lacks_gives_the_same_as_the_wider_type(pair, network2d, dtype):
    wider = {bool: "u1", ">i2": "i2", "g": "f8"}.get(dtype, "f4")
    fixed, moving = ((image.array > -300).astype(dtype) for image in pair)
    options = {"model": network2d, "initial": "center", "spacing": 2.0}
    result = regnet_jax.register(fixed, moving, **options)
    expected = regnet_jax.register(fixed.astype(wider), moving.astype(wider), **options)
    np.testing.assert_array_equal(result.displacement, expected.displacement)
    np.testing.assert_array_equal(result.warped.array, expected.warped.array)
    assert result.warped.array.dtype == wider
    assert result.warped_sitk.GetPixelID() == expected.warped_sitk.GetPixelID()


def test_initial_transform_is_taken_in_every_form(pair, network2d, tmp_path):
    affine = sitk.AffineTransform(2)
    affine.SetMatrix([1.05, 0.02, -0.03, 0.97])
    affine.SetCenter((3.0, 4.0))
    affine.SetTranslation((2.5, -1.5))
    sitk.WriteTransform(affine, str(tmp_path / "affine.tfm"))
    matrix = np.eye(3)
    matrix[:2, 2] = affine.TransformPoint((0.0, 0.0))
    for axis, unit in enumerate(np.eye(2).tolist()):
        matrix[:2, axis] = affine.TransformPoint(unit) - matrix[:2, 2]
    for given in (
        affine,
        tmp_path / "affine.tfm",
        str(tmp_path / "affine.tfm"),
        matrix,
        matrix.tolist(),
        jnp.asarray(matrix),
        matrix.astype(">f8"),
    ):
        result = regnet_jax.register(*pair, model=network2d, initial=given)
        np.testing.assert_allclose(result.affine, matrix, atol=1e-6)


def test_a_list_of_transforms_to_start_from_is_refused(pair, network2d, tmp_path):
    sitk.WriteTransform(sitk.TranslationTransform(2), str(tmp_path / "shift.tfm"))
    for given in ([tmp_path / "shift.tfm"], [sitk.TranslationTransform(2)] * 2):
        with pytest.raises(InputError, match="initial: is a list of transforms"):
            regnet_jax.register(*pair, model=network2d, initial=given)


def test_default_network_follows_the_dimension_and_is_warned_of_in_2d(
    pair, network2d, network3d, caplog
):
    networks = {"lung2d": network2d, "lung": network3d}
    options = {"load": networks.__getitem__, "initial": "none"}
    for named in ({}, {"model": "auto"}, {"model": None}):
        result = regnet_jax.register(*pair, **options, **named)
        assert result.parameters["model"] == "lung2d"
        assert "2D and no model was named, so lung2d was used" in caplog.text
        caplog.clear()
    volumes = [smooth_image((10, 12, 14), seed) for seed in (0, 1)]
    result = regnet_jax.register(*volumes, spacing=4.0, **options)
    assert result.parameters["model"] == "lung"
    regnet_jax.register(*pair, **options, model="lung2d")
    assert "no model was named" not in caplog.text
    with pytest.raises(InputError, match="the network is 3D and 0 is 2D"):
        regnet_jax.register(*pair, **options, model="lung")


def test_unknown_option_raises_type_error(pair, network2d):
    with pytest.raises(TypeError, match="spacings"):
        regnet_jax.register(*pair, model=network2d, spacings=1.0)


def test_image_with_nan_is_refused(pair, network2d):
    array = pair[0].array.copy()
    array[3, 4] = np.nan
    holed = Image(array, pair[0].frame, "holed")
    with pytest.raises(InputError, match="holed: 1 of 1020 of its values"):
        regnet_jax.register(holed, pair[1], model=network2d)
