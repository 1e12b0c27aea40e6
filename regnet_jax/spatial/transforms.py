"""Displacements and transforms of ITK.

Points, vectors and matrices are in mm and (x, y, z) order; a transform maps
points of the fixed image to points of the moving image.
"""

import numpy as np
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.spatial.frames import Frame, split_frame, to_world
from regnet_jax.spatial.images import to_sitk

# A matrix whose determinant is smaller counts as one without an inverse.
SINGULAR = 1e-6


def composite(frame: Frame, residual, affine) -> sitk.CompositeTransform:
    """Return the transform ``T(x) = A(x + r(x))``.

    Outside of ``frame`` the residual is zero.

    Args:
        frame: the fixed grid.
        residual: ``r``, ``[*frame.shape, d]`` vectors, mm, x first.
        affine: ``A``, homogeneous ``[d + 1, d + 1]``.

    Returns:
        The transform.
    """
    field = to_sitk(np.asarray(residual, np.float64), frame)
    displacement = sitk.DisplacementFieldTransform(field)
    # ITK applies the transform that was added last first.
    return sitk.CompositeTransform([affine_transform(affine), displacement])


def total_displacement(frame: Frame, residual, affine) -> np.ndarray:
    """Return the displacement ``A(x + r(x)) - x`` at the voxels of a grid.

    The transform of ``composite`` interpolates it linearly.

    Args:
        frame: the fixed grid.
        residual: ``r``, ``[*frame.shape, d]`` vectors, mm, x first.
        affine: ``A``, homogeneous ``[d + 1, d + 1]``.

    Returns:
        ``[*frame.shape, d]`` vectors, mm, x first.
    """
    d = frame.ndim
    affine = np.asarray(affine, np.float64)
    linear, shift = affine[:d, :d], affine[:d, d]
    grid = np.moveaxis(np.indices(frame.shape, dtype=np.float64), 0, -1)
    own = to_world(frame, grid) @ (linear - np.eye(d)).T
    return own + residual @ linear.T + shift


def affine_transform(matrix) -> sitk.AffineTransform:
    """Return the SimpleITK transform of a homogeneous matrix ``[d + 1, d + 1]``."""
    matrix = np.asarray(matrix, np.float64)
    d = len(matrix) - 1
    transform = sitk.AffineTransform(d)
    transform.SetMatrix(matrix[:d, :d].ravel().tolist())
    transform.SetTranslation(matrix[:d, d].tolist())
    return transform


def linear_matrix(transform: sitk.Transform) -> np.ndarray:
    """Return the homogeneous matrix ``[d + 1, d + 1]`` of a linear transform."""
    d = transform.GetDimension()
    zero = np.array(transform.TransformPoint((0.0,) * d))
    units = [transform.TransformPoint(unit) for unit in np.eye(d).tolist()]
    matrix = np.eye(d + 1)
    matrix[:d, :d] = (np.array(units) - zero).T
    matrix[:d, d] = zero
    return matrix


def add_transforms(
    first: sitk.Transform, second: sitk.Transform, frame: Frame
) -> sitk.Transform:
    """Return the transform ``T(x) = first(x) + second(x) - x``.

    Args:
        first: any.
        second: any, of the same dimension.
        frame: the fixed grid, on which the sum of displacements is sampled unless one
            transform is linear and the other linear or a B-spline.

    Returns:
        The transform.
    """
    d = frame.ndim
    if second.IsLinear():
        first, second = second, first
    if not first.IsLinear():
        total = sample_transform(first, frame) + sample_transform(second, frame)
        return composite(frame, total, np.eye(d + 1))
    matrix = linear_matrix(first)
    if second.IsLinear():
        return affine_transform(matrix + linear_matrix(second) - np.eye(d + 1))
    # A x + u(x) is A applied to x + A^-1 u(x).
    back = np.linalg.inv(matrix[:d, :d])
    if not isinstance(second, sitk.BSplineTransform):
        return composite(frame, sample_transform(second, frame) @ back.T, matrix)
    spline = sitk.BSplineTransform(second)
    coefficients = back @ np.reshape(second.GetParameters(), (d, -1))
    spline.SetParameters(coefficients.ravel().tolist())
    return sitk.CompositeTransform([affine_transform(matrix), spline])


def map_points(transform: sitk.Transform, points) -> np.ndarray:
    """Map world points through a transform.

    Args:
        transform: of the points' dimension.
        points: ``[n, d]``, mm, x first.

    Returns:
        ``[n, d]``, mm, x first.

    Raises:
        InputError: if a result is not finite.
    """
    points = np.asarray(points, np.float64)
    mapped = [transform.TransformPoint(point) for point in points.tolist()]
    return _finite(np.array(mapped).reshape(points.shape))


def sample_transform(
    transform: sitk.Transform, frame: Frame, dtype: type = np.float64
) -> np.ndarray:
    """Return the displacement ``T(x) - x`` at the voxels of a grid.

    Args:
        transform: of the grid's dimension.
        frame: the grid.
        dtype: of the result, ``float64`` or ``float32``.

    Returns:
        ``[*frame.shape, d]`` vectors, mm, x first.

    Raises:
        InputError: if a result is not finite.
    """
    vectors = np.empty((*frame.shape, frame.ndim), dtype)
    for rows, part in split_frame(frame):
        field = sitk.TransformToDisplacementField(
            transform,
            sitk.sitkVectorFloat64,
            part.shape[::-1],
            part.origin,
            part.spacing,
            part.direction,
        )
        vectors[rows] = _finite(sitk.GetArrayViewFromImage(field))
    return vectors


def check_transform(transform) -> None:
    """Raise InputError unless a transform is one of SimpleITK."""
    if not isinstance(transform, sitk.Transform):
        raise InputError(
            f"transform: is of type {type(transform).__name__}; give a SimpleITK"
            " transform, such as that of io.read_transform"
        )


def field_frame(transform: sitk.Transform) -> Frame | None:
    """Return the grid of the displacement field that a transform applies first.

    For the transform of a registration that is its working grid.

    Args:
        transform: any.

    Returns:
        The grid, or None if it does not begin with a displacement field.
    """
    while isinstance(transform, sitk.CompositeTransform):
        # A matrix of older ANTs is read as a composite that holds itself.
        if transform.IsLinear():
            return None
        # ITK applies the transform that was added last first.
        transform = transform.GetBackTransform()
    if not isinstance(transform, sitk.DisplacementFieldTransform):
        return None
    d = transform.GetDimension()
    values = transform.GetFixedParameters()
    return Frame(
        shape=values[:d][::-1],
        origin=values[d : 2 * d],
        spacing=values[2 * d : 3 * d],
        direction=values[3 * d :],
    )


def flatten(transform: sitk.Transform) -> list[sitk.Transform]:
    """Return the parts of a transform in the order in which they are applied."""
    try:
        transform = transform.Downcast()
    except KeyError:
        # SimpleITK knows no class of it, but it maps points.
        return [transform]
    if not isinstance(transform, sitk.CompositeTransform):
        return [transform]
    # ITK applies the transform that was added last first.
    count = transform.GetNumberOfTransforms()
    parts = [transform.GetNthTransform(k) for k in reversed(range(count))]
    nested = count == 1 and isinstance(parts[0], sitk.CompositeTransform)
    if nested and transform.IsLinear():
        # Of a class that SimpleITK lacks, such as MatrixOffsetTransformBase of older
        # ANTs: the part is shown as a composite of itself, without an end.
        return [transform]
    return [single for part in parts for single in flatten(part)]


def fit_affine(points, mapped) -> np.ndarray:
    """Fit a homogeneous matrix ``[d + 1, d + 1]`` to a map by least squares.

    Args:
        points: ``[..., d]``, mm, x first.
        mapped: where the map brings them, ``[..., d]``.

    Returns:
        The matrix.

    Raises:
        InputError: if it has no inverse.
    """
    d = points.shape[-1]
    points, mapped = points.reshape(-1, d), mapped.reshape(-1, d)
    centre = points.mean(0)
    # Where a grid has one slice the map along its normal is taken as rigid.
    basis = np.hstack([points - centre, np.ones((len(points), 1))])
    offset = mapped - points
    solution = np.linalg.lstsq(basis, offset, rcond=1e-9)[0]
    matrix = np.eye(d + 1)
    matrix[:d, :d] += solution[:d].T
    matrix[:d, d] = centre + solution[d] - matrix[:d, :d] @ centre
    if abs(np.linalg.det(matrix)) < SINGULAR:
        raise InputError("the transform flattens space; give one that has an inverse")
    return matrix


def apply_affine(matrix, points) -> np.ndarray:
    """Map points ``[..., d]`` by a homogeneous matrix ``[d + 1, d + 1]``."""
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def solve_affine(matrix, points) -> np.ndarray:
    """Map points ``[..., d]`` by the inverse of a homogeneous matrix."""
    return apply_affine(np.linalg.inv(matrix), points)


def check_dimension(transform: sitk.Transform, name: str, dimension: int) -> None:
    """Raise InputError unless a transform has the dimension of an input.

    Args:
        transform: any.
        name: of the input, for the message.
        dimension: of the input.
    """
    if transform.GetDimension() != dimension:
        raise InputError(
            f"{name} is {dimension}D and the transform is {transform.GetDimension()}D;"
            " give both of the same dimension"
        )


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise InputError("the transform holds NaN or infinite values; make it again")
    return values
