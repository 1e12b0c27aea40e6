"""Real scans as volumes for artificial pairs: listing, resampling, cache, prefetch."""

import collections
import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from absl import logging

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR, NETWORK_RANGE, looks_like_ct
from regnet_jax.intensity import CT, FEWEST_VALUES, intensity_map, map_intensity
from regnet_jax.io import checksum, read_ct, read_frame, read_image, read_scans
from regnet_jax.spatial import (
    Image,
    canonical_frame,
    fill_padding,
    find_padding,
    isotropic_frame,
    to_isotropic,
)
from regnet_jax.synthesis.volumes.anatomy import anatomy, remove_noise
from regnet_jax.synthesis.volumes.scans import ScanBank
from regnet_jax.training.config import ExperimentConfig, ScansConfig

# An int, as it is hashed into the file names of the cache.
_BRIGHTEST = int(NETWORK_RANGE[1])
# To be changed whenever the same file gives other values.
_VERSION = "3"


@dataclass(frozen=True)
class ScanFile:
    """A scan whose header has been read.

    Attributes:
        path: of its file or folder.
        shapes: spatial shape at the voxel size of each stage.
    """

    path: Path
    shapes: tuple[tuple[int, ...], ...]


def list_scans(config: ExperimentConfig) -> list[ScanFile]:
    """List the scans of an experiment by their headers.

    Args:
        config: its ``scans`` name the list, and whether to skip unreadable scans. Of
            a manifest those for training are taken, see ``io.read_scans``.

    Returns:
        The usable scans.

    Raises:
        InputError: if a header cannot be read and is not to be skipped, if no header
            can be read, or if the images have different dimensions or a lower one
            than the volumes of the experiment. Slices are cropped from 3D scans.
    """
    scans = []
    for path in (s.path for s in read_scans(config.scans.file, "training")):
        try:
            frame = read_frame(path)
        except InputError as error:
            skip_or_raise(error, config.scans)
            continue
        if frame.ndim < len(config.data.shape):
            raise InputError(
                f"{path}: is {frame.ndim}D and the experiment"
                f" {len(config.data.shape)}D; take it out of {config.scans.file}"
            )
        if scans and frame.ndim != len(scans[0].shapes[0]):
            raise InputError(
                f"{path}: is {frame.ndim}D and {scans[0].path} is not; list scans of"
                f" one dimension in {config.scans.file}"
            )
        frame = canonical_frame(frame)
        shapes = (isotropic_frame(frame, s.spacing).shape for s in config.data.stages)
        scans.append(ScanFile(path, tuple(shapes)))
    if not scans:
        raise InputError(
            f"{config.scans.file}: none of its images can be read; list others"
        )
    return scans


def skip_or_raise(error: InputError, config: ScansConfig) -> None:
    """Log a scan that cannot be read if the config skips such scans, else raise.

    Args:
        error: the error of reading it.
        config: of the scans.

    Raises:
        InputError: if such scans are not skipped.
    """
    if not config.skip_unreadable:
        raise InputError(
            f"{error} (or take it out of {config.file}, or go on without:"
            " --override scans.skip_unreadable=true)"
        ) from error
    logging.warning("left out: %s", error)


def read_anatomy(
    path: Path, spacings: Sequence[float], cache: Path | None, preset: str = CT
) -> list[np.ndarray]:
    """Read the anatomy of a scan at several voxel sizes, in canonical orientation.

    The values are those that a registration gives to the network, less their noise.

    Args:
        path: of the image.
        spacings: isotropic voxel sizes, mm.
        cache: folder for resampled volumes; None to resample always.
        preset: of the config, see ``GeneratorConfig.intensity_preset``.

    Returns:
        ``[*spatial]`` int16 for each voxel size: HU, or percentiles on their scale.

    Raises:
        InputError: if the scan cannot be read or, as ``ct``, has no Hounsfield units
            or, mapped by percentiles, is a label map.
    """
    resample = None
    content = checksum(path) if cache else ""
    volumes = []
    for spacing in spacings:
        stored = cache and cache / f"{_name(content, spacing, preset)}.npy"
        volume = _load(stored) if stored else None
        if volume is None:
            resample = resample or _open(path, preset)
            volume = resample(spacing)
            if stored:
                _store(stored, volume)
        volumes.append(volume)
    return volumes


def _open(path: Path, preset: str) -> Callable[[float], np.ndarray]:
    """Read a scan and return the function that brings it to a voxel size."""
    if preset == CT:
        ct = read_ct(path)
        return lambda spacing: _rounded(
            anatomy(to_isotropic(ct, spacing).array, spacing=spacing)
        )
    # As a registration maps its images; see ``registration.register``.
    image = read_image(path)
    padding = find_padding(image.array)
    shown = image.array if padding is None else image.array[~padding]
    _check_shown(path, shown, preset)
    filled = fill_padding(image.array, padding, float(shown.min()))
    image = Image(filled, image.frame, image.name)
    parameters = intensity_map(preset, shown)
    return lambda spacing: _rounded(
        remove_noise(map_intensity(to_isotropic(image, spacing).array, parameters))
    )


def _check_shown(path: Path, shown: np.ndarray, preset: str) -> None:
    """Refuse a label map among the scans; warn of a CT that is not taken as one."""
    few = np.unique(shown)
    if len(few) < FEWEST_VALUES:
        raise InputError(
            f"{path}: has {len(few)} different values, so it is a label map or a mask;"
            " list scans"
        )
    if looks_like_ct(shown):
        logging.warning(
            "%s: looks like CT in Hounsfield units and is mapped by its percentiles"
            " (data.intensity_preset=%s); give data.intensity_preset=ct for CT",
            *(path, preset),
        )


def _rounded(array: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(array), AIR, _BRIGHTEST).astype(np.int16)


def _name(content: str, spacing: float, preset: str) -> str:
    values = (_VERSION, content, float(spacing), AIR, _BRIGHTEST)
    values += () if preset == CT else (preset,)
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


def _load(stored: Path) -> np.ndarray | None:
    """Read a volume from the cache; None if it is missing or damaged."""
    try:
        return np.load(stored, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _store(stored: Path, volume: np.ndarray) -> None:
    stored.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may store the same volume at the same time.
    temporary = stored.with_suffix(f".{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            np.save(file, volume)
        os.replace(temporary, stored)
    except OSError as error:
        logging.warning("not kept for next time: %s", error)
    finally:
        temporary.unlink(missing_ok=True)


# Number of files read in parallel, and of sets of scans prepared ahead of use.
_READERS = 2
_AHEAD = 2


def choose_scans(seed: int, scans: int, resident: int, turn: int) -> list[int]:
    """Choose the scans that are on the devices, as a pure function.

    Every scan is used once before any is used again.

    Args:
        seed: of the run.
        scans: number of scans.
        resident: number of scans on the devices at a time.
        turn: number of changes so far.

    Returns:
        Indices of ``resident`` scans.
    """
    places = range(turn * resident, (turn + 1) * resident)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(scans)
        for epoch in {place // scans for place in places}
    }
    return [int(orders[place // scans][place % scans]) for place in places]


class ScanPrefetcher:
    """A context manager that provides the scans of every step of a run.

    While some scans are in use, background threads read the next ones, resample them to
    the voxel sizes of the network, and move them to the devices.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        place: Callable = lambda tree: tree,
        *,
        cache: Path | None = None,
    ):
        """Read the headers of the scans, not their voxels.

        Args:
            config: of the run.
            place: moves a pytree of arrays to the devices.
            cache: folder for volumes at the voxel sizes of the network.

        Raises:
            InputError: if a scan cannot be used.
        """
        self._config, self._place, self._cache = config, place, cache
        self._scans = list_scans(config)
        self._count = min(config.scans.resident or len(self._scans), len(self._scans))
        self._rotates = self._count < len(self._scans)
        self._readers = ThreadPoolExecutor(_READERS, "reader")
        self._maker = ThreadPoolExecutor(1, "maker")
        self._made: collections.deque[tuple[int, Future]] = collections.deque()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._maker.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._maker.shutdown(wait=True)

    def describe(self) -> list[str]:
        """Return the name and the shapes of each scan, in the order of the list."""
        return [
            " ".join([scan.path.name, *("x".join(map(str, s)) for s in scan.shapes)])
            for scan in self._scans
        ]

    def next_change(self, step: int) -> int | None:
        """Return the step at which the scans of a step change; None for never."""
        every = self._config.scans.rotate_every
        return (step // every + 1) * every if self._rotates else None

    def scans_at(self, step: int) -> tuple[ScanBank, ...]:
        """Return the scans of a step, on the devices.

        Args:
            step: number of steps before it; it must not decrease between calls.

        Returns:
            A ``ScanBank`` for each stage, int16.

        Raises:
            InputError: if a scan cannot be read and is not to be skipped, or if no scan
                can be read.
        """
        turn = step // self._config.scans.rotate_every if self._rotates else 0
        while self._made and self._made[0][0] < turn:
            self._made.popleft()[1].cancel()
        ahead = _AHEAD if self._rotates else 0
        first = self._made[-1][0] + 1 if self._made else turn
        for later in range(first, turn + ahead + 1):
            self._made.append((later, self._maker.submit(self._make, later)))
        return self._made[0][1].result()

    def _make(self, turn: int) -> tuple[ScanBank, ...]:
        """Read, stack and place the scans of a turn."""
        numbers = range(self._count)
        if self._rotates:
            numbers = choose_scans(
                self._config.seed, len(self._scans), self._count, turn
            )
        spacings = [stage.spacing for stage in self._config.data.stages]
        read = [
            self._readers.submit(
                read_anatomy,
                self._scans[number].path,
                spacings,
                self._cache,
                self._config.data.intensity_preset,
            )
            for number in numbers
        ]
        volumes = []
        for future in read:
            try:
                volumes.append(future.result())
            except InputError as error:
                skip_or_raise(error, self._config.scans)
        if not volumes:
            raise InputError(
                f"{self._config.scans.file}: none of {self._count} scans can be read;"
                " list others"
            )
        # Repeat scans in place of unreadable ones, so that the shapes stay the same.
        volumes = [volumes[i % len(volumes)] for i in range(self._count)]
        stages = zip(zip(*volumes, strict=True), _largest(self._scans), strict=True)
        return self._place(tuple(_stack(arrays, shape) for arrays, shape in stages))


def _largest(scans: Sequence[ScanFile]) -> list[tuple[int, ...]]:
    """Return for each stage a shape that holds every scan."""
    stages = zip(*(scan.shapes for scan in scans), strict=True)
    return [tuple(np.max(shapes, axis=0).tolist()) for shapes in stages]


def _stack(arrays: Sequence[np.ndarray], shape: Sequence[int]) -> ScanBank:
    """Stack the scans at one voxel size; pad the far ends of smaller ones with air."""
    sizes = np.asarray([array.shape for array in arrays], np.int32)
    stack = np.full((len(arrays), *shape, 1), AIR, np.int16)
    for row, array in zip(stack, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array[..., None]
    return ScanBank(cast(Any, stack), cast(Any, sizes))
