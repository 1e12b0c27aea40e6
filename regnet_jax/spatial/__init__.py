"""World coordinates in mm: frames, images, resampling, transforms, warping."""

from regnet_jax.spatial.frames import (
    Frame,
    canonical_axes,
    canonical_frame,
    canonicalise,
    displacement_from_world,
    displacement_to_world,
    is_outside,
    isotropic_frame,
    rebase,
    split_frame,
    to_index,
    to_world,
)
from regnet_jax.spatial.images import Image, as_array, check_pair, from_sitk, to_sitk
from regnet_jax.spatial.inversion import (
    POINT_TOLERANCE,
    invert_on_grid,
    invert_onto,
    invert_points,
    invert_transform,
)
from regnet_jax.spatial.padding import fill_padding, find_padding
from regnet_jax.spatial.resampling import (
    as_mask,
    average,
    resample,
    resample_field,
    to_isotropic,
    where_shown,
)
from regnet_jax.spatial.sampling import continued_map, leaves_grid
from regnet_jax.spatial.transforms import (
    affine_transform,
    check_dimension,
    composite,
    field_frame,
    map_points,
    sample_transform,
    total_displacement,
)
from regnet_jax.spatial.warping import warp_image, warp_images, warp_images_back

__all__ = [
    "POINT_TOLERANCE",
    "Frame",
    "Image",
    "affine_transform",
    "as_array",
    "as_mask",
    "average",
    "canonical_axes",
    "canonical_frame",
    "canonicalise",
    "check_dimension",
    "check_pair",
    "composite",
    "continued_map",
    "displacement_from_world",
    "displacement_to_world",
    "field_frame",
    "fill_padding",
    "find_padding",
    "from_sitk",
    "invert_on_grid",
    "invert_onto",
    "invert_points",
    "invert_transform",
    "is_outside",
    "isotropic_frame",
    "leaves_grid",
    "map_points",
    "rebase",
    "resample",
    "resample_field",
    "sample_transform",
    "split_frame",
    "to_index",
    "to_isotropic",
    "to_sitk",
    "to_world",
    "total_displacement",
    "warp_image",
    "warp_images",
    "warp_images_back",
    "where_shown",
]
