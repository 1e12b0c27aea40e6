"""Segments of 3D Slicer are compared by their numbers, so these must agree."""

import re

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.io import PairPaths, read_pair
from regnet_jax.io.segmentations import warn_of_other_segments


def segmentation(path, names):
    """Write a segmentation of one layer, with a name for each label."""
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.uint8).reshape(3, 4, 5) % 3)
    for number, (value, name) in enumerate(names.items()):
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        image.SetMetaData(f"Segment{number}_Name", name)
    sitk.WriteImage(image, str(path), True)
    return path


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        ({1: "left lung", 2: "right lung"}, None),
        ({2: "right lung"}, None),
        ({1: "left lung", 2: "right lung", 3: "heart"}, None),
        ({1: "right lung", 2: "left lung"}, "label 1 is 'right lung', and in .* 'left"),
        ({1: "left lung", 2: "heart"}, "label 2 is 'heart', and in .* 'right lung'"),
        ({3: "left lung"}, "label 3 is 'left lung', and in .* that is 1;"),
    ],
)
def test_segments_of_other_numbers_get_a_warning(tmp_path, caplog, names, fact):
    first = segmentation(tmp_path / "a.seg.nrrd", {1: "left lung", 2: "right lung"})
    second = segmentation(tmp_path / "b.seg.nrrd", names)
    warn_of_other_segments(first, second)
    if fact is None:
        assert not caplog.text
    else:
        message = caplog.records[0].getMessage()
        assert message.startswith(str(second))
        assert re.search(fact, message)


def test_pairs_are_warned_of_and_other_label_maps_are_not(tmp_path, caplog):
    image = sitk.GetImageFromArray(np.arange(60.0).reshape(3, 4, 5))
    sitk.WriteImage(image, str(tmp_path / "i.mha"))
    sitk.WriteImage(image + 1.0, str(tmp_path / "j.mha"))
    plain = tmp_path / "plain.nrrd"
    first = segmentation(tmp_path / "a.seg.nrrd", {1: "left", 2: "right"})
    second = segmentation(tmp_path / "b.seg.nrrd", {1: "right", 2: "left"})
    sitk.WriteImage(sitk.ReadImage(str(first)), str(plain))
    images = ("pair", tmp_path / "i.mha", tmp_path / "j.mha")
    read_pair(PairPaths(*images, fixed_labels=first, moving_labels=plain))
    assert not caplog.text
    read_pair(PairPaths(*images, fixed_labels=first, moving_labels=second))
    assert "labels are compared by their numbers" in caplog.text
