"""DICOM files as scanners write them: single slices, and many frames in a file."""

import warnings

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT, ENHANCED_MR = f"{CT}.1", f"{MR}.1"
DOSE = "1.2.840.10008.5.1.4.1.1.481.2"


def numbers(values):
    """Decimal strings of at most 16 letters, as the standard has them."""
    return [f"{value:.9f}"[:16] for value in np.ravel(values)]


def _dataset(kind, array, series, **elements):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = kind
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", series
    data.Modality = "MR" if kind.startswith(MR) else "CT"
    data.Rows, data.Columns = array.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    for name, value in elements.items():
        setattr(data, name, value)
    data.add_new("PixelData", "OW", np.asarray(array, "<u2").tobytes())
    return data


def _save(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(path, enforce_file_format=True)


def write_slices(
    folder, arrays, positions, axes, spacing, series="1.2.3.4", kind=CT,
    scaling=None, first=1, **elements,
):  # fmt: skip
    """A file a slice, of stored values ``[rows, columns]`` (unsigned).

    Args:
        folder: for the files, which are named by the series and the slice.
        arrays: of the slices.
        positions: mm, of the first pixel of each.
        axes: ``[2, 3]`` directions of rows and columns.
        spacing: mm between columns, between rows.
        series: UID.
        kind: SOP class.
        scaling: slope and intercept of all, or of each.
        first: number of the first slice.
        elements: of all files.
    """
    scaling = np.broadcast_to(scaling or (1, 0), (len(arrays), 2))
    for k, (array, position) in enumerate(zip(arrays, positions, strict=True)):
        data = _dataset(
            kind,
            array,
            series,
            InstanceNumber=first + k,
            ImagePositionPatient=numbers(position),
            ImageOrientationPatient=numbers(axes),
            PixelSpacing=numbers(spacing[::-1]),
            RescaleSlope=numbers(scaling[k])[0],
            RescaleIntercept=numbers(scaling[k])[1],
            **elements,
        )
        _save(data, folder / f"{series}-{first + k:03d}.dcm")


def _item(**elements):
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return [item]


def write_frames(
    path, arrays, positions, axes, spacing, series="1.2.3.4", kind=ENHANCED_CT,
    scaling=None, times=None, **elements,
):  # fmt: skip
    """One file of many frames; Args as ``write_slices``.

    Where all frames have one scaling it is in the groups that they share. The times are
    indices of the temporal position of each.
    """
    scalings = np.broadcast_to(scaling or (1, 0), (len(arrays), 2))
    scalings = [
        _item(RescaleSlope=s, RescaleIntercept=i, RescaleType="HU")
        for s, i in (numbers(each) for each in scalings)
    ]
    each_has_its_own = np.ndim(scaling or 0) == 2
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = _item(PixelSpacing=numbers(spacing[::-1]))
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=numbers(axes))
    if not each_has_its_own:
        shared.PixelValueTransformationSequence = scalings[0]
    for number, (position, own) in enumerate(zip(positions, scalings, strict=True)):
        frame = Dataset()
        if times is not None:
            content = _item(TemporalPositionIndex=int(times[number]))
            frame.FrameContentSequence = content
        frame.PlanePositionSequence = _item(ImagePositionPatient=numbers(position))
        if each_has_its_own:
            frame.PixelValueTransformationSequence = own
        frames.append(frame)
    data = _dataset(
        kind,
        np.stack(arrays),
        series,
        NumberOfFrames=len(arrays),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        **elements,
    )
    _save(data, path)


def write_plain_frames(path, arrays, **elements):
    """One file of many frames without groups, such as a dose or an ultrasound."""
    array = np.stack(arrays)
    kind = elements.pop("kind", DOSE)
    data = _dataset(kind, array, "1.2.3.4", NumberOfFrames=len(array), **elements)
    _save(data, path)
