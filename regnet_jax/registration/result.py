"""The result of a registration: where every point of the fixed image lies."""

import functools
from dataclasses import dataclass, field

import numpy as np

from regnet_jax.spatial import Frame, Image, composite, to_sitk, total_displacement


@dataclass(frozen=True, eq=False)
class Shown:
    """Where images show something, which padding and the outside do not.

    Attributes:
        fixed: ``[*frame.shape]`` bool, of the fixed image, on its own grid.
        before: the same of the moving image without any transform.
        after: the same of the moving image, warped.
    """

    fixed: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def unmatched(self) -> float:
        """The fraction of what the fixed image shows that the moving one does not."""
        return float(1.0 - self.after[self.fixed].mean())


@dataclass(frozen=True, eq=False)
class Registration:
    """Where every point of the fixed image lies in the moving image.

    The map is ``x -> A(x + r(x))`` with the affine ``A`` and the residual ``r``.

    Attributes:
        frame: the fixed image's own grid.
        affine: homogeneous ``[d + 1, d + 1]``, mm, x first.
        residual: ``[*frame.shape, d]`` vectors, mm, x first.
        warped: the moving image on the fixed grid, in the moving image's type.
        shown: where each image shows something, on the fixed grid.
        seconds: of each phase.
        parameters: what was asked for and, of ``auto`` and ``inverse_consistent``,
            what came of it.
    """

    frame: Frame
    affine: np.ndarray
    residual: np.ndarray
    warped: Image
    shown: Shown
    seconds: dict
    parameters: dict = field(default_factory=dict)

    @property
    def transform(self):
        """The SimpleITK transform from fixed points to moving points."""
        return composite(self.frame, self.residual, self.affine)

    @property
    def warped_sitk(self):
        """The moving image on the fixed grid, as a SimpleITK image."""
        return to_sitk(self.warped.array, self.warped.frame)

    @functools.cached_property
    def displacement(self) -> np.ndarray:
        """``[*frame.shape, d]`` vectors, mm, x first: affine and residual."""
        return total_displacement(self.frame, self.residual, self.affine)
