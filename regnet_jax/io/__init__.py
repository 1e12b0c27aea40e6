"""Images, landmarks, transforms, their place in the world: the edge to files, ITK."""

from regnet_jax.io.arrays import as_array
from regnet_jax.io.ct import read_ct
from regnet_jax.io.dicom import split_series
from regnet_jax.io.exports import write_for_ants, write_for_elastix
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
from regnet_jax.io.images import (
    Image,
    as_image,
    check_pair,
    from_sitk,
    has_geometry,
    read_frame,
    read_image,
    to_sitk,
)
from regnet_jax.io.inversion import POINT_TOLERANCE, invert_on_grid, invert_points
from regnet_jax.io.json_text import strict_json
from regnet_jax.io.known import KnownPair, check_files, read_pair
from regnet_jax.io.labels import read_labels
from regnet_jax.io.landmarks import (
    POINT_SUFFIXES,
    read_landmarks,
    read_points,
    write_points,
)
from regnet_jax.io.manifests import read_manifest
from regnet_jax.io.mapping import (
    check_dimension,
    field_frame,
    map_points,
    sample_transform,
)
from regnet_jax.io.padding import fill_padding, find_padding
from regnet_jax.io.pairs import Pair, read_pairs
from regnet_jax.io.resampling import (
    as_mask,
    read_mask,
    resample,
    resample_field,
    where_shown,
)
from regnet_jax.io.transforms import (
    affine_matrix,
    affine_transform,
    composite,
    read_displacement,
    read_transform,
    total_displacement,
    write_displacement,
    write_transform,
)
from regnet_jax.io.warping import warp_image, warp_image_back
from regnet_jax.io.writing import (
    IMAGE_SUFFIXES,
    check_output,
    check_suffix,
    write_atomically,
    write_image,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "POINT_SUFFIXES",
    "POINT_TOLERANCE",
    "Frame",
    "Image",
    "KnownPair",
    "Pair",
    "affine_matrix",
    "affine_transform",
    "as_array",
    "as_image",
    "as_mask",
    "canonical_axes",
    "canonical_frame",
    "canonicalise",
    "check_dimension",
    "check_files",
    "check_output",
    "check_pair",
    "check_suffix",
    "composite",
    "displacement_from_world",
    "displacement_to_world",
    "field_frame",
    "fill_padding",
    "find_padding",
    "from_sitk",
    "has_geometry",
    "invert_on_grid",
    "invert_points",
    "isotropic_frame",
    "map_points",
    "read_ct",
    "read_displacement",
    "read_frame",
    "read_image",
    "read_labels",
    "read_landmarks",
    "read_manifest",
    "read_mask",
    "read_pair",
    "read_pairs",
    "read_points",
    "read_transform",
    "rebase",
    "resample",
    "resample_field",
    "sample_transform",
    "split_series",
    "staged_folder",
    "strict_json",
    "to_index",
    "to_sitk",
    "to_world",
    "total_displacement",
    "warp_image",
    "warp_image_back",
    "where_shown",
    "write_atomically",
    "write_displacement",
    "write_for_ants",
    "write_for_elastix",
    "write_image",
    "write_points",
    "write_transform",
]
