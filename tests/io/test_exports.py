"""Files for other tools, against the transform they are made of."""

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.io import write_displacement, write_for_ants, write_for_elastix
from regnet_jax.spatial import composite, map_points, to_world, total_displacement
from tests.helpers.frames import FRAMES

frames = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def parts(frame):
    rng = np.random.default_rng(0)
    affine = np.eye(frame.ndim + 1)
    affine[:-1] += rng.normal(scale=0.05, size=(frame.ndim, frame.ndim + 1))
    return rng.normal(size=(*frame.shape, frame.ndim)), affine


def points_in(frame):
    rng = np.random.default_rng(1)
    return to_world(frame, rng.uniform(0, np.array(frame.shape) - 1, (30, frame.ndim)))


@frames
def test_write_for_ants_gives_warp_then_affine(tmp_path, frame):
    residual, affine = parts(frame)
    write_for_ants(tmp_path, frame, residual, affine)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"ants_1Warp.nii.gz", "ants_0GenericAffine.mat"}
    field = sitk.ReadImage(str(tmp_path / "ants_1Warp.nii.gz"), sitk.sitkVectorFloat64)
    warp = sitk.DisplacementFieldTransform(field)
    linear = sitk.ReadTransform(str(tmp_path / "ants_0GenericAffine.mat"))
    points = points_in(frame)
    found = map_points(linear, map_points(warp, points))
    expected = map_points(composite(frame, residual, affine), points)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@frames
def test_write_for_elastix_names_displacement_and_grid(tmp_path, frame):
    residual, affine = parts(frame)
    displacement = total_displacement(frame, residual, affine)
    write_displacement(tmp_path / "displacement.nii.gz", displacement, frame)
    write_for_elastix(tmp_path, frame)
    text = (tmp_path / "transform_elastix.txt").read_text("utf-8")
    lines = [line.strip("()").split(" ", 1) for line in text.splitlines()]
    values = {key: value.replace('"', "").split() for key, value in lines}
    name = values["DeformationFieldFileName"][0]
    field = sitk.ReadImage(str(tmp_path / name))
    assert field.GetSize() == tuple(map(int, values["Size"]))
    for key, found in (("Spacing", field.GetSpacing()), ("Origin", field.GetOrigin())):
        np.testing.assert_allclose(list(map(float, values[key])), found, rtol=1e-6)
    # elastix writes directions column after column.
    columns = np.reshape(list(map(float, values["Direction"])), (frame.ndim,) * 2)
    itk = np.reshape(field.GetDirection(), (frame.ndim,) * 2)
    np.testing.assert_allclose(columns.T, itk, atol=1e-6)
    assert values["Transform"] == ["DeformationFieldTransform"]
