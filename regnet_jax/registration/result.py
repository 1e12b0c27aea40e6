"""The result of a registration: where every point of the fixed image lies."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regnet_jax.evaluation import (
    ErrorEstimate,
    Measures,
    Ventilation,
    local_volume_change,
    ventilation,
)
from regnet_jax.registration.maps import check_maps
from regnet_jax.spatial import (
    Frame,
    Image,
    composite,
    invert_onto,
    sample_transform,
    to_sitk,
)

if TYPE_CHECKING:
    from regnet_jax.reporting.schema import RegistrationReport


@dataclass(frozen=True, eq=False)
class Shown:
    """Masks of the voxels that are compared.

    They show anatomy, not padding or the outside of an image, and are not ignored.

    Attributes:
        fixed: ``[*frame.shape]`` bool, of the fixed image, on its own grid.
        before: the same of the moving image without any transform.
        after: the same of the moving image, warped.
        matched: where the moving image, warped, shows something, ignored or not; None
            is ``after``.
    """

    fixed: np.ndarray
    before: np.ndarray
    after: np.ndarray
    matched: np.ndarray | None = None

    @property
    def unmatched(self) -> float:
        """Fraction of ``fixed`` at which the moving image, warped, shows nothing."""
        matched = self.after if self.matched is None else self.matched
        return float(1.0 - matched[self.fixed].mean())


@dataclass(frozen=True, eq=False)
class Registration:
    """Where every point of the fixed image lies in the moving image.

    The map is ``x -> A(x + r(x))`` with the affine ``A`` and the residual ``r``.

    Attributes:
        fixed: the image that keeps its place.
        moving: the image that is warped.
        affine: homogeneous ``[d + 1, d + 1]``, mm, x first.
        residual: ``[*grid.shape, d]`` vectors, mm, x first; linear between them.
        grid: where they lie, usually the isotropic grid of the network.
        warped: the moving image on the fixed grid, in the moving image's type.
        shown: where each image shows something, on the fixed grid.
        seconds: duration of each phase.
        parameters: the options of the registration, with the intensity preset and the
            voxel size that were used and, if it is inverse consistent, the disagreement
            of the two directions.
        notices: warnings about defaults that were chosen for the user, and the logged
            ones.
        error_estimate: of every voxel of the working grid, which the option
            ``confidence`` asks for; or None. ``error_estimate.on(result.frame)`` is
            that on the fixed grid.
    """

    fixed: Image
    moving: Image
    affine: np.ndarray
    residual: np.ndarray
    grid: Frame
    warped: Image
    shown: Shown
    seconds: dict
    parameters: dict = dataclasses.field(default_factory=dict)
    notices: tuple[str, ...] = ()
    error_estimate: ErrorEstimate | None = None

    @property
    def frame(self) -> Frame:
        """The fixed image's own grid."""
        return self.fixed.frame

    @functools.cached_property
    def transform(self):
        """The SimpleITK transform from fixed points to moving points."""
        return composite(self.grid, self.residual, self.affine)

    @property
    def warped_sitk(self):
        """The moving image on the fixed grid, as a SimpleITK image."""
        return to_sitk(self.warped.array, self.warped.frame)

    @functools.cached_property
    def displacement(self) -> np.ndarray:
        """``[*frame.shape, d]`` float32 vectors, mm, x first: affine and residual."""
        return sample_transform(self.transform, self.frame, np.float32)

    @functools.cached_property
    def jacobian(self) -> np.ndarray | None:
        """``[*frame.shape]`` determinant of the Jacobian of the transform.

        It is the local volume in the moving image divided by that in the fixed image;
        zero or negative where the transform folds. None where an axis has a single
        voxel.
        """
        return local_volume_change(self.frame, self.displacement)

    def inverse(self, *, progress: bool = False):
        """Return the SimpleITK transform from moving points to fixed points.

        Where the transform folds, it has no inverse and the closest point that was
        found is used. Outside of the moving image, the inverse of the linear alignment
        is used.

        Args:
            progress: show a progress bar.

        Raises:
            InputError: if the transform has no inverse anywhere.
        """
        return invert_onto(
            self.transform,
            self.grid,
            self.moving.frame,
            self.affine,
            progress=progress,
        )

    def ventilation(self) -> Ventilation:
        """Return the ventilation of the lungs between two chest CTs.

        See ``evaluation.ventilation``, which gives the formulas and their sources.

        Returns:
            Maps on the fixed grid, of the change from the fixed to the moving image.

        Raises:
            InputError: unless both images show lungs in Hounsfield units.
        """
        check_maps(("ventilation",), self.frame, self.fixed.name)
        assert self.jacobian is not None
        return ventilation(self.fixed, self.moving, self.transform, self.jacobian)

    def evaluate(self, *, landmarks=None, labels=None) -> Measures:
        """Measure the registration by known landmarks and labels of the pair.

        Args:
            landmarks: fixed and moving points ``[n, d]``, mm, x first, that correspond;
                or the paths of two files.
            labels: fixed and moving label map, each given as an image is to
                ``regnet_jax.register``.

        Returns:
            The measures of landmarks, labels and the Jacobian, as far as they are
            given and can be measured.

        Raises:
            InputError: if a file cannot be read, or does not fit the images.
        """
        from regnet_jax.registration.saving import evaluate_registration

        return evaluate_registration(self, landmarks, labels)

    def report(self, *, landmarks=None, labels=None) -> "RegistrationReport":
        """Build the report, whose ``to_json()`` is the content of ``report.json``.

        Args:
            landmarks: as for ``evaluate``.
            labels: as for ``evaluate``.

        Returns:
            Times, similarity before and after, Jacobian, parameters, versions and
            warnings, and the measures of ``evaluate``.
        """
        from regnet_jax.registration.saving import make_report

        return make_report(self, landmarks, labels)

    def save(
        self,
        folder,
        formats: Collection[str] = (),
        report: bool = True,
        *,
        landmarks=None,
        labels=None,
        request: Mapping | None = None,
    ) -> "RegistrationReport":
        """Write the files of the registration, atomically.

        These are ``warped.nii.gz``, ``displacement.nii.gz`` (mm, ITK vectors on the
        fixed grid), ``transform.h5``, ``report.json`` and ``report.html``; and
        ``confidence.nii.gz`` (mm) where errors were estimated.

        Args:
            folder: of the files; it is made if it does not exist, and other files in it
                are kept.
            formats: what to write beside them: ``ants`` and ``elastix`` the files that
                these tools read; ``inverse`` the inverse as ``inverse_transform.h5``
                and ``inverse_displacement.nii.gz``, on the moving grid; ``jacobian``
                its determinant as ``jacobian.nii.gz``; ``ventilation`` the maps of
                ``ventilation()`` as ``ventilation_jacobian.nii.gz`` and
                ``ventilation_hu.nii.gz``.
            report: write ``report.html`` with its pictures, which take some seconds.
            landmarks: as for ``evaluate``, for the report.
            labels: as for ``evaluate``, for the report.
            request: more of the request for the report, such as paths.

        Returns:
            The report.

        Raises:
            InputError: if the folder cannot be written, or there is no such format or
                none of these images.
        """
        from regnet_jax.registration.saving import save_registration

        return save_registration(
            self,
            folder,
            formats,
            report=report,
            landmarks=landmarks,
            labels=labels,
            request=request,
        )
