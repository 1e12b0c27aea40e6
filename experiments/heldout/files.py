"""The files of an artificial pair."""

from pathlib import Path

from regnet_jax.io import write_displacement
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame, displacement_to_world
from regnet_jax.synthesis import ArtificialPair


def write_pair(folder: Path, name: str, frame: Frame, pair: ArtificialPair) -> None:
    """Write an artificial pair as NAME_fixed, NAME_moving and NAME_displacement.

    Args:
        folder: of the results; it must exist.
        name: prefix of the file names.
        frame: of the volumes.
        pair: with its displacement in voxels, which is written in mm.
    """
    write_image(folder / f"{name}_fixed.nii.gz", pair.fixed[..., 0], frame)
    write_image(folder / f"{name}_moving.nii.gz", pair.moving[..., 0], frame)
    vectors = displacement_to_world(frame, pair.displacement)
    write_displacement(folder / f"{name}_displacement.nii.gz", vectors, frame)
