"""Real scans to make pairs of, at each voxel size of a network; kept on disk."""

import hashlib
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.io import (
    canonical_frame,
    canonicalise,
    isotropic_frame,
    read_ct,
    read_frame,
    read_manifest,
    resample,
    split_series,
)
from regnet_jax.training.config import ExperimentConfig

_BRIGHTEST = 3095
# Changes whenever other values come out of the same file.
_VERSION = "2"


@dataclass(frozen=True)
class Scan:
    """A scan that can be read later.

    Attributes:
        path: of its file or folder.
        shapes: spatial shape at the voxel size of each stage.
    """

    path: Path
    shapes: tuple[tuple[int, ...], ...]


def list_scans(config: ExperimentConfig) -> list[Scan]:
    """The scans of an experiment, by their headers.

    Args:
        config: names the file that lists them, and tells whether to leave out those
            that cannot be read.

    Returns:
        One for each that can be used.

    Raises:
        InputError: if a header cannot be read, or none, or an image has another
            dimension than the experiment.
    """
    scans = []
    for path in read_manifest(config.scans):
        try:
            frame = read_frame(path)
        except InputError as error:
            leave_out(error, config)
            continue
        if frame.ndim != len(config.data.shape):
            raise InputError(
                f"{path}: is {frame.ndim}D and the experiment"
                f" {len(config.data.shape)}D; take it out of {config.scans}"
            )
        frame = canonical_frame(frame)
        shapes = (isotropic_frame(frame, s.spacing).shape for s in config.data.stages)
        scans.append(Scan(path, tuple(shapes)))
    if not scans:
        raise InputError(f"{config.scans}: none of its images can be read; list others")
    return scans


def leave_out(error: InputError, config: ExperimentConfig) -> None:
    """Names a scan that cannot be read, and goes on or not as the config wants.

    Args:
        error: what is wrong with it.
        config: of the run.

    Raises:
        InputError: unless such scans are skipped.
    """
    if not config.skip_unreadable:
        raise InputError(
            f"{error} (or take it out of {config.scans}, or go on without:"
            " --override skip_unreadable=true)"
        ) from error
    logging.warning("left out: %s", error)


def read_volumes(
    path: Path, spacings: Sequence[float], cache: Path | None
) -> list[np.ndarray]:
    """A scan at several voxel sizes, in canonical orientation.

    Args:
        path: of the image.
        spacings: isotropic voxel sizes, mm.
        cache: folder for what was made of this content before; None for none.

    Returns:
        ``[*spatial]`` int16 HU for each voxel size.

    Raises:
        InputError: if it cannot be read or has no Hounsfield units.
    """
    image = None
    content = _content(path) if cache else ""
    volumes = []
    for spacing in spacings:
        stored = cache and cache / f"{_name(content, spacing)}.npy"
        volume = _load(stored) if stored else None
        if volume is None:
            image = image or read_ct(path)
            volume = _at(image, spacing)
            if stored:
                _store(stored, volume)
        volumes.append(volume)
    return volumes


def _at(image, spacing: float) -> np.ndarray:
    _, frame = canonicalise(image.array, image.frame)
    array = resample(image, isotropic_frame(frame, spacing)).array
    return np.clip(np.rint(array), AIR, _BRIGHTEST).astype(np.int16)


def _content(path: Path) -> str:
    """The checksum of a file, or of all files of a folder."""
    path, series = split_series(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256(series.encode())
    try:
        for file in files or [path]:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be read ({reason}); check it") from error
    return digest.hexdigest()


def _name(content: str, spacing: float) -> str:
    values = (_VERSION, content, float(spacing), AIR, _BRIGHTEST)
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


def _load(stored: Path) -> np.ndarray | None:
    """What is in the cache; what is damaged there counts as missing."""
    try:
        return np.load(stored, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _store(stored: Path, volume: np.ndarray) -> None:
    stored.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may store the same at once.
    temporary = stored.with_suffix(f".{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            np.save(file, volume)
        os.replace(temporary, stored)
    except OSError as error:
        logging.warning("not kept for next time: %s", error)
    finally:
        temporary.unlink(missing_ok=True)
