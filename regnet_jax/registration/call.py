"""The one call for images at hand: ``regnet_jax.register``."""

import numpy as np

from regnet_jax.io import Image, affine_matrix, as_image, as_mask
from regnet_jax.registration.network import Network, load_network
from regnet_jax.registration.register import Registration
from regnet_jax.registration.register import register as register_images


def register(
    fixed,
    moving,
    *,
    model: str | Network = "lung",
    initial="affine",
    fixed_mask=None,
    moving_mask=None,
    intensity: str = "auto",
    inverse_consistent: bool = False,
    refine: int = 0,
    memory: float | None = None,
    voxel_size: float | None = None,
    progress: bool = False,
) -> Registration:
    """Registers a moving to a fixed image.

    Images and masks are SimpleITK images, paths, or arrays with their geometry
    (``regnet_jax.io.Image``).

    Args:
        fixed: the image that stays.
        moving: the image that is warped; any grid.
        model: a network that ships, the folder of a training run, or a ``Network``
            that was loaded before.
        initial: ``none``, ``center``, ``moments``, ``rigid`` or ``affine``; or a
            linear SimpleITK transform, or a homogeneous matrix (mm, x first), from
            fixed to moving points.
        fixed_mask: restricts the linear alignment to what is not zero.
        moving_mask: the same for the moving image.
        intensity: ``auto``, ``ct``, ``mr``, ``none`` or percentiles ``LOW,HIGH``.
        inverse_consistent: go both ways and take the field half way between.
        refine: steps of descent from the network's answer.
        memory: the most that the process should hold while it predicts, GiB.
        voxel_size: of the isotropic grid that is worked on, mm; None takes the
            network's own or, where the images are too small or too large for a human
            body, one that gives them as many voxels as a chest has.
        progress: show bars.

    Returns:
        The registration: ``transform`` maps fixed points to moving points,
        ``warped_sitk`` is the moving image on the fixed grid, ``displacement`` the
        vectors there (mm).

    Raises:
        InputError: if the images cannot be used or do not fit the network.
    """
    fixed, moving = as_image(fixed, "fixed"), as_image(moving, "moving")
    if not isinstance(initial, str | np.ndarray):
        initial = affine_matrix(initial, fixed.frame.ndim)
    return register_images(
        fixed,
        moving,
        model if isinstance(model, Network) else load_network(model),
        initial=initial,
        fixed_mask=_mask(fixed_mask, "fixed_mask", fixed),
        moving_mask=_mask(moving_mask, "moving_mask", moving),
        intensity=intensity,
        inverse_consistent=inverse_consistent,
        refine=refine,
        memory=memory,
        voxel_size=voxel_size,
        progress=progress,
    )


def _mask(mask, name: str, image: Image) -> Image | None:
    """A mask on the grid of its image, whatever it is given as."""
    return None if mask is None else as_mask(as_image(mask, name), image.frame)
