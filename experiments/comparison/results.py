"""Run the methods on a pair, or take their records, and measure all alike."""

import functools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.comparison.measures import (
    Measured,
    find_regions,
    flatten,
    measure,
    read_truth,
)
from experiments.comparison.methods import BEFORE, Variant, version
from experiments.comparison.network import network_of
from experiments.comparison.records import (
    describe_run,
    make_folder,
    read_record,
    write_record,
)
from experiments.comparison.runs import Options, read_field, run_method
from regnet_jax.errors import InputError
from regnet_jax.files import write_atomically
from regnet_jax.io import LoadedPair, PairPaths, checksum, read_frame, read_pair
from regnet_jax.reporting import View, differences_figure
from regnet_jax.spatial import (
    canonicalise,
    check_pair,
    composite,
    warn_if_same,
    warp_image,
)


class Subject(NamedTuple):
    """A pair, and all that its registrations are measured with.

    Attributes:
        paths: of the pair.
        known: its images, landmarks and label maps.
        truth: displacement ``[*fixed, d]``, mm, x first, or None.
        regions: from ``find_regions``; empty without a truth.
        files: checksum by column of the list of pairs.
        plane: index of the coronal plane that is drawn; None in 2D.
    """

    paths: PairPaths
    known: LoadedPair
    truth: np.ndarray | None
    regions: dict[str, np.ndarray]
    files: dict[str, str]
    plane: int | None

    @property
    def zero(self) -> np.ndarray:
        """The displacement of no registration."""
        frame = self.known.fixed.frame
        return np.zeros((*frame.shape, frame.ndim))

    def measure(self, field: np.ndarray) -> Measured:
        """Measure a displacement, see ``measure``."""
        return measure(self.known, self.truth, self.regions, field)

    def draw(self, field: np.ndarray) -> np.ndarray:
        """Return what is drawn of the moving image as a displacement warps it."""
        return _cut(_warped(self.known, field), self.plane)


def read_subject(pair: PairPaths) -> Subject:
    """Read a pair, and find where its registrations are measured.

    Args:
        pair: its paths.

    Raises:
        InputError: if a file cannot be used.
    """
    known = read_pair(pair)
    check_pair(known.fixed, known.moving)
    warn_if_same(known.fixed, known.moving)
    frame = known.fixed.frame
    truth = read_truth(pair, frame)
    regions = {} if truth is None else find_regions(known, truth)
    files = {name: checksum(path) for name, path in pair.files.items()}
    subject = Subject(pair, known, truth, regions, files, None)
    if frame.ndim == 3:
        fixed, canonical = canonicalise(known.fixed.array, frame)
        view = View(canonical.spacing[::-1]).resolve(fixed, subject.draw(subject.zero))
        subject = subject._replace(plane=view.planes(fixed.shape)[1].index)
    return subject


class Compared(NamedTuple):
    """The results of all methods on a pair, or on several.

    Attributes:
        rows: ``pair``, ``patient``, ``method``, ``values`` by column; for methods also
            ``measures``, ``notes`` and ``reused``, whether an earlier run did it.
        failures: ``pair``, ``method`` and ``reason`` of each failure.
        figure: fixed minus warped image of each method on the first pair; None where
            no pair could be used.
        reused: number of registrations of an earlier run.
    """

    rows: list[dict]
    failures: list[dict]
    figure: Figure | None
    reused: int


def compare_pairs(
    pairs: Iterable[PairPaths],
    variants: Sequence[Variant],
    options: Options,
    folder: Path,
) -> Compared:
    """Run methods on pairs, see ``compare_on``.

    Args:
        pairs: their paths.
        variants: of the methods.
        options: for all pairs.
        folder: for the records, in a folder for each pair.

    Returns:
        The results. A pair that cannot be used is a failure of the method ``all``.
    """
    total = Compared([], [], None, 0)
    for pair in tqdm(pairs, "comparing"):
        try:
            found = compare_on(pair, variants, options, folder / pair.name)
        except InputError as error:
            failure = {"pair": pair.name, "method": "all", "reason": str(error)}
            found = Compared([], [failure], None, 0)
        total = Compared(
            total.rows + found.rows,
            total.failures + found.failures,
            total.figure or found.figure,
            total.reused + found.reused,
        )
    return total


# The linear alignment, which the other methods start from.
_ALIGNMENT = Variant("affine")


def compare_on(
    pair: PairPaths,
    variants: Sequence[Variant],
    options: Options,
    folder: Path,
) -> Compared:
    """Run methods on a pair, one after another, and measure all alike.

    A registration is recorded in ``folder`` as soon as it is measured, and is not
    repeated where the record of an equal request is there.

    Args:
        pair: its paths.
        variants: of the methods, see ``methods.variants``.
        options: for all pairs.
        folder: for the records of the pair; it need not exist.

    Returns:
        The measures, the first row before any registration. Where the shared alignment
        fails, so do all variants that start from it.

    Raises:
        InputError: if the pair cannot be used by any method.
    """
    subject = read_subject(pair)
    base = {"pair": pair.name, "patient": pair.patient or pair.name}
    values = flatten(subject.measure(subject.zero), None)
    rows = [base | {"method": BEFORE, "values": values}]
    failures, images = [], {BEFORE: subject.draw(subject.zero)}
    aligned, reason = None, ""
    try:
        # In a process of its own, as itk-elastix is not to share one with JAX at work.
        aligned = _register(subject, _ALIGNMENT, options, folder)
    except InputError as error:
        reason = f"the linear alignment that it starts from failed: {error}"
    reused = int(aligned is not None and aligned.reused and _ALIGNMENT not in variants)
    for variant in variants:
        done, initial = aligned, None
        try:
            if variant.alignment == "shared":
                if aligned is None:
                    raise InputError(reason)
                initial = aligned.ran["alignment"]
            if variant != _ALIGNMENT:
                done = _register(subject, variant, options, folder, initial)
        except InputError as error:
            failure = {"pair": pair.name, "method": variant.label}
            failures.append(failure | {"reason": str(error)})
            continue
        row = base | {"method": variant.label, "values": done.values}
        row |= {"measures": done.measures, "notes": done.ran["notes"]}
        rows.append(row | {"reused": done.reused})
        images[variant.label] = done.drawn
        reused += done.reused
    frame = subject.known.fixed.frame
    fixed, canonical = canonicalise(subject.known.fixed.array, frame)
    fixed = _cut(fixed, subject.plane)
    figure = differences_figure(fixed, images, spacing=canonical.spacing[::-1])
    return Compared(rows, failures, figure, reused)


class _Registered(NamedTuple):
    """A registration: its costs, its measures, and what is drawn of it."""

    ran: dict
    values: dict[str, float]
    measures: dict
    drawn: np.ndarray
    reused: bool


def _register(
    subject: Subject, variant: Variant, options: Options, folder: Path, initial=None
) -> _Registered:
    """Return the recorded registration of a pair, or register and record it."""
    d = subject.known.fixed.frame.ndim
    request = describe_run(variant, version(variant.method), options, d, initial)
    request |= {"files": subject.files}
    path = folder / f"{variant.label}.json"
    drawing = path.with_suffix(".npy")
    record, drawn = read_record(path, request), None
    if record is not None:
        drawn = _read_drawing(drawing, record["drawing"])
    reused = drawn is not None
    if record is None or drawn is None:
        make_folder(folder)
        log = path.with_suffix(".log")
        ran, field = _run(variant, subject.paths, options, log, initial)
        measured, drawn = subject.measure(field), subject.draw(field)
        write_atomically(drawing, functools.partial(np.save, arr=drawn))
        record = {"ran": ran, "values": flatten(measured, ran)}
        record |= {"measures": measured.measures.to_dict()}
        record |= {"drawing": checksum(drawing)}
        record = write_record(path, request, record)
        tqdm.write(f"{subject.paths.name}, {variant.label}: {ran['seconds']:.1f} s")
    # JSON has null for what is not a number.
    values = {k: np.nan if v is None else v for k, v in record["values"].items()}
    return _Registered(record["ran"], values, record["measures"], drawn, reused)


def _read_drawing(path: Path, expected: str) -> np.ndarray | None:
    """Return what was drawn; None if the file is gone or of another registration."""
    if not path.is_file() or checksum(path) != expected:
        return None
    return np.load(path)


@functools.cache
def _network_spacing(model: str, d: int) -> float:
    """Return the size of the voxels that a network is used at, mm."""
    config = network_of(model, d).config
    return config.voxel_size / config.fineness


def _run(
    variant: Variant, pair: PairPaths, options: Options, log: Path, initial=None
) -> tuple[dict, np.ndarray]:
    spacing = None
    if variant.resolution == "network":
        spacing = _network_spacing(options.model, read_frame(pair.fixed).ndim)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ran = run_method(
            *(variant, pair, folder, options),
            log=log,
            initial=initial,
            spacing=spacing,
        )
        return ran, read_field(folder)


def _warped(known: LoadedPair, field: np.ndarray) -> np.ndarray:
    frame = known.fixed.frame
    transform = composite(frame, field, np.eye(frame.ndim + 1))
    return canonicalise(warp_image(known.moving, frame, transform).array, frame)[0]


def _cut(array: np.ndarray, plane: int | None) -> np.ndarray:
    """Return the slab of one voxel at a coronal plane of a canonical image."""
    return array if plane is None else array[:, plane : plane + 1]
