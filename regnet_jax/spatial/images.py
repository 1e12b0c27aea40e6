"""Images: arrays with their place in the world, from and to SimpleITK."""

import logging
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError, shown
from regnet_jax.spatial.frames import Frame, corners_apart, cosines, straighten

# Channels of a colour, without and with transparency.
_COLOURS = (3, 4)
# Units of nibabel's headers other than mm.
_MM_PER_UNIT = {"meter": 1e3, "micron": 1e-3}
_LOG = logging.getLogger(__name__)

# The types of ITK in an order in which the first that can hold a type is the smallest.
_HELD = tuple(
    map(np.dtype, ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"))
)
# Directions are stored with few digits. An error that moves no voxel by more than this
# fraction of one is corrected silently, up to this skew (a sine) with a warning.
_MOVED, _SKEW = 0.1, 2e-3
# Single precision may overflow beyond this value and underflow below its inverse, and
# an image needs at least this many steps of it between its values.
_LARGEST, _STEPS = 1e30, 16
# A nanometre to a metre, mm.
_SPACINGS = (1e-6, 1e3)
# Voxels to the origin, with which single precision still places a tenth of a voxel.
_FARTHEST = 2**20
_ORDER = {2: "(x, y)", 3: "(x, y, z)"}
# Whole numbers up to this are exact in double precision, which ITK resamples in.
_EXACT = 2**53


def as_array(
    given, name: str, *, wanted: str = "an array of real numbers"
) -> np.ndarray:
    """Return an array of real numbers, in a type of ITK and native byte order.

    A type that ITK lacks becomes the smallest that holds its values: bool uint8,
    float16 and bfloat16 float32, four-bit integers int8 and uint8. Extended precision
    becomes float64. No other type is changed, and nothing is copied without need.

    Args:
        given: a NumPy or JAX array of any layout, whatever has ``__array__``, or
            nested lists.
        name: name in messages.
        wanted: the input that messages ask for if this one is not an array.

    Returns:
        The array.

    Raises:
        InputError: if it cannot become an array, does not hold real numbers, or has
            masked values.
    """
    try:
        array = np.asarray(given)
    except Exception as error:  # ``__array__`` of a foreign type may raise anything.
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name}: no array can be made of it ({line}); give {wanted}"
        ) from None
    if not array.ndim and array.dtype.kind in "OSUT":
        raise InputError(
            f"{name}: {shown(given)} is of type {type(given).__name__}; give {wanted}"
        )
    masked = _count_masked(given)
    if masked:
        raise InputError(
            f"{name}: {masked} of {array.size} values are masked; fill them, for"
            " example by array.filled(array.min())"
        )
    with np.errstate(over="ignore"):  # Infinite values are refused later.
        return array.astype(_held_type(array.dtype, name), copy=False)


def as_numbers(given, name: str, *, wanted: str = "numbers") -> np.ndarray:
    """Return finite real numbers as float64.

    Args:
        given: as for ``as_array``.
        name: as for ``as_array``.
        wanted: as for ``as_array``.

    Returns:
        The array.

    Raises:
        InputError: as ``as_array``; and for truth values, NaN and infinite values.
    """
    numbers = as_array(given, name, wanted=wanted)
    if np.asarray(given).dtype == bool:
        raise InputError(f"{name}: holds truth values; give {wanted}")
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InputError(f"{name}: holds NaN or infinite values; give finite numbers")
    return numbers


def _held_type(dtype: np.dtype, name: str) -> np.dtype:
    if dtype.kind == "c":
        raise InputError(
            f"{name}: holds complex numbers; give their magnitude or their real part"
        )
    for held in _HELD:
        if np.can_cast(dtype, held):
            return held
    if np.can_cast(dtype, np.float64, "same_kind"):
        return np.dtype(np.float64)
    raise InputError(
        f"{name}: holds {dtype} where real numbers are needed; convert it, for example"
        " by array.astype(np.float32)"
    )


def _count_masked(given) -> int:
    """Return the number of masked values, also where a list holds masked slices."""
    pieces = given if isinstance(given, list | tuple) else [given]
    return sum(int(np.ma.getmaskarray(p).sum()) for p in pieces if np.ma.is_masked(p))


@dataclass(frozen=True, eq=False)
class Image:
    """A scalar image in the world.

    Attributes:
        array: ``[z, y, x]`` or ``[y, x]``, in the type the file has.
        frame: where its voxels lie.
        name: name in messages, usually its path.
    """

    array: np.ndarray
    frame: Frame
    name: str

    @classmethod
    def from_array(
        cls, array, spacing, origin=None, direction=None, *, name: str = "array"
    ) -> "Image":
        """Return an array as an image, with the checks of ``read_image``.

        The axes of the array are (z, y, x) or (y, x), as in NumPy; millimetres are
        in (x, y, z) or (x, y) order, as in SimpleITK. So an array of 40
        slices, 3 mm apart, of 256 x 256 voxels of 0.7 mm has the shape
        ``(40, 256, 256)`` and the spacing ``(0.7, 0.7, 3)``.

        Args:
            array: ``[z, y, x]`` or ``[y, x]`` real numbers of any type and layout,
                see ``as_array``.
            spacing: mm between voxel centres, x first; one number for all axes.
            origin: mm, x first, of the centre of voxel zero; by default zero.
            direction: d x d cosines as ITK has them; by default the identity.
            name: of the image in messages.

        Returns:
            The image.

        Raises:
            InputError: if the array is not that of an image, or the grid is impossible.
        """
        array = as_array(array, name)
        d = _check_axes(array, name)
        *plane, last = array.shape
        if array.dtype == np.uint8 and d == 3 and last in _COLOURS and min(plane) > 8:
            raise InputError(
                f"{name}: has shape {array.shape}, as pictures in colour have; give"
                " grey values, such as array.mean(-1)"
            )
        frame = Frame(
            shape=array.shape,
            spacing=_spacing(spacing, d, name),
            origin=np.zeros(d) if origin is None else as_numbers(origin, "origin"),
            direction=np.eye(d) if direction is None else direction,
        )
        return checked_image(cls(array, frame, name))

    @classmethod
    def from_affine(cls, array, affine, *, name: str = "array") -> "Image":
        """Return an array with the affine matrix of nibabel as an image.

        nibabel, TorchIO and MONAI have the axes of arrays in (x, y, z) order, and their
        world axes point to the right, to the front and up (RAS). The image has the
        axes and the world of ITK: (z, y, x), left, back and up (LPS).

        Args:
            array: ``[x, y, z]`` or ``[x, y]`` real numbers, see ``as_array``.
            affine: ``[4, 4]``, voxel ``(i, j, k, 1)`` to mm in RAS. Of a 2D array the
                third row and column are not used.
            name: of the image in messages.

        Returns:
            The image; ``image.array.T`` has the axes of the given array.

        Raises:
            InputError: if the array is not that of an image, or the matrix is none of
                an orthogonal grid.
        """
        array = as_array(array, name)
        if array.ndim not in (2, 3):
            raise InputError(
                f"{name}: has shape {array.shape}; give [x, y, z] or [x, y], one"
                " channel of one image, such as array[0] of [channel, x, y, z]"
            )
        wanted = "the 4 x 4 matrix from voxels to mm, whose last row is 0, 0, 0, 1"
        given = affine
        affine = as_numbers(affine, f"{name}, affine", wanted=wanted)
        if affine.shape != (4, 4) or (affine[3] != (0, 0, 0, 1)).any():
            raise InputError(f"{name}, affine: is {shown(given)}; give {wanted}")
        affine = np.diag((-1.0, -1.0, 1.0, 1.0)) @ affine
        linear = affine[: array.ndim, : array.ndim]
        spacing = np.linalg.norm(linear, axis=0)
        return cls.from_array(
            array.T,
            spacing,
            affine[: array.ndim, 3],
            # A spacing of zero is refused with a message of its own.
            linear / np.where(spacing > 0, spacing, 1),
            name=name,
        )


def from_nibabel(image, name: str) -> Image:
    """Convert an image of nibabel, without importing it.

    Args:
        image: what has the ``dataobj`` and the ``affine`` of nibabel's spatial images.
        name: name in messages, if the image has no file.

    Returns:
        The image, in the type that the file has or, if it scales its values, in
        float64.

    Raises:
        InputError: as ``Image.from_affine``.
    """
    get_filename = getattr(image, "get_filename", lambda: None)
    units = getattr(getattr(image, "header", None), "get_xyzt_units", lambda: ("", ""))
    affine = image.affine
    if scale := _MM_PER_UNIT.get(units()[0]):
        # As ITK reads the same file.
        affine = np.diag((scale, scale, scale, 1.0)) @ affine
    return Image.from_affine(image.dataobj, affine, name=str(get_filename() or name))


def is_nibabel(given) -> bool:
    """Tell whether an input is an image of nibabel, without importing it."""
    return hasattr(given, "dataobj") and hasattr(given, "affine")


def from_sitk(image: sitk.Image, name: str) -> Image:
    """Convert a SimpleITK image.

    Args:
        image: of any type; label maps that ITK stores as runs are expanded.
        name: name in messages.

    Returns:
        The image; an array of vectors has its channels last.
    """
    if "label of" in image.GetPixelIDTypeAsString():
        image = sitk.LabelMapToLabel(image)
    return Image(sitk.GetArrayFromImage(image), frame_of(image), name)


def frame_of(image: sitk.Image | sitk.ImageFileReader) -> Frame:
    """Return the frame of an image of SimpleITK, or of the header that was read."""
    return Frame(
        shape=image.GetSize()[::-1],
        spacing=image.GetSpacing(),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
    )


def to_sitk(array, frame: Frame) -> sitk.Image:
    """Convert an array to a SimpleITK image.

    Args:
        array: ``[*frame.shape]``, or ``[*frame.shape, c]`` vectors. Types that ITK
            lacks are widened, see ``as_array``.
        frame: where its voxels lie.

    Returns:
        The image.

    Raises:
        InputError: if the array does not hold real numbers or has another shape.
    """
    array = as_array(array, "array")
    check_shape(array, frame)
    image = sitk.GetImageFromArray(array, isVector=array.ndim > frame.ndim)
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    image.SetDirection(frame.direction)
    return image


def check_shape(array: np.ndarray, frame: Frame) -> None:
    """Raise InputError unless an array holds numbers or vectors at a grid's voxels."""
    if array.shape[: frame.ndim] != frame.shape or array.ndim > frame.ndim + 1:
        raise InputError(
            f"array: has shape {array.shape} on a grid of {frame.shape}; give an array"
            " of the grid"
        )


def check_labels(image: Image) -> Image:
    """Return a label map, with a warning if it looks like a scan.

    Args:
        image: any.

    Returns:
        The same.

    Raises:
        InputError: if a value has a fraction or is above 2^53.
    """
    if (image.array != np.rint(image.array)).any():
        raise InputError(
            f"{image.name}: holds fractions, so it is not a label map; give whole"
            " numbers"
        )
    if image.array.dtype.itemsize == 8 and (np.abs(image.array) > _EXACT).any():
        raise InputError(
            f"{image.name}: has labels above 2^53, which would lose digits; renumber"
            " them"
        )
    if (image.array < 0).any():
        _LOG.warning(
            "%s: holds negative values, as CTs do; check that it is a label map",
            image.name,
        )
    return image


def warn_if_elsewhere(image: Image, frame: Frame) -> None:
    """Warn of a mask or label map with the size of its image, but in another place.

    Programs that do not know headers leave the place out. Axes may be reversed.

    Args:
        image: the mask or label map.
        frame: the grid of its image.
    """
    if image.frame.shape != frame.shape:
        return
    apart = corners_apart(image.frame, frame)
    if apart > max(frame.spacing):
        _LOG.warning(
            "%s: has as many voxels as its image and lies up to %.3g mm elsewhere;"
            " check spacing, origin and direction in its header",
            *(image.name, apart),
        )


def check_pair(fixed: Image, moving: Image) -> None:
    """Raise InputError unless the two images can be registered to each other.

    Registration computes in single precision, so their contrast must survive that.
    """
    if fixed.frame.ndim != moving.frame.ndim:
        raise InputError(
            f"{fixed.name} is {fixed.frame.ndim}D and {moving.name} is"
            f" {moving.frame.ndim}D; give two images of the same dimension"
        )
    for image in (fixed, moving):
        _check_contrast(image)


def warn_if_same(fixed: Image, moving: Image) -> None:
    """Warn of images that have the same values in the same place."""
    if fixed.frame == moving.frame and np.array_equal(fixed.array, moving.array):
        _LOG.warning(
            "%s: is the same image as %s, so that nothing moves; check both",
            *(moving.name, fixed.name),
        )


def _check_contrast(image: Image) -> None:
    low, high = image.array.min().item(), image.array.max().item()
    if low == high:
        raise InputError(
            f"{image.name}: has the same value everywhere, so there is nothing"
            " to register; check that it is the right file"
        )
    extremes = f"{image.name}: its values lie between {low:.9g} and {high:.9g}"
    largest = max(-low, high)
    if largest > _LARGEST or high - low < 1 / _LARGEST:
        raise InputError(
            f"{extremes}, beyond single precision; scale them, for example to 0 to 1000"
        )
    if high - low < _STEPS * float(np.spacing(np.float32(largest))):
        raise InputError(
            f"{extremes}, too close together for single precision; subtract {low:.9g}"
        )


def check_kind(path, dimension: int, components: int) -> None:
    """Raise InputError unless an image is scalar, and 2D or 3D."""
    if components != 1:
        raise InputError(
            f"{path}: has {components} components per voxel where one is needed;"
            " convert it to grey values or extract one component"
        )
    if dimension not in (2, 3):
        raise InputError(
            f"{path}: is {dimension}D where 2D or 3D is needed; extract one volume"
        )


def checked_image(image: Image) -> Image:
    """Return an image that a program made, after the checks of ``read_image``."""
    name, frame = image.name, image.frame
    if not isinstance(frame, Frame):
        raise InputError(
            f"{name}: its frame is of type {type(frame).__name__}; give a"
            " regnet_jax.Frame"
        )
    array = as_array(image.array, name)
    if array.shape != frame.shape:
        raise InputError(
            f"{name}: has shape {array.shape} on a grid of {frame.shape} voxels; give"
            " one value for each voxel of the grid"
        )
    d = _check_axes(array, name)
    _spacing(frame.spacing, d, name)
    image = Image(array, straight_frame(name, frame), name)
    _check_values(image)
    return image


def _check_axes(array: np.ndarray, name: str) -> int:
    """Return the dimension of the image that an array holds."""
    if array.ndim not in (2, 3):
        raise InputError(
            f"{name}: has shape {array.shape}; give [z, y, x] or [y, x], one channel of"
            " one image, such as array[0, ..., 0] of [batch, z, y, x, channel]"
        )
    if not array.size:
        raise InputError(f"{name}: has shape {array.shape}; give one with voxels")
    return array.ndim


def _spacing(given, d: int, name: str) -> np.ndarray:
    """``[d]`` mm, x first."""
    spacing = as_numbers(given, f"{name}, spacing")
    if spacing.shape not in ((), (d,)) or not (spacing > 0).all():
        raise InputError(
            f"{name}: its spacing is {shown(given)}; give one number above zero, or"
            f" {d} of them in {_ORDER[d]} order, in mm"
        )
    return np.broadcast_to(spacing, d)


def straight_frame(name: str, frame: Frame) -> Frame:
    """Return the frame with an orthonormal direction, correcting rounding errors.

    Args:
        name: of the image in messages.
        frame: with any direction.

    Returns:
        The frame, unchanged if its direction is orthonormal.

    Raises:
        InputError: if its axes are sheared or not of length 1.
    """
    matrix = cosines(frame)
    lengths = np.linalg.norm(matrix, axis=0)
    gram = matrix.T @ matrix
    deviation = np.abs(gram - np.eye(frame.ndim)).max()
    if deviation < 1e-6:
        return frame
    moved = np.inf
    # False where it is NaN.
    if deviation < 0.5:
        straight, moved = straighten(frame)
    if moved <= _MOVED:
        return straight
    if moved < np.inf and deviation <= _SKEW:
        _LOG.warning(
            "%s: its direction matrix is not quite orthonormal; the nearest rotation is"
            " taken, which moves its corners by up to %.2g voxels",
            name,
            moved,
        )
        return straight
    if np.isfinite(lengths).all() and lengths.all():
        sines = np.abs(gram / np.outer(lengths, lengths) - np.eye(frame.ndim))
        angle = np.degrees(np.arcsin(min(sines.max(), 1.0)))
        fact = f"its axes are {angle:.3g} degrees off a right angle"
        if angle < 0.01:
            fact = "its axes are not of length 1"
    else:
        fact = "it is singular or not finite"
    raise InputError(
        f"{name}: its direction matrix is not orthonormal ({fact}); resample it to an"
        " orthogonal grid or correct its header"
    )


def _check_values(image: Image) -> None:
    if not np.isfinite(image.frame.origin).all():
        raise InputError(f"{image.name}: its origin is not finite; correct its header")
    low, high = _SPACINGS
    if not all(low <= size <= high for size in image.frame.spacing):
        raise InputError(
            f"{image.name}: its spacing is {image.frame.spacing} mm, which no image"
            f" has; give millimetres, {low:g} to {high:g}"
        )
    far = np.abs(image.frame.origin).max()
    if far > _FARTHEST * min(image.frame.spacing):
        raise InputError(
            f"{image.name}: its origin is {far:.4g} mm away, too far for voxels of"
            f" {min(image.frame.spacing):g} mm in single precision; set one nearer to"
            " zero"
        )
    bad = int(np.size(image.array) - np.isfinite(image.array).sum())
    if bad:
        share = "all" if bad == image.array.size else f"{bad} of {image.array.size}"
        raise InputError(
            f"{image.name}: {share} of its values are NaN or infinite; replace them,"
            " for example by the background"
        )


def round_to(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round numbers to a type of whole numbers; those beyond its range become its ends.

    Args:
        array: of floating numbers.
        dtype: of integers.

    Returns:
        The array in that type.
    """
    info, kind = np.iinfo(dtype), array.dtype.type
    # 2**31 - 1 and 2**63 - 1 are not floats; the largest is the next float below.
    highest = np.nextafter(kind(info.max + 1), kind(0))
    return np.clip(np.rint(array), kind(info.min), highest).astype(dtype)
