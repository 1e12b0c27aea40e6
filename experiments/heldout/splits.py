"""The split of patients into training, validation and test."""

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io import ROLES


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
