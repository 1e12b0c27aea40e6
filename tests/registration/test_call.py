"""``regnet_jax.register`` on whatever images are given as."""

import numpy as np
import pytest
import SimpleITK as sitk
from networks import smooth_image

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.io import Frame, Image, to_sitk
from regnet_jax.registration import prediction


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(prediction, "_TILE", {2: 13, 3: 13})


@pytest.fixture
def pair():
    frame = Frame((30, 34), (2.0, 1.5), (5, 6), np.eye(2))
    return [Image(smooth_image(frame.shape, seed), frame, f"{seed}") for seed in (0, 1)]


def test_images_arrays_and_files_give_the_same(pair, network2d, tmp_path):
    images = [to_sitk(image.array, image.frame) for image in pair]
    paths = [tmp_path / f"{image.name}.mha" for image in pair]
    for image, path in zip(images, paths, strict=True):
        sitk.WriteImage(image, str(path))
    options = {"model": network2d, "initial": "center"}
    results = [
        regnet_jax.register(*given, **options) for given in (images, pair, paths)
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


def test_transforms_and_masks(pair, network2d):
    shift = sitk.TranslationTransform(2, (3.0, -2.0))
    mask = to_sitk((pair[0].array > -400).astype(np.uint8), pair[0].frame)
    result = regnet_jax.register(
        *pair, model=network2d, initial=shift, fixed_mask=mask, moving_mask=mask
    )
    np.testing.assert_allclose(result.affine[:2, 2], (3.0, -2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixed": np.zeros((5, 5))}, "fixed: is a ndarray; give a SimpleITK image"),
        ({"moving": sitk.Image((4, 4), sitk.sitkVectorFloat32)}, "moving: has 2 comp"),
        ({"moving": sitk.Image((4, 4, 4), sitk.sitkFloat32)}, "fixed is 2D and moving"),
        ({"fixed_mask": sitk.Image((30, 34), sitk.sitkUInt8)}, "fixed_mask: is empty"),
        ({"initial": sitk.AffineTransform(3)}, "transform is 3D"),
        ({"initial": "elastic"}, "elastic: is no alignment"),
        ({"model": "nothing"}, "nothing: neither a folder nor a shipped"),
        ({"intensity": "pet"}, "pet: is no intensity"),
    ],
)
def test_what_cannot_be_used_says_why(pair, network2d, change, message):
    fixed, moving = (to_sitk(image.array, image.frame) for image in pair)
    given = {"fixed": fixed, "moving": moving, "model": network2d} | change
    with pytest.raises(InputError, match=message):
        regnet_jax.register(given.pop("fixed"), given.pop("moving"), **given)


def test_values_and_geometry_are_checked(pair, network2d):
    array = pair[0].array.copy()
    array[3, 4] = np.nan
    holed = Image(array, pair[0].frame, "holed")
    with pytest.raises(InputError, match="holed: 1 of 1020 of its values"):
        regnet_jax.register(holed, pair[1], model=network2d)


def test_nothing_else_is_there():
    with pytest.raises(AttributeError, match="has no attribute 'warp'"):
        getattr(regnet_jax, "warp")  # noqa: B009
