"""The scans below a folder, their patients, and the roles of these."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.io import ROLES, find_images


def find_usable(
    folder: Path, read: Callable[[Path], Any]
) -> tuple[dict[Path, Any], list[tuple[Path, str]]]:
    """Find the scans of ``--scans`` that can be used, and warn of the others.

    Args:
        folder: to search, with all folders below it.
        read: of a path; raises ``InputError`` for one that cannot be used.

    Returns:
        What ``read`` returns, by path, and path and reason of each scan that is left
        out.

    Raises:
        InputError: if the folder does not exist or holds no usable scan.
    """
    if not folder.is_dir():
        raise InputError(f"--scans {folder}: is no folder; give one that holds scans")
    usable, left_out = {}, []
    for path in tqdm(find_images(folder), "reading scans", unit="scan"):
        try:
            usable[path] = read(path)
        except InputError as error:
            left_out.append((path, str(error)))
            logging.warning("left out: %s", error)
    if not usable:
        raise InputError(
            f"--scans {folder}: holds no CT that can be read; the warnings say why"
        )
    return usable, left_out


def patient_of(folder: Path, path: Path) -> str:
    """Return the patient of a scan below a folder: its first part below the folder."""
    return path.relative_to(folder).parts[0]


def split_patients(
    patients: list[str], shares: tuple[int, ...], seed: int
) -> dict[str, str]:
    """Give each patient a role at random.

    Args:
        patients: their names, in any order, which does not matter.
        shares: for each of ``ROLES``, the share of the patients; not all zero. Every
            role with a share gets a patient.
        seed: of the choice.

    Returns:
        Role by patient.

    Raises:
        InputError: if there are fewer patients than roles with a share.
    """
    names = sorted(set(patients))
    counts = [int(share > 0) for share in shares]
    if sum(counts) > len(names):
        raise InputError(
            f"--split {','.join(map(str, shares))}: needs {sum(counts)} patients and"
            f" there are {len(names)}; give more scans, or 0 to some of the roles"
        )
    while sum(counts) < len(names):
        # The role that is furthest below its share.
        wanted = np.array(shares) / sum(shares) * len(names)
        counts[int(np.argmax(wanted - counts))] += 1
    roles = np.repeat(ROLES, counts)
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[i]: str(role) for i, role in zip(order, roles, strict=True)}
