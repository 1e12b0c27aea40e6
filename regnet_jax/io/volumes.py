"""Image files of several channels (colour, layers of labels) or frames (4D).

Each channel of each frame is an ``Image``; what else the file says is kept for writing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.files import check_suffix, write_atomically
from regnet_jax.io.dicom import is_multiframe, rescale_file, split_series
from regnet_jax.io.headers import header_frame
from regnet_jax.io.images import (
    IMAGE_SUFFIXES,
    as_image,
    execute,
    open_image,
    read_frame,
    read_image,
    warn_of_guess,
)
from regnet_jax.io.segmentations import describe_segments, mark_layers, segment_fields
from regnet_jax.spatial.frames import Frame
from regnet_jax.spatial.images import (
    Image,
    check_kind,
    from_sitk,
    straight_frame,
    to_sitk,
)

_COLOURS = (3, 4)


@dataclass(frozen=True)
class Volumes:
    """The volumes of an image file, all on one grid.

    Attributes:
        images: frame by frame, and within a frame channel by channel.
        channels: in each frame.
        time: spacing and origin along the axis of the frames; None for a single image.
        segments: the fields of a segmentation of 3D Slicer, such as names; else empty.
        layered: whether the channels are a list of layers, as in 3D Slicer.
    """

    images: tuple[Image, ...]
    channels: int = 1
    time: tuple[float, float] | None = None
    segments: dict[str, str] = field(default_factory=dict)
    layered: bool = False

    def fills(self, fill: float | None) -> list[float]:
        """Return the value outside of each volume.

        By default that is black for colours, and for others the minimum of a channel
        over all its frames.
        """
        count = len(self.images)
        if fill is not None:
            return [fill] * count
        if self.channels in _COLOURS and self.images[0].array.dtype == np.uint8:
            return [0.0] * count
        lows = [float(image.array.min()) for image in self.images]
        return [min(lows[k % self.channels :: self.channels]) for k in range(count)]


def read_volumes(path) -> Volumes:
    """Read an image of any number of channels, in 2D, 3D or 4D.

    Args:
        path: as in ``read_image``; a 4D file holds 3D frames.

    Returns:
        The volumes.

    Raises:
        InputError: as ``read_image``, but for several components and 4D; and if the
            time axis of a 4D file is not separate from those of space.
    """
    file, series = split_series(path)
    if series or file.is_dir() or is_multiframe(file):
        return Volumes((read_image(path),))
    name = str(file)
    with open_image(file) as reader:
        frame, channels = _frame(name, reader), reader.GetNumberOfComponents()
        image = execute(reader, file)
    warn_of_guess(file)
    frame = header_frame(file, frame)
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    time, arrays = None, [rescale_file(file, from_sitk(image, name).array)]
    if image.GetDimension() == 4:
        time = (image.GetSpacing()[3], image.GetOrigin()[3])
        arrays = list(arrays[0])
    parts = [
        np.ascontiguousarray(array[..., channel]) if channels > 1 else array
        for array in arrays
        for channel in range(channels)
    ]
    images = tuple(as_image(Image(part, frame, name), name) for part in parts)
    kind = fields.get("NRRD_kinds[pixel]", "")
    layered = kind == "list" or name.lower().endswith(".seg.nrrd")
    return Volumes(images, channels, time, segment_fields(fields), layered)


def read_grid(path) -> Frame:
    """Read where the voxels of an image of any number of channels and frames lie.

    Args:
        path: as in ``read_volumes``; of a 4D file the frame of its volumes is returned.

    Returns:
        The frame.

    Raises:
        InputError: as ``read_volumes``, except for problems with the values.
    """
    file, series = split_series(path)
    if series or file.is_dir() or is_multiframe(file):
        return read_frame(path)
    with open_image(file, values=False) as reader:
        frame = _frame(str(file), reader)
    warn_of_guess(file)
    return straight_frame(str(file), header_frame(file, frame))


def write_volumes(
    path, volumes: Volumes, arrays: Sequence[np.ndarray], frame: Frame
) -> list[str]:
    """Write other arrays as the channels and frames of an image, atomically.

    Args:
        path: as in ``write_image``; .seg.nrrd and .nrrd keep the segments.
        volumes: the image that the arrays come from.
        arrays: ``[*frame.shape]`` for each of ``volumes.images``.
        frame: where the voxels lie.

    Returns:
        Lines for the user about what the format could not keep.

    Raises:
        InputError: as ``write_image``.
    """
    check_suffix(path, IMAGE_SUFFIXES)
    step = volumes.channels
    frames = [
        np.stack(arrays[first : first + step], -1) if step > 1 else arrays[first]
        for first in range(0, len(arrays), step)
    ]
    if volumes.time is None:
        image = to_sitk(frames[0], frame)
    else:
        image = _series(frames, frame, volumes.time, is_vector=step > 1)
    keeps = str(path).lower().endswith(".nrrd")
    if keeps:
        layers = [frames[0][..., k] for k in range(step)] if step > 1 else frames
        for key, value in describe_segments(volumes.segments, layers).items():
            image.SetMetaData(key, value)

    def write(name: str) -> None:
        sitk.WriteImage(image, name, True)
        if keeps and volumes.layered and step > 1:
            mark_layers(Path(name))

    write_atomically(path, write)
    if volumes.segments and not keeps:
        return [f"{path}: does not keep the names of the segments; .seg.nrrd does"]
    return []


def _frame(name: str, image: sitk.ImageFileReader) -> Frame:
    """Return the frame of an image, or of each volume of a 4D image."""
    d = image.GetDimension()
    if d != 4:
        check_kind(name, d, 1)
    direction = np.reshape(image.GetDirection(), (d, d))
    space = min(d, 3)
    if direction[:space, space:].any() or direction[space:, :space].any():
        raise InputError(
            f"{name}: its fourth axis is not separate from those of space; extract one"
            " volume"
        )
    return Frame(
        shape=image.GetSize()[:space][::-1],
        spacing=image.GetSpacing()[:space],
        origin=image.GetOrigin()[:space],
        direction=direction[:space, :space],
    )


def _series(
    frames: Sequence[np.ndarray],
    frame: Frame,
    time: tuple[float, float],
    *,
    is_vector: bool,
) -> sitk.Image:
    image = sitk.GetImageFromArray(np.stack(frames), isVector=is_vector)
    direction = np.eye(4)
    direction[:3, :3] = np.reshape(frame.direction, (3, 3))
    image.SetSpacing((*frame.spacing, time[0]))
    image.SetOrigin((*frame.origin, time[1]))
    image.SetDirection(direction.ravel().tolist())
    return image
