"""Artificial pairs of held-out volumes, and the errors of a network on them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from regnet_jax import register
from regnet_jax.errors import InputError
from regnet_jax.evaluation import endpoint_error, error_statistics, sample_deviation
from regnet_jax.hounsfield import AIR, body_mask
from regnet_jax.io import read_ct, read_frame
from regnet_jax.registration import Network
from regnet_jax.spatial import (
    Image,
    displacement_from_world,
    to_isotropic,
)
from regnet_jax.synthesis import FAMILIES, ArtificialPair, artificial_pair
from regnet_jax.synthesis.fields.families import has_room, pick_family
from regnet_jax.synthesis.pairs import add_noise

# Sigma of the noise on both images, HU.
_NOISE = 10.0
# Axial slices are taken from the middle of a volume, of this fraction of its height.
_MIDDLE = 0.6


class Case(NamedTuple):
    """An artificial pair, and the names of its volume and its family."""

    volume: str
    family: str
    pair: ArtificialPair


def read_volumes(paths: Sequence[Path], spacing: float, dimensions: int) -> dict:
    """Read scans in canonical orientation at one voxel size.

    Args:
        paths: of the images; 3D images are allowed for a 2D network.
        spacing: voxel size, mm.
        dimensions: of the network.

    Returns:
        ``{name: [*spatial]}``, HU; the name is that of the file, or its path if several
        files have the same name.

    Raises:
        InputError: if a volume cannot be read, has no Hounsfield units, or is 2D for a
            3D network.
    """
    for path in paths:
        # Check all headers before any volume is read.
        if (ndim := read_frame(path).ndim) < dimensions:
            raise InputError(
                f"{path}: is {ndim}D and the network {dimensions}D; take it out of"
                " --volumes"
            )
    volumes, names = {}, [path.name for path in paths]
    for path in tqdm(paths, "reading scans", leave=False):
        image = read_ct(path)
        array = to_isotropic(image, spacing).array
        name = path.name if names.count(path.name) == 1 else str(path)
        volumes[name] = np.maximum(array, AIR)
    return volumes


def check_room(
    volumes: dict, families: Sequence[str], *, spacing: float, d: int, crop: int = 0
):
    """Refuse volumes that are too small for the fields of a family.

    Args:
        volumes: from ``read_volumes``.
        families: names in ``FAMILIES``.
        spacing: voxel size, mm.
        d: dimension of the pairs.
        crop: as in ``make_cases``.

    Raises:
        InputError: names the volume and the family.
    """
    for name, volume in volumes.items():
        shape = cropped_shape(volume.shape[-d:], crop)
        for family in families:
            if has_room(FAMILIES[family], shape, spacing=spacing) is False:
                raise InputError(
                    f"{name}: has no room for a field of the family {family} at"
                    f" {spacing:g} mm; take it out of --volumes, or choose --families"
                )


def cropped_shape(shape: Sequence[int], crop: int) -> tuple[int, ...]:
    """Return the shape of a crop: at most so many voxels along each axis; 0 for all."""
    return tuple(min(n, crop) if crop else n for n in shape)


def make_cases(
    key,
    volumes: dict,
    families: Sequence[str],
    count: int,
    *,
    spacing: float,
    d: int,
    crop: int = 0,
) -> Iterator[Case]:
    """Deform volumes by fields of all families in turn, with noise on both images.

    Args:
        key: random key; a case is a function of the key and of the index of the case.
        volumes: from ``read_volumes``.
        families: names in ``FAMILIES``; over many cases each deforms every volume.
        count: number of cases.
        spacing: voxel size, mm.
        d: dimension of the pairs; 2 takes axial slices of volumes.
        crop: voxels along each axis of the random box that is cut from the volume
            before it is deformed; 0 for the whole volume.

    Yields:
        The cases.
    """
    choices = [FAMILIES[name] for name in families]

    @jax.jit
    def make_pair(key, volume, number):
        field_key, noise_key = jax.random.split(key)
        family = pick_family(choices, number)
        noise = {"spacing": spacing, "noise": _NOISE}
        pair = artificial_pair(field_key, volume[..., None], family, **noise)
        return pair._replace(moving=add_noise(noise_key, pair.moving, _NOISE))

    names = list(volumes)
    for index in range(count):
        turn, number = divmod(index, len(families))
        name = names[(index + turn) % len(names)]
        slice_key, pair_key = jax.random.split(jax.random.fold_in(key, index))
        volume = volumes[name]
        if volume.ndim > d:
            place = 0.5 + _MIDDLE * (jax.random.uniform(slice_key) - 0.5)
            volume = volume[int(place * len(volume))]
        volume = _cut(jax.random.fold_in(slice_key, 1), volume, crop)
        pair = make_pair(pair_key, volume, jnp.int32(number))
        yield Case(name, families[number], jax.tree.map(np.asarray, pair))


def _cut(key, volume: np.ndarray, crop: int) -> np.ndarray:
    """Return a random box of a volume."""
    shape = cropped_shape(volume.shape, crop)
    room = np.array(volume.shape) - shape
    starts = np.asarray(jax.random.randint(key, room.shape, 0, room + 1))
    return volume[tuple(slice(a, a + n) for a, n in zip(starts, shape, strict=True))]


def visible_body(pair: ArtificialPair) -> np.ndarray:
    """Return the voxels of the fixed body whose points lie in the moving image."""
    u = pair.displacement
    points = np.moveaxis(np.indices(u.shape[:-1]), 0, -1) + u
    inside = ((points >= 0) & (points <= np.array(u.shape[:-1]) - 1)).all(axis=-1)
    return inside & body_mask(pair.fixed[..., 0])


def assess(case: Case, network: Network, spacing: float, steps: Sequence[int]) -> dict:
    """Register one case as ``experiments.register`` does, without linear alignment.

    Args:
        case: from ``make_cases``.
        network: of the case's dimension.
        spacing: voxel size of the case, mm.
        steps: numbers of refinement steps; the case is registered with each of them.

    Returns:
        ``volume``, ``family`` and ``errors``: statistics of the endpoint errors (mm)
        over the visible body for ``before``, ``network`` and ``refined``.
    """
    truth, mask = spacing * case.pair.displacement, visible_body(case.pair)
    images = [
        Image.from_array(image[..., 0], spacing, name=case.volume)
        for image in (case.pair.fixed, case.pair.moving)
    ]
    fields = {"before": np.zeros_like(truth)}
    for count in steps:
        found = register(*images, network, initial="none", refine=count)
        voxels = displacement_from_world(images[0].frame, found.displacement)
        fields["network" if not count else "refined"] = spacing * voxels
    errors = {
        name: error_statistics(endpoint_error(field, truth)[mask]).to_dict()
        for name, field in fields.items()
    }
    return {"volume": case.volume, "family": case.family, "errors": errors}


def summarise(rows: Sequence[dict]) -> dict:
    """Summarise the errors of pairs, also as fractions of the errors before.

    Args:
        rows: from ``assess``.

    Returns:
        By method: ``n``, ``mean`` and ``sd`` (of a sample) of the pairs' mean errors
        (mm), the mean ``p95`` of their 95th percentiles, and ``ratio`` and
        ``p95_ratio``, the fractions that ``mean`` and ``p95`` are of those before (None
        where nothing moves).
    """
    result = {}
    for method in rows[0]["errors"]:
        means, tails = (
            np.array([row["errors"][method][name] for row in rows])
            for name in ("mean", "p95")
        )
        result[method] = {
            "n": len(rows),
            "mean": float(means.mean()),
            "sd": sample_deviation(means),
            "p95": float(tails.mean()),
        }
    before = result["before"]
    for values in result.values():
        for name, ratio in (("mean", "ratio"), ("p95", "p95_ratio")):
            values[ratio] = values[name] / before[name] if before[name] else None
    return result
