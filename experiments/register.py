r"""Registers a moving to a fixed image with a trained network.

Example:
    python -m experiments.register --fixed exhale.nii.gz --moving inhale.nii.gz \
        --out result

--model names a network that ships (--model list shows them) or the folder of a
training run. --refine 50 goes on from the network's answer by descent on the pair.

Both images are 3D, or both are 2D, with intensities in Hounsfield units, and of any
spacing and orientation. --out gets warped.nii.gz (the moving image on the fixed
grid), displacement.nii.gz (mm, ITK vector image), transform.h5 (for
sitk.ReadTransform; maps fixed points to moving points), report.json, report.html.
"""

from absl import flags

from experiments import cli
from experiments.results import write_results
from regnet_jax import pretrained
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

_FIXED = flags.DEFINE_string("fixed", None, "Image that stays.")
_MOVING = flags.DEFINE_string("moving", None, "Image that is warped.")
_OUT = flags.DEFINE_string("out", None, "Folder for the results.")
_MODEL = flags.DEFINE_string(
    "model",
    "lung",
    "Network that ships, list to show them, or folder of a training run.",
)
_REFINE = flags.DEFINE_integer(
    "refine", 0, "Steps of descent from the network's answer.", lower_bound=0
)
_INITIAL = flags.DEFINE_string(
    "initial", "affine", f"Linear alignment: {', '.join(KINDS)}, or a transform file."
)
_FIXED_MASK = flags.DEFINE_string("fixed_mask", None, "Where to align the fixed image.")
_MOVING_MASK = flags.DEFINE_string("moving_mask", None, "The same for the moving one.")
_LIST = "list"
for _name in ("fixed", "moving", "out"):
    flags.register_multi_flags_validator(
        [_name, "model"],
        lambda given, name=_name: given["model"] == _LIST or given[name] is not None,
        f"Flag --{_name} must have a value other than None.",
    )


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
    if _MODEL.value == _LIST:
        for name in pretrained.names():
            print(f"{name:12s}{pretrained.summary(name)}")
        return
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
    network = load_network(_MODEL.value)
    with staged_folder(_OUT.value) as folder:
        registration = register(
            fixed,
            moving,
            network,
            initial=initial,
            **masks,
            refine=_REFINE.value,
            progress=True,
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
