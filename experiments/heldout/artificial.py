"""Artificial pairs of held-out volumes, and the errors of networks on them."""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.heldout.volumes import Volume, cropped_shape
from regnet_jax import register
from regnet_jax.errors import InputError
from regnet_jax.evaluation import ErrorEstimate, endpoint_error, pair_errors
from regnet_jax.registration import Network
from regnet_jax.spatial import Image, displacement_from_world
from regnet_jax.synthesis import FAMILIES, ArtificialPair, artificial_pair
from regnet_jax.synthesis.fields.families import pick_family
from regnet_jax.synthesis.pairs import two_scans
from regnet_jax.synthesis.random import fold_in_text

# Axial slices are taken from the middle of a volume, of this fraction of its height.
_MIDDLE = 0.6
# Classes of true displacements, mm.
_SIZES = (0.0, 2.0, 5.0, 10.0, 20.0, np.inf)

BEFORE = "before"


class PlannedPair(NamedTuple):
    """One pair of a plan: its volume, its family, and how many like it came before."""

    volume: Volume
    family: str
    number: int


class Case(NamedTuple):
    """An artificial pair, and the voxels that errors are of.

    Attributes:
        planned: the pair in the plan.
        pair: of ``[*spatial, 1]`` images, and the displacement in voxels.
        regions: bool masks ``[*spatial]`` on the fixed grid, by name, of the voxels
            that both images show.
    """

    planned: PlannedPair
    pair: ArtificialPair
    regions: dict[str, np.ndarray]


def make_plan(
    volumes: Sequence[Volume], families: Sequence[str], count: int
) -> list[PlannedPair]:
    """Spread pairs over families and patients.

    Args:
        volumes: in any order, which does not matter.
        families: names in ``FAMILIES``.
        count: least number of pairs; it is rounded up to a multiple of the families.

    Returns:
        The pairs: every family has the same number; the numbers of any two patients
        differ by one at most, in all and in each family; and so do those of any two
        scans of a patient, in all.
    """
    scans: dict[str, list[Volume]] = {}
    for volume in sorted(volumes, key=lambda volume: volume.identity):
        scans.setdefault(volume.patient, []).append(volume)
    # Patients take turns, and so do the scans of each, throughout the families.
    turns = itertools.cycle([itertools.cycle(several) for several in scans.values()])
    used, plan = Counter(), []
    for family in families:
        for _ in range(-(-count // len(families))):
            volume = next(next(turns))
            plan.append(PlannedPair(volume, family, used[volume.identity, family]))
            used[volume.identity, family] += 1
    return plan


def make_cases(
    key,
    plan: Sequence[PlannedPair],
    *,
    spacing: float,
    d: int,
    crop: int = 0,
) -> Iterator[Case]:
    """Deform volumes by fields of families, and take both images by other scanners.

    Args:
        key: random key. A case is a function of the key, the identity of its volume,
            its family and its number, and not of the other cases.
        plan: from ``make_plan``.
        spacing: voxel size, mm.
        d: dimension of the pairs; 2 takes axial slices of volumes.
        crop: voxels along each axis of the random box that is cut from the volume
            before it is deformed; 0 for the whole volume.

    Yields:
        The cases.
    """
    families = tuple(dict.fromkeys(planned.family for planned in plan))
    for planned in plan:
        volume, family = planned.volume, planned.family
        one = fold_in_text(key, f"{volume.identity} {family} {planned.number}")
        cut_key, pair_key = jax.random.split(one)
        cut = _choose_box(cut_key, volume.image.shape, d, crop)
        how = {"families": families, "spacing": spacing}
        index = jnp.int32(families.index(family))
        pair = _make_pair(pair_key, volume.image[cut], index, **how)
        pair = jax.tree.map(np.asarray, pair)
        regions = {
            name: warp_mask(mask[cut], pair.displacement)
            for name, mask in volume.regions.items()
        }
        yield Case(planned, pair, regions)


@functools.partial(jax.jit, static_argnames=("families", "spacing"))
def _make_pair(key, image, index, *, families: tuple[str, ...], spacing: float):
    """Return the pair of the family of a number, taken by two scanners."""
    field_key, scan_key = jax.random.split(key)
    family = pick_family([FAMILIES[name] for name in families], index)
    image = image[..., None]
    pair = artificial_pair(field_key, image, family, spacing=spacing, noise=0.0)
    return two_scans(scan_key, pair, spacing=spacing)


def _choose_box(key, shape: Sequence[int], d: int, crop: int) -> tuple:
    """Return the index of a random box of a volume, or of an axial slice of it."""
    slice_key, box_key = jax.random.split(key)
    index = ()
    if len(shape) > d:
        place = 0.5 + _MIDDLE * (jax.random.uniform(slice_key) - 0.5)
        index, shape = (int(place * shape[0]),), shape[1:]
    box = cropped_shape(shape, crop)
    room = np.array(shape) - box
    starts = np.asarray(jax.random.randint(box_key, room.shape, 0, room + 1))
    sides = (slice(a, a + n) for a, n in zip(starts, box, strict=True))
    return *index, *sides


def warp_mask(mask: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Return the fixed voxels whose points lie in a mask of the moving image.

    Args:
        mask: bool, ``[*spatial]``.
        displacement: ``[*spatial, d]``, from fixed to moving, voxels.

    Returns:
        Bool, ``[*spatial]``; false where a point lies outside the moving image.
    """
    last = np.array(mask.shape) - 1
    points = np.moveaxis(np.indices(mask.shape), 0, -1) + displacement
    inside = ((points >= 0) & (points <= last)).all(axis=-1)
    nearest = np.clip(np.rint(points).astype(int), 0, last)
    return inside & mask[tuple(np.moveaxis(nearest, -1, 0))]


class Found(NamedTuple):
    """The result of a method for a case.

    Attributes:
        displacement: ``[*spatial, d]``, mm, in the order of the array's axes.
        errors: its estimated errors on the same grid; None without an estimate.
    """

    displacement: np.ndarray
    errors: ErrorEstimate | None = None


def register_case(
    case: Case, network: Network, spacing: float, refine: int, confidence: bool = False
) -> Found:
    """Register a case as ``experiments.register`` does, without linear alignment.

    Args:
        case: from ``make_cases``.
        network: of the case's dimension.
        spacing: voxel size of the case, mm.
        refine: steps of refinement.
        confidence: estimate the errors.

    Returns:
        The displacement, and the estimate.
    """
    images = [
        Image.from_array(image[..., 0], spacing, name=case.planned.volume.name)
        for image in (case.pair.fixed, case.pair.moving)
    ]
    options = {"refine": refine, "confidence": confidence}
    found = register(*images, network, initial="none", **options)
    frame, stated = images[0].frame, found.error_estimate
    field = spacing * displacement_from_world(frame, found.displacement)
    return Found(field, None if stated is None else stated.on(frame))


def measure_case(
    case: Case,
    methods: Mapping[str, Callable[[Case], Found]],
    spacing: float,
    compare: Callable | None = None,
) -> dict:
    """Measure methods on one case.

    Args:
        case: from ``make_cases``.
        methods: by name, each a function that returns what it finds of a case.
        spacing: voxel size of the case, mm.
        compare: ``compare(found, stated, regions)``, of errors and their estimate, as
            ``calibration.compare_errors``; None leaves these out.

    Returns:
        ``volume``, ``patient``, ``family``, ``number``; ``errors``: by method,
        ``before`` first, and by group of voxels the values of ``PairErrors``;
        ``calibration``: by method that estimates errors, what ``compare`` returns; and
        ``failed``: reason by method. A method that fails counts as the zero field.
        Groups are the regions and, within the body, classes of the true displacement;
        those without a voxel are left out.
    """
    truth = spacing * case.pair.displacement
    size = np.linalg.norm(truth, axis=-1)
    groups = dict(case.regions)
    for low, high in itertools.pairwise(_SIZES):
        inside = (size >= low) & (size < high)
        groups[size_name(low, high)] = case.regions["body"] & inside
    errors, failed, calibration = {}, {}, {}
    for name, method in {BEFORE: lambda _: Found(0 * truth), **methods}.items():
        try:
            field, stated = method(case)
        except InputError as error:
            field, stated, failed[name] = 0 * truth, None, str(error)
        found = endpoint_error(field, truth)
        if compare is not None and stated is not None:
            calibration[name] = compare(found, stated, case.regions)
        errors[name] = {
            group: asdict(pair_errors(found[mask], size[mask]))
            for group, mask in groups.items()
            if mask.any()
        }
    volume, family, number = case.planned
    of = {"volume": volume.name, "patient": volume.patient}
    of |= {"family": family, "number": number}
    return {**of, "errors": errors, "failed": failed, "calibration": calibration}


def size_name(low: float, high: float) -> str:
    """Return the name of a class of displacements."""
    return f"{low:g} to {high:g} mm" if high < np.inf else f"{low:g} mm and more"


REGIONS = ("body", "lung", "vessels", "uniform")
SIZES = tuple(itertools.starmap(size_name, itertools.pairwise(_SIZES)))
