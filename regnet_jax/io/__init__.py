"""Files: images, landmarks, lists of scans and of pairs, transforms."""

from regnet_jax.io.dicom import split_series
from regnet_jax.io.displacements import read_displacement, write_displacement
from regnet_jax.io.elastix import write_for_elastix
from regnet_jax.io.images import (
    IMAGE_SUFFIXES,
    as_image,
    has_geometry,
    read_ct,
    read_frame,
    read_image,
    read_labels,
    read_mask,
    write_image,
)
from regnet_jax.io.landmarks import (
    COORDINATES,
    POINT_SUFFIXES,
    read_landmarks,
    read_points,
    write_points,
)
from regnet_jax.io.manifests import (
    ROLES,
    ListedScan,
    checksum,
    read_manifest,
    read_scans,
    write_scans,
)
from regnet_jax.io.pairs import (
    LoadedPair,
    PairPaths,
    check_files,
    read_pair,
    read_pairs,
)
from regnet_jax.io.search import find_images
from regnet_jax.io.transforms import (
    affine_matrix,
    grid_of,
    read_links,
    read_transform,
    split_transforms,
    transform_files,
    write_for_ants,
    write_transform,
)
from regnet_jax.spatial.frames import Frame
from regnet_jax.spatial.images import Image

__all__ = [
    "COORDINATES",
    "IMAGE_SUFFIXES",
    "POINT_SUFFIXES",
    "ROLES",
    "Frame",
    "Image",
    "ListedScan",
    "LoadedPair",
    "PairPaths",
    "affine_matrix",
    "as_image",
    "check_files",
    "checksum",
    "find_images",
    "grid_of",
    "has_geometry",
    "read_ct",
    "read_displacement",
    "read_frame",
    "read_image",
    "read_labels",
    "read_landmarks",
    "read_links",
    "read_manifest",
    "read_mask",
    "read_pair",
    "read_pairs",
    "read_points",
    "read_scans",
    "read_transform",
    "split_series",
    "split_transforms",
    "transform_files",
    "write_displacement",
    "write_for_ants",
    "write_for_elastix",
    "write_image",
    "write_points",
    "write_scans",
    "write_transform",
]
