"""Held-out volumes, artificially deformed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.io import canonicalise, isotropic_frame, read_ct, read_frame, resample
from regnet_jax.synthesis import FAMILIES, ArtificialPair, artificial_pair
from regnet_jax.synthesis.families import has_room, pick_family
from regnet_jax.synthesis.pairs import add_noise

# Sigma of the noise on both images, HU.
_NOISE = 10.0
# Axial slices are taken from this part of a volume about its middle.
_MIDDLE = 0.6


class Case(NamedTuple):
    """An artificial pair and what it was made of."""

    volume: str
    family: str
    pair: ArtificialPair


def read_volumes(paths: Sequence[Path], spacing: float, dimensions: int) -> dict:
    """Scans in canonical orientation at one voxel size.

    Args:
        paths: of the images; 3D ones give slices where 2D is wanted.
        spacing: voxel size, mm.
        dimensions: of the network.

    Returns:
        ``{name: [*spatial]}``, HU; the name is that of the file, or the path where
        several have that name.

    Raises:
        InputError: if a volume cannot be read, has no Hounsfield units, or is 2D where
            3D is wanted.
    """
    for path in paths:
        # All headers before the first volume is read.
        if (ndim := read_frame(path).ndim) < dimensions:
            raise InputError(
                f"{path}: is {ndim}D and the network {dimensions}D; take it out of"
                " --volumes"
            )
    volumes, names = {}, [path.name for path in paths]
    for path in tqdm(paths, "reading scans", leave=False):
        image = read_ct(path)
        _, frame = canonicalise(image.array, image.frame)
        array = resample(image, isotropic_frame(frame, spacing)).array
        name = path.name if names.count(path.name) == 1 else str(path)
        volumes[name] = np.maximum(array, AIR)
    return volumes


def check_room(volumes: dict, families: Sequence[str], *, spacing: float, d: int):
    """Refuses volumes in which a family never finds anything to move.

    Args:
        volumes: from ``read_volumes``.
        families: names in ``FAMILIES``.
        spacing: voxel size, mm.
        d: dimension of the pairs.

    Raises:
        InputError: names the volume and the family.
    """
    for name, volume in volumes.items():
        shape = volume.shape[-d:]
        for family in families:
            if has_room(FAMILIES[family], shape, spacing=spacing) is False:
                raise InputError(
                    f"{name}: has no room for a field of the family {family} at"
                    f" {spacing:g} mm; take it out of --volumes, or choose --families"
                )


def make_cases(
    key, volumes: dict, families: Sequence[str], count: int, *, spacing: float, d: int
) -> Iterator[Case]:
    """Deforms volumes by fields of all families in turn, with noise on both images.

    Args:
        key: random key; a case is a function of it and of the case's number.
        volumes: from ``read_volumes``.
        families: names in ``FAMILIES``, each on every volume in the long run.
        count: cases.
        spacing: voxel size, mm.
        d: dimension of the pairs; 2 takes axial slices of volumes.

    Yields:
        The cases.
    """
    choices = [FAMILIES[name] for name in families]

    @jax.jit
    def draw(key, volume, number):
        pair_key, noise_key = jax.random.split(key)
        family = pick_family(choices, number)
        noise = {"spacing": spacing, "noise": _NOISE}
        pair = artificial_pair(pair_key, volume[..., None], family, **noise)
        return pair._replace(moving=add_noise(noise_key, pair.moving, _NOISE))

    names = list(volumes)
    for index in range(count):
        turn, number = divmod(index, len(families))
        name = names[(index + turn) % len(names)]
        slice_key, draw_key = jax.random.split(jax.random.fold_in(key, index))
        volume = volumes[name]
        if volume.ndim > d:
            place = 0.5 + _MIDDLE * (jax.random.uniform(slice_key) - 0.5)
            volume = volume[int(place * len(volume))]
        pair = draw(draw_key, volume, jnp.int32(number))
        yield Case(name, families[number], jax.tree.map(np.asarray, pair))
