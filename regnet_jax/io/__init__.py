"""Images, transforms and their place in the world: the edge to files and ITK."""

from regnet_jax.io.folders import staged_folder
from regnet_jax.io.frames import (
    Frame,
    canonical_axes,
    canonical_frame,
    canonicalise,
    displacement_from_world,
    displacement_to_world,
    isotropic_frame,
    rebase,
    to_index,
    to_world,
)
from regnet_jax.io.images import Image, check_pair, from_sitk, read_image, to_sitk
from regnet_jax.io.resampling import read_mask, resample, resample_field
from regnet_jax.io.transforms import (
    affine_matrix,
    affine_transform,
    composite,
    read_transform,
    total_displacement,
    write_displacement,
    write_transform,
)
from regnet_jax.io.writing import write_atomically, write_image

__all__ = [
    "Frame",
    "Image",
    "affine_matrix",
    "affine_transform",
    "canonical_axes",
    "canonical_frame",
    "canonicalise",
    "check_pair",
    "composite",
    "displacement_from_world",
    "displacement_to_world",
    "from_sitk",
    "isotropic_frame",
    "read_image",
    "read_mask",
    "read_transform",
    "rebase",
    "resample",
    "resample_field",
    "staged_folder",
    "to_index",
    "to_sitk",
    "to_world",
    "total_displacement",
    "write_atomically",
    "write_displacement",
    "write_image",
    "write_transform",
]
