"""The measures of a transform from fixed to moving."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.evaluation.fields import (
    JacobianStatistics,
    endpoint_error,
    jacobian_statistics,
    local_volume_change,
)
from regnet_jax.evaluation.labels import LabelOverlap, label_overlap, labels_of
from regnet_jax.evaluation.landmarks import (
    check_landmarks,
    registration_errors,
    snap_to_voxels,
)
from regnet_jax.evaluation.similarity import Similarity, make_similarity
from regnet_jax.evaluation.statistics import ErrorStatistics, error_statistics
from regnet_jax.spatial import (
    Frame,
    Image,
    check_labels,
    check_transform,
    continue_over,
    map_points,
    resample,
    sample_transform,
)
from regnet_jax.spatial.images import as_numbers


@dataclass(frozen=True)
class Measures:
    """Measures of one transform; None where nothing was given to measure it by.

    Attributes:
        tre: target registration errors of landmarks, mm.
        tre_snapped: the same with warped points moved to the nearest voxel centre of
            the moving image, as DIR-Lab does.
        overlap: of each label of either label map, on the fixed grid; of the same
            labels for every transform.
        similarity: of the images, on the fixed grid.
        jacobian: local volume changes on the fixed grid.
        endpoint: errors of the voxels against a known displacement, mm.
    """

    tre: ErrorStatistics | None = None
    tre_snapped: ErrorStatistics | None = None
    overlap: dict[int, LabelOverlap] | None = None
    similarity: Similarity | None = None
    jacobian: JacobianStatistics | None = None
    endpoint: ErrorStatistics | None = None

    @property
    def dice(self) -> float:
        """The mean Dice over labels; NaN where there is no label."""
        return self._mean_over_labels("dice")

    @property
    def hd95(self) -> float:
        """The mean surface distance over labels, mm; NaN if one has none."""
        return self._mean_over_labels("hd95")

    def _mean_over_labels(self, name: str) -> float:
        values = [getattr(label, name) for label in (self.overlap or {}).values()]
        return float(np.mean(values)) if values else float("nan")

    def to_dict(self) -> dict:
        """Return the available measures by name, as values for JSON."""
        result = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name == "overlap" and value is not None:
                result[name] = {str(label): asdict(o) for label, o in value.items()}
            elif value is not None:
                result[name] = (
                    value.to_dict() if hasattr(value, "to_dict") else asdict(value)
                )
        return result


@dataclass(frozen=True)
class BeforeAndAfter:
    """Measures without a transform and with it.

    Attributes:
        before: of the identity.
        after: of the transform.
    """

    before: Measures
    after: Measures

    def to_dict(self) -> dict:
        """Return ``{measure: {"before": ..., "after": ...}}``, as it goes into JSON.

        The Jacobian, which the identity does not have, stands without moments.
        """
        before, after = self.before.to_dict(), self.after.to_dict()
        return {
            name: value
            if name not in before
            else {"before": before[name], "after": value}
            for name, value in after.items()
        }


def evaluate(
    transform,
    frame: Frame | None = None,
    *,
    landmarks=None,
    labels=None,
    images=None,
    moving_frame: Frame | None = None,
    truth=None,
    truth_mask=None,
) -> Measures:
    """Measure a transform by whatever is known of a pair.

    Args:
        transform: SimpleITK's, from fixed points to moving points (mm); None is the
            identity.
        frame: the fixed grid, on which the Jacobian is measured; None leaves it out,
            and so do the identity and a grid with a single voxel along an axis. Where
            the transform has no values on it, the displacement of its edge goes on, as
            in ``spatial.warp_image``, with a warning.
        landmarks: fixed and moving points that correspond, ``[n, d]`` each, mm, x
            first; or None.
        labels: fixed and moving label maps, two of ``spatial.Image``; or None.
        images: fixed and moving image; or None.
        moving_frame: grid of the moving image, for ``tre_snapped``; None leaves it out.
        truth: the true displacement, ``[*frame.shape, d]``, mm, x first; or None.
        truth_mask: bool, ``[*frame.shape]``, the voxels at which the displacement is
            compared with the truth; None takes all.

    Returns:
        The measures.

    Raises:
        InputError: if an argument is of another kind, or does not fit the others.
        ValueError: if ``truth`` is given with a transform and without ``frame``.
    """
    if truth is not None and transform is not None and frame is None:
        raise ValueError("truth needs frame, the grid of its voxels")
    landmarks = _checked(transform, landmarks, labels, images)
    truth, truth_mask = _checked_truth(frame, truth, truth_mask)
    similarity = make_similarity(*images) if images else None
    given = (landmarks, labels, similarity, moving_frame, truth, truth_mask)
    return _evaluate(transform, _continued(transform, frame, images), frame, *given)


def evaluate_before_and_after(
    transform,
    frame: Frame | None = None,
    *,
    landmarks=None,
    labels=None,
    images=None,
    moving_frame: Frame | None = None,
) -> BeforeAndAfter:
    """Measure the identity, and a transform, by arguments that were checked before.

    Args:
        transform: as for ``evaluate``.
        frame: the same.
        landmarks: the same.
        labels: the same.
        images: the same.
        moving_frame: the same.

    Returns:
        The measures of both.
    """
    similarity = make_similarity(*images) if images else None
    given = (landmarks, labels, similarity, moving_frame, None, None)
    continued = _continued(transform, frame, images)
    return BeforeAndAfter(
        _evaluate(None, None, None, *given),
        _evaluate(transform, continued, frame, *given),
    )


def _checked(transform, landmarks, labels, images):
    """Raise InputError for arguments that do not fit, and return the points."""
    if transform is not None:
        check_transform(transform)
    for name, pair in (("labels", labels), ("images", images)):
        if pair and (len(pair) != 2 or not all(isinstance(i, Image) for i in pair)):
            raise InputError(
                f"{name}: give two of regnet_jax.Image, such as those of"
                " regnet_jax.read_image"
            )
    for label_map in labels or ():
        check_labels(label_map)
    if landmarks is None:
        return None
    return check_landmarks(
        landmarks, None if transform is None else transform.GetDimension()
    )


def _checked_truth(frame: Frame | None, truth, mask):
    """Raise InputError unless a true displacement and its mask fit the grid."""
    if truth is None:
        return None, None
    truth = as_numbers(truth, "truth")
    shape = truth.shape[:-1] if frame is None else frame.shape
    if truth.shape != (*shape, len(shape)):
        raise InputError(
            f"truth: has the shape {truth.shape}; give vectors on the fixed grid,"
            f" {(*shape, len(shape))}"
        )
    if mask is None:
        return truth, None
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise InputError(
            f"truth_mask: has the shape {mask.shape}; give one of the fixed grid,"
            f" {shape}"
        )
    return truth, mask.astype(bool)


def _continued(transform, frame: Frame | None, images):
    """Return a transform that has values on the whole fixed grid."""
    if transform is None or frame is None:
        return transform
    name = images[1].name if images else "the transform"
    return continue_over(transform, frame, name)


def _evaluate(
    transform,
    continued,
    frame: Frame | None,
    landmarks,
    labels,
    similarity: Callable | None,
    moving_frame: Frame | None,
    truth,
    truth_mask,
) -> Measures:
    tre = snapped = overlap = None
    if landmarks is not None:
        fixed, moving = landmarks
        warped = fixed if transform is None else map_points(transform, fixed)
        tre = _landmark_errors(warped, moving)
        if moving_frame is not None:
            matrix, origin = moving_frame.matrix, moving_frame.origin
            snapped = _landmark_errors(snap_to_voxels(warped, matrix, origin), moving)
    if labels is not None:
        overlap = _overlap(transform, *labels)
    vectors = None
    if frame is not None and transform is not None:
        dtype = np.float32 if truth is None else np.float64
        vectors = sample_transform(continued, frame, dtype)
    jacobian = endpoint = None
    if frame is not None and vectors is not None:
        determinant = local_volume_change(frame, vectors)
        if determinant is not None:
            jacobian = jacobian_statistics(determinant)
    if truth is not None:
        found = np.zeros_like(truth) if vectors is None else vectors
        errors = endpoint_error(found, truth)
        inside = slice(None) if truth_mask is None else truth_mask
        endpoint = error_statistics(errors[inside].ravel())
    return Measures(
        tre=tre,
        tre_snapped=snapped,
        overlap=overlap,
        similarity=None if similarity is None else similarity(continued),
        jacobian=jacobian,
        endpoint=endpoint,
    )


def _landmark_errors(points, moving) -> ErrorStatistics:
    return error_statistics(registration_errors(points, moving), interval=True)


def _overlap(transform, fixed: Image, moving: Image) -> dict[int, LabelOverlap]:
    if transform is not None:
        transform = continue_over(transform, fixed.frame, moving.name)
    warped = resample(moving, fixed.frame, transform, interpolation="nearest")
    labels = labels_of(fixed.array, moving.array)
    return label_overlap(fixed.array, warped.array, fixed.frame.spacing[::-1], labels)
