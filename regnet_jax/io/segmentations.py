"""Segmentations of 3D Slicer (``.seg.nrrd``): the fields that describe the segments.

Names, colours and terminology stay as they are; what depends on the grid is made anew.
https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_LOG = logging.getLogger(__name__)

_FIELD = re.compile(r"Segment(ation_|\d+_)\w")
_SEGMENT = re.compile(r"Segment(\d+)_")
_REFERENCE = "Reference image geometry|"


def segment_fields(fields: dict[str, str]) -> dict[str, str]:
    """Return the fields of a NRRD header that belong to a segmentation."""
    return {key: value for key, value in fields.items() if _FIELD.match(key)}


def describe_segments(
    fields: dict[str, str], layers: Sequence[np.ndarray]
) -> dict[str, str]:
    """Return the fields of a segmentation for other arrays on another grid.

    Args:
        fields: as in ``segment_fields``.
        layers: ``[z, y, x]`` labels of each layer.

    Returns:
        The fields, with the extent that each segment has now.
    """
    changed = dict(fields)
    if not fields:
        return changed
    if "Segmentation_ReferenceImageExtentOffset" in fields:
        changed["Segmentation_ReferenceImageExtentOffset"] = "0 0 0"
    if parameters := fields.get("Segmentation_ConversionParameters"):
        kept = [p for p in parameters.split("&") if not p.startswith(_REFERENCE)]
        changed["Segmentation_ConversionParameters"] = "&".join(kept)
    numbers = {int(found[1]) for key in fields if (found := _SEGMENT.match(key))}
    for number in numbers:
        # Before Slicer 4.11 each segment was a layer of ones.
        layer = fields.get(f"Segment{number}_Layer", str(number))
        value = fields.get(f"Segment{number}_LabelValue", "1")
        if layer.isdecimal() and value.isdecimal() and int(layer) < len(layers):
            extent = _extent(layers[int(layer)] == int(value))
            changed[f"Segment{number}_Extent"] = extent
    return changed


def warn_of_other_segments(fixed: Path, moving: Path) -> None:
    """Warn of segmentations that number their segments differently.

    Label maps are compared by their numbers, and 3D Slicer counts in the order in which
    segments are drawn.

    Args:
        fixed: of a label map in any format.
        moving: likewise.
    """
    names, others = _names_by_value(fixed), _names_by_value(moving)
    values = {name: value for value, name in names.items()}
    for value, other in others.items():
        known = names.get(value, other)
        if known != other or values.get(other, value) != value:
            _LOG.warning(
                "%s: label %d is %r, and in %s %s; labels are compared by their"
                " numbers, so give both files the same ones",
                *(moving, value, other, fixed),
                f"it is {known!r}" if known != other else f"that is {values[other]}",
            )


def _names_by_value(path: Path) -> dict[int, str]:
    """Return the name of each label of a ``.seg.nrrd``; nothing of other files."""
    if not str(path).lower().endswith(".seg.nrrd"):
        return {}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    fields = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    numbers = {int(found[1]) for key in fields if (found := _SEGMENT.match(key))}
    return {
        int(value): fields[name].strip()
        for number in sorted(numbers)
        if (value := fields.get(f"Segment{number}_LabelValue", "")).isdecimal()
        and (name := f"Segment{number}_Name") in fields
    }


def mark_layers(path: Path) -> None:
    """Mark the first axis of a NRRD as a list; ITK marks it as a vector."""
    head, mark, values = path.read_bytes().partition(b"\n\n")
    head = re.sub(rb"\nkinds: \S+ ", b"\nkinds: list ", head)
    path.write_bytes(head + mark + values)


def _extent(inside: np.ndarray) -> str:
    """Return the first and last index of a mask along x, y, z; 0 -1 if it is empty."""
    if not inside.any():
        return " ".join(["0 -1"] * inside.ndim)
    places = np.nonzero(inside)
    return " ".join(f"{axis.min()} {axis.max()}" for axis in reversed(places))
