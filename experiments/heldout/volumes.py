"""Held-out scans as volumes at one voxel size, with the regions that errors are of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import body_mask, lung_mask, vessel_mask
from regnet_jax.io import ListedScan, checksum, read_ct, read_frame
from regnet_jax.spatial import to_isotropic
from regnet_jax.synthesis import FAMILIES
from regnet_jax.synthesis.fields.families import has_room
from regnet_jax.synthesis.volumes.anatomy import anatomy

# Tissue is uniform where values within so many mm vary by a smaller sd, HU.
_SURROUNDINGS, _UNIFORM = 10.0, 20.0


@dataclass(frozen=True)
class Volume:
    """A volume that pairs are made of.

    Attributes:
        name: for the results.
        patient: whose scan it is.
        identity: what its fields depend on, such as its checksum.
        image: ``[*spatial]``, HU; the anatomy alone, without noise of its own.
        regions: bool masks ``[*spatial]`` by name: ``body``; where there are lungs
            ``lung`` with the vessels in it, and ``vessels``; and ``uniform``, tissue
            outside the lungs that shows no structure.
    """

    name: str
    patient: str
    identity: str
    image: np.ndarray
    regions: dict[str, np.ndarray]


def make_volume(
    name: str, image: np.ndarray, spacing: float, *, patient: str, identity: str
) -> Volume:
    """Return a volume with its regions.

    Args:
        name: for the results.
        image: ``[*spatial]``, HU, in canonical orientation.
        spacing: voxel size, mm.
        patient: whose scan it is.
        identity: what its fields depend on.

    Returns:
        The volume.
    """
    sizes = (spacing,) * image.ndim
    regions = {"body": body_mask(image)}
    lungs = lung_mask(image, sizes)
    if lungs.any():
        vessels = vessel_mask(image, lungs, sizes)
        lungs = lungs | vessels
        regions |= {"lung": lungs, "vessels": vessels}
    regions["uniform"] = regions["body"] & ~lungs & uniform_mask(image, spacing)
    return Volume(name, patient, identity, image, regions)


def uniform_mask(image: np.ndarray, spacing: float) -> np.ndarray:
    """Find the voxels whose surroundings vary by less than 20 HU (standard deviation).

    The surroundings are a cube of about 10 mm, of an odd number of voxels, 3 at least.

    Args:
        image: ``[*spatial]``, HU, without noise.
        spacing: voxel size, mm.

    Returns:
        Bool, ``[*spatial]``.
    """
    size = 2 * max(1, round(_SURROUNDINGS / 2 / spacing)) + 1
    # Differences from one value, since squares of HU lose digits.
    values = np.asarray(image, np.float64) - np.mean(image)
    mean = ndimage.uniform_filter(values, size)
    return ndimage.uniform_filter(values**2, size) - mean**2 < _UNIFORM**2


def read_held_out(
    scans: Sequence[ListedScan], spacing: float, dimensions: int
) -> list[Volume]:
    """Read scans in canonical orientation at one voxel size.

    Args:
        scans: 3D images are allowed for a 2D network. Without a patient each is taken
            for a patient of its own.
        spacing: voxel size, mm.
        dimensions: of the network.

    Returns:
        The volumes in the order of the list. Their names are those of the files, or
        the paths if several files have the same name; their identities are checksums.

    Raises:
        InputError: if a scan cannot be read, has no Hounsfield units, is 2D for a 3D
            network, or is there twice.
    """
    for scan in scans:
        # Check all headers before any volume is read.
        if (ndim := read_frame(scan.path).ndim) < dimensions:
            raise InputError(
                f"{scan.path}: is {ndim}D and the network {dimensions}D; take it out of"
                " --volumes"
            )
    names = [scan.path.name for scan in scans]
    identities = [scan.sha256 or checksum(scan.path) for scan in scans]
    for index, identity in enumerate(identities):
        if (first := identities.index(identity)) < index:
            raise InputError(
                f"{scans[index].path}: is the same scan as {scans[first].path}; list"
                " each scan once"
            )
    volumes = []
    known = zip(scans, identities, strict=True)
    for scan, identity in tqdm(known, "reading scans", len(scans), leave=False):
        array = to_isotropic(read_ct(scan.path), spacing).array
        array = anatomy(array, spacing=spacing)
        name = scan.path.name
        name = name if names.count(name) == 1 else str(scan.path)
        patient = scan.patient or name
        how = {"patient": patient, "identity": identity}
        volumes.append(make_volume(name, array, spacing, **how))
    return volumes


def check_room(
    volumes: Sequence[Volume],
    families: Sequence[str],
    *,
    spacing: float,
    d: int,
    crop: int = 0,
):
    """Refuse volumes that are too small for the fields of a family.

    Args:
        volumes: to be deformed.
        families: names in ``FAMILIES``.
        spacing: voxel size, mm.
        d: dimension of the pairs.
        crop: as for ``cropped_shape``.

    Raises:
        InputError: names the volume and the family.
    """
    for volume in volumes:
        shape = cropped_shape(volume.image.shape[-d:], crop)
        for family in families:
            if has_room(FAMILIES[family], shape, spacing=spacing) is False:
                raise InputError(
                    f"{volume.name}: has no room for a field of the family {family} at"
                    f" {spacing:g} mm; take it out of --volumes, or choose --families"
                )


def cropped_shape(shape: Sequence[int], crop: int) -> tuple[int, ...]:
    """Return the shape of a crop: at most so many voxels along each axis; 0 for all."""
    return tuple(min(n, crop) if crop else n for n in shape)
