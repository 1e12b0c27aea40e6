r"""Registers a moving to a fixed image with a trained network.

Example:
    python -m experiments.register --fixed exhale.nii.gz --moving inhale.nii.gz \
        --model runs/regnet3d_2017 --out result

Both images are 3D, or both are 2D, with intensities in Hounsfield units, and of any
spacing and orientation. --out gets warped.nii.gz (the moving image on the fixed
grid), displacement.nii.gz (mm, ITK vector image), transform.h5 (for
sitk.ReadTransform; maps fixed points to moving points), report.json, report.html.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from experiments.results import write_results
from regnet_jax.errors import InputError
from regnet_jax.io import (
    affine_matrix,
    check_pair,
    read_image,
    read_mask,
    read_transform,
    staged_folder,
)
from regnet_jax.registration import load_network, register
from regnet_jax.registration.affine import KINDS

_FIXED = flags.DEFINE_string("fixed", None, "Image that stays.", required=True)
_MOVING = flags.DEFINE_string("moving", None, "Image that is warped.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_MODEL = flags.DEFINE_string(
    "model", None, "Folder of a training run (its --workdir).", required=True
)
_INITIAL = flags.DEFINE_string(
    "initial", "affine", f"Linear alignment: {', '.join(KINDS)}, or a transform file."
)
_FIXED_MASK = flags.DEFINE_string("fixed_mask", None, "Where to align the fixed image.")
_MOVING_MASK = flags.DEFINE_string("moving_mask", None, "The same for the moving one.")


def _initial(dimensions: int):
    """The kind of alignment, or the matrix in a file."""
    if _INITIAL.value in KINDS:
        return _INITIAL.value
    transform = read_transform(_INITIAL.value)
    try:
        return affine_matrix(transform, dimensions)
    except InputError as error:
        raise InputError(f"{_INITIAL.value}: {error}") from error


def main():
    """Reads the flags and the images, registers, writes, and says what came out."""
    fixed, moving = read_image(_FIXED.value), read_image(_MOVING.value)
    check_pair(fixed, moving)
    masks = {
        name: None if path is None else read_mask(path, image.frame)
        for name, path, image in (
            ("fixed_mask", _FIXED_MASK.value, fixed),
            ("moving_mask", _MOVING_MASK.value, moving),
        )
    }
    initial = _initial(fixed.frame.ndim)
    network = load_network(Path(_MODEL.value))
    with staged_folder(_OUT.value) as folder:
        registration = register(
            fixed, moving, network, initial=initial, **masks, progress=True
        )
        report = write_results(folder, registration, fixed, moving, model=_MODEL.value)
    for measure, before in report["similarity"]["before"].items():
        after = report["similarity"]["after"][measure]
        print(f"{measure.replace('_', ' '):18s}{before:.3f} -> {after:.3f}")
    print(f"{'seconds':18s}{report['seconds']['total']:.1f}")
    print(
        f"wrote {_OUT.value}/report.html, .json, transform.h5, warped and displacement"
    )


if __name__ == "__main__":
    cli.run(main)
