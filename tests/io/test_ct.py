"""Scans in Hounsfield units: which are, which are shifted, which are something else."""

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import hounsfield_offset
from regnet_jax.io import read_ct


def body(shape):
    """HU of a body with fat, muscle, bone and a lung, in air, with noise of 10 HU."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    hu = np.full(shape, -1000.0)
    for edge, value in ((0.8, -100.0), (0.75, 50.0), (0.4, -850.0), (0.15, 400.0)):
        hu[radius < edge] = value
    return hu + np.random.default_rng(2).normal(0, 10, shape)


def unit(hu):
    return (hu - hu.min()) / np.ptp(hu)


def magnetic(hu):
    """Brightness that has nothing to do with density."""
    rng = np.random.default_rng(4)
    return np.abs(np.where(hu > -500, 700 + 300 * np.sin(hu), 0)) + rng.uniform(0, 30)


KNOWN = {
    "hu": (lambda hu: hu, 0),
    "whole": (lambda hu: np.rint(hu).astype(np.int16), 0),
    "padded": (lambda hu: np.where(hu < -980, -3024, hu), 0),
    "crop-without-air": (lambda hu: np.where(hu < -500, 50, hu), 0),
    "unsigned": (lambda hu: np.clip(hu + 1024, 0, None).astype(np.uint16), -1024),
    "signed": (lambda hu: (hu + 1024).astype(np.float32), -1024),
    "stored-padded": (
        lambda hu: np.where(np.indices(hu.shape)[-1] < 3, -2000, hu + 1024),
        -1024,
    ),
    "unit": (unit, None),
    "signed-unit": (lambda hu: 2 * unit(hu) - 1, None),
    "bytes": (lambda hu: (255 * unit(hu)).astype(np.uint8), None),
    "signed-bytes": (lambda hu: (255 * unit(hu) - 128).astype(np.int8), None),
    "standardised": (lambda hu: (hu - hu.mean()) / hu.std(), None),
    "network": (lambda hu: (hu + 1000) / 4095, None),
    "mr": (magnetic, None),
    "padded-unit": (lambda hu: np.where(hu < -980, -3024, unit(hu)), None),
    "level": (lambda hu: np.zeros_like(hu), None),
}


@pytest.mark.parametrize("shape", [(60, 70), (24, 30, 32)])
@pytest.mark.parametrize("case", KNOWN)
def test_read_ct_gives_hounsfield_units(case, shape):
    change, offset = KNOWN[case]
    assert hounsfield_offset(change(body(shape))) == offset


@pytest.mark.parametrize("shape", [(60, 70), (24, 30, 32)])
def test_read_ct_shifts_stored_values_with_a_warning(tmp_path, shape, caplog):
    hu = np.rint(body(shape)).clip(-1024)
    path = tmp_path / "stored.nii.gz"
    image = sitk.GetImageFromArray((hu + 1024).astype(np.uint16))
    sitk.WriteImage(image, str(path))
    np.testing.assert_array_equal(read_ct(path).array, hu)
    assert "stored.nii.gz" in caplog.text
    assert "1024 is subtracted" in caplog.text


def test_read_ct_sets_padding_to_the_lowest_value(tmp_path, caplog):
    hu = np.rint(body((40, 50))).astype(np.int16).clip(-1024)
    padded = hu.copy()
    padded[:, :4] = -3024
    path = tmp_path / "padded.mha"
    sitk.WriteImage(sitk.GetImageFromArray(padded), str(path))
    got = read_ct(path).array
    assert got.dtype == np.int16
    assert (got[:, :4] == -1024).all()
    np.testing.assert_array_equal(got[:, 4:], hu[:, 4:])
    assert not caplog.text


@pytest.mark.parametrize("value", [0, 1000])
def test_read_ct_sets_bright_padding_to_the_lowest_value(tmp_path, value):
    hu = np.rint(body((40, 50))).astype(np.int16).clip(-1024)
    hu[:, :9] = value
    path = tmp_path / "padded.mha"
    sitk.WriteImage(sitk.GetImageFromArray(hu), str(path))
    got = read_ct(path).array
    assert (got[:, :9] == -1024).all()
    np.testing.assert_array_equal(got[:, 9:], hu[:, 9:])


@pytest.mark.parametrize("case", ["unit", "bytes", "mr"])
def test_read_ct_refuses_other_values_with_their_range(tmp_path, case):
    array = KNOWN[case][0](body((40, 50)))
    path = tmp_path / "other.mha"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    said = f"other.mha: its values, {array.min():g} to {array.max():g}, are not"
    with pytest.raises(InputError) as caught:
        read_ct(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
