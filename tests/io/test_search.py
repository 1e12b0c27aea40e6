"""The images below a folder."""

import numpy as np
import SimpleITK as sitk

from regnet_jax.io import find_images
from tests.helpers.dicom_files import write_slices


def test_images_are_found_by_name_and_dicom_by_content(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16))
    expected = []
    for name in ("a.nii.gz", "b/c.MHD", "b/d.nrrd", "e.nhdr", "f.gipl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(path.with_suffix(path.suffix.lower())))
        path.with_suffix(path.suffix.lower()).rename(path)
        expected.append(path)
    for name in ("README", "b/table.csv", "notes.dcm", ".hidden.nii"):
        (tmp_path / name).write_text("text", "utf-8")
    # Names of slices need no suffix.
    arrays = [np.zeros((4, 5), np.uint16)] * 2
    positions = np.array([[0.0, 0, 0], [0, 0, 2]])
    folder = tmp_path / "scan" / "series"
    write_slices(folder, arrays, positions, np.eye(3)[:2], (1, 1))
    for file in folder.iterdir():
        file.rename(file.with_suffix(""))
    assert find_images(tmp_path) == sorted([*expected, folder])


def test_a_folder_without_images_has_none(tmp_path):
    (tmp_path / "README").write_text("text", "utf-8")
    assert find_images(tmp_path) == []
