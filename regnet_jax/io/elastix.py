"""Transform parameter files of elastix, read and written.

Sources: the manual of elastix 5, and ``elxTransformBase.hxx`` with the files of its
transforms, which read and write them. Points and matrices are ITK's (mm, LPS); a
transform maps fixed points to moving points.
"""

import filecmp
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.files import write_text
from regnet_jax.io.displacements import read_displacement
from regnet_jax.spatial.frames import Frame, cosines
from regnet_jax.spatial.images import to_sitk
from regnet_jax.spatial.transforms import (
    add_transforms,
    check_dimension,
)

_LINE = re.compile(r"\((\w+)\s*(.*?)\)\s*(?://.*)?", re.DOTALL)
_VALUE = re.compile(r'"([^"]*)"|([^\s"]+)')
# The order of their parameters is that of ITK.
_LINEAR = {
    "TranslationTransform": {
        d: lambda d=d: sitk.TranslationTransform(d) for d in (2, 3)
    },
    "EulerTransform": {2: sitk.Euler2DTransform, 3: sitk.Euler3DTransform},
    "SimilarityTransform": {
        2: sitk.Similarity2DTransform,
        3: sitk.Similarity3DTransform,
    },
    "AffineTransform": {d: lambda d=d: sitk.AffineTransform(d) for d in (2, 3)},
}
_SPLINES = ("BSplineTransform", "RecursiveBSplineTransform")
_FIELD = "DeformationFieldTransform"
_FIELD_FILE = "DeformationFieldFileName"
_KNOWN = (*_LINEAR, *_SPLINES, _FIELD)
# Since elastix 5.1, and before.
_INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")


def is_parameter_file(path: Path) -> bool:
    """Tell whether a text file is one of elastix, by its suffix or its first line."""
    if path.suffix.lower() == ".toml":
        return True
    if path.suffix.lower() != ".txt":
        return False
    with path.open("rb") as file:
        head = file.read(4096).decode(errors="replace").removeprefix("\ufeff")
    lines = (line.strip() for line in head.splitlines())
    first = next((x for x in lines if x and not x.startswith("//")), "")
    return first.startswith("(")


def read_parameter_file(
    path: Path, read: Callable[[Path], sitk.Transform]
) -> sitk.Transform:
    """Read a transform of elastix, after the initial transform that it names.

    The initial transform and the displacement image are looked for beside the file,
    then where the file says.

    Args:
        path: of ``TransformParameters.N.txt`` or ``.toml``.
        read: reads the initial transform of a path.

    Returns:
        The transform, from fixed to moving points.

    Raises:
        InputError: if the file is damaged, or holds what cannot be read here.
    """
    values = _parse(path)
    if not values.keys() & {"TransformParameters", "NumberOfParameters"}:
        raise InputError(
            f"{path}: holds no transform but perhaps the settings of elastix; give"
            " TransformParameters.0.txt of its results, or the last of them"
        )
    d = int(_numbers(path, values, "FixedImageDimension", 1)[0])
    if d not in (2, 3):
        raise InputError(f"{path}: is {d}D where 2D or 3D is needed; give another")
    _check_directions(path, values, d)
    transform = _own_transform(path, values, d)
    named = _initial(values)
    if not named:
        return transform
    initial = read(_beside(path, named))
    check_dimension(initial, str(path), d)
    how = _first(values, "HowToCombineTransforms", "Compose")
    if how == "Compose":
        # ITK applies the transform that was added last first.
        return sitk.CompositeTransform([transform, initial])
    if how != "Add":
        raise InputError(
            f"{path}: has HowToCombineTransforms {how}; give Compose or Add"
        )
    return add_transforms(initial, transform, _fixed_frame(path, values, d))


def named_files(path: Path) -> list[Path]:
    """Return the files that a transform parameter file names.

    Args:
        path: as for ``read_parameter_file``.

    Returns:
        The initial transform and the displacement image, those that there are.

    Raises:
        InputError: if the file is damaged, or a file that it names is missing.
    """
    values = _parse(path)
    names = [_initial(values), _first(values, _FIELD_FILE)]
    return [_beside(path, name) for name in names if name]


def _initial(values) -> str:
    """Return the name of the initial transform; empty if there is none."""
    given = next((values[key] for key in _INITIAL if key in values), [])
    return given[0] if given and given[0] != "NoInitialTransform" else ""


def _own_transform(path: Path, values, d: int) -> sitk.Transform:
    """Return the transform of a file without its initial transform."""
    kind = _first(values, "Transform", "nothing")
    if kind not in _KNOWN:
        raise InputError(
            f"{path}: holds a {kind}, which is not read here ({', '.join(_KNOWN)} are);"
            " let transformix -def all make a displacement image of it"
        )
    if kind == _FIELD:
        name = _first(values, _FIELD_FILE)
        (order,) = _numbers(path, values, "DeformationFieldInterpolationOrder", 1, [1])
        if order != 1:
            raise InputError(
                f"{path}: interpolates its displacement image with order {order:g};"
                " only order 1 is read here"
            )
        vectors, frame = read_displacement(_beside(path, name))
        return sitk.DisplacementFieldTransform(
            to_sitk(vectors.astype(np.float64), frame)
        )
    if kind in _SPLINES:
        transform = _spline(path, values, d)
    else:
        transform = _LINEAR[kind][d]()
        if kind != "TranslationTransform":
            transform.SetCenter(_numbers(path, values, "CenterOfRotationPoint", d))
        # It is about rotations in 3D alone.
        zyx = _first(values, "ComputeZYX") == "true"
        if zyx and isinstance(transform, sitk.Euler3DTransform):
            transform.SetComputeZYX(True)
    count = transform.GetNumberOfParameters()
    transform.SetParameters(_numbers(path, values, "TransformParameters", count))
    return transform


def _spline(path: Path, values, d: int) -> sitk.Transform:
    if _first(values, "UseCyclicTransform") == "true":
        raise InputError(
            f"{path}: holds a cyclic B-spline, which is not read here; let transformix"
            " -def all make a displacement image of it"
        )
    (order,) = _numbers(path, values, "BSplineTransformSplineOrder", 1, [3])
    if order not in (1, 2, 3):
        raise InputError(f"{path}: has a B-spline of order {order:g}; give 1, 2 or 3")
    size, index, spacing, origin, direction = (
        np.array(_numbers(path, values, f"Grid{key}", count, default))
        for key, count, default in (
            ("Size", d, None),
            ("Index", d, np.zeros(d)),
            ("Spacing", d, None),
            ("Origin", d, None),
            ("Direction", d * d, np.eye(d).ravel()),
        )
    )
    # elastix writes directions column after column.
    direction = direction.reshape(d, d).T
    origin = origin + direction @ (spacing * index)
    if (size <= order).any() or (spacing <= 0).any():
        raise InputError(
            f"{path}: has an impossible grid of B-splines; copy the file again"
        )
    transform = sitk.BSplineTransform(d, int(order))
    transform.SetFixedParameters([*size, *origin, *spacing, *direction.ravel()])
    return transform


def _fixed_frame(path: Path, values, d: int) -> Frame:
    """Return the grid of the fixed image."""
    size, spacing, origin, direction = (
        np.array(_numbers(path, values, key, count))
        for key, count in (
            ("Size", d),
            ("Spacing", d),
            ("Origin", d),
            ("Direction", d * d),
        )
    )
    return Frame(size[::-1].astype(int), spacing, origin, direction.reshape(d, d).T)


def _check_directions(path: Path, values, d: int) -> None:
    """Raise InputError if elastix has ignored the direction of an oblique image."""
    if _first(values, "UseDirectionCosines") != "false":
        return
    direction = _numbers(path, values, "Direction", d * d, np.eye(d).ravel())
    if not np.allclose(direction, np.eye(d).ravel(), atol=1e-6):
        raise InputError(
            f"{path}: was made with UseDirectionCosines false, so it does not map"
            " points of the world; register again with true"
        )


def _beside(path: Path, name: str) -> Path:
    """Return the file that another one names: beside it, or where it says.

    A result may start from another one of the same name, in another folder.
    """
    named = Path(name)
    places = [path.parent / named, path.parent / named.name, named]
    found = [
        place
        for place in places
        if name and place.is_file() and (place == places[0] or not place.samefile(path))
    ]
    if not found:
        raise InputError(
            f"{path}: names the file {name!r}, which is missing; put it beside this one"
        )
    others = (p for p in found if not filecmp.cmp(p, found[0], shallow=False))
    if other := next(others, None):
        raise InputError(
            f"{path}: names the file {name!r}, which may be {found[0]} or {other}, and"
            " these differ; remove the wrong one"
        )
    return found[0]


def _first(values, key: str, default: str = "") -> str:
    """Return the first value of a key; ``default`` where it has none."""
    return (values.get(key) or [default])[0]


def _parse(path: Path) -> dict[str, list[str]]:
    """Return the values of each key as text."""
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".toml":
            return {k: _listed(value) for k, value in tomllib.loads(text).items()}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{path}: is no parameter file of elastix ({error}); copy it again"
        ) from None
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("//"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise InputError(
                f"{path}: line {number} is not (Key values), it may be truncated; copy"
                " the file again"
            )
        key, rest = match.groups()
        # Splitting is far faster where there are many numbers.
        values[key] = (
            [quoted or plain for quoted, plain in _VALUE.findall(rest)]
            if '"' in rest
            else rest.split()
        )
    return values


def _listed(value) -> list[str]:
    """Return a value of TOML as the list of words that the text format would hold."""
    values = value if isinstance(value, list) else [value]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in values]


def _numbers(path: Path, values, key: str, count: int, default=None) -> list[float]:
    """Return the numbers of a key, or the default if it is not there."""
    if key not in values and default is not None:
        return np.asarray(default, float).tolist()
    found = values.get(key, [])
    try:
        numbers = np.array(found, float)
    except ValueError:
        raise InputError(
            f"{path}: its {key} are not all numbers; let elastix write them as text"
        ) from None
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: has {len(numbers)} finite numbers as {key} where {count} are"
            " needed; copy the file again"
        )
    return numbers.tolist()


def write_for_elastix(folder, frame: Frame) -> None:
    """Write ``transform_elastix.txt``, which refers to ``displacement.nii.gz``.

    transformix must be started in the folder of both.

    Args:
        folder: an existing folder.
        frame: the fixed grid, on which the displacement lies.
    """
    flipped = np.ravel(cosines(frame).T)
    lines = {
        "Transform": "DeformationFieldTransform",
        "DeformationFieldFileName": "displacement.nii.gz",
        "DeformationFieldInterpolationOrder": 1,
        "NumberOfParameters": 0,
        "InitialTransformParametersFileName": "NoInitialTransform",
        "HowToCombineTransforms": "Compose",
        "FixedImageDimension": frame.ndim,
        "MovingImageDimension": frame.ndim,
        "FixedInternalImagePixelType": "float",
        "MovingInternalImagePixelType": "float",
        "Size": frame.shape[::-1],
        "Index": (0,) * frame.ndim,
        "Spacing": frame.spacing,
        "Origin": frame.origin,
        "Direction": flipped.tolist(),
        "UseDirectionCosines": "true",
        "ResampleInterpolator": "FinalLinearInterpolator",
        "Resampler": "DefaultResampler",
        "DefaultPixelValue": 0,
        "ResultImageFormat": "nii.gz",
        "ResultImagePixelType": "float",
        "CompressResultImage": "true",
    }
    text = "\n".join(f"({key} {_words(value)})" for key, value in lines.items())
    write_text(Path(folder) / "transform_elastix.txt", text + "\n")


def _words(value) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    values = value if isinstance(value, tuple | list) else (value,)
    return " ".join(f"{number:.12g}" for number in values)
