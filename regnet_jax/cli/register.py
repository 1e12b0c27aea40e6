r"""Registers a moving to a fixed image with a trained network.

Example:
    python -m experiments.register --fixed exhale.nii.gz --moving inhale.nii.gz \
        --out result

--model names a network that ships (--model list shows them) or the folder of a
training run; left out, it is lung for 3D images and lung2d for 2D images.
--refine 50 goes on from the network's answer by descent on the pair. --pairs registers
the pairs of a CSV or JSON file instead, each below --out, and goes on where it was
stopped; --shard 2/8 takes the second of eight parts of them.

Both images are 3D, or both are 2D, of any spacing and orientation. Of a DICOM folder
with several series --fixed FOLDER::SERIES picks one by its number, description or UID.
--out gets
warped.nii.gz (the moving image on the fixed grid), displacement.nii.gz (mm, ITK vector
image), transform.h5 (for sitk.ReadTransform; maps fixed points to moving points),
report.json, report.html.
"""

import functools

from absl import flags

from regnet_jax.cli.output import print_networks, print_outcome, print_profile
from regnet_jax.errors import InputError
from regnet_jax.io import Pair
from regnet_jax.registration import load_network
from regnet_jax.registration.alignment.linear import KINDS
from regnet_jax.registration.batch import run_batch
from regnet_jax.registration.files import Options, register_files
from regnet_jax.registration.inference.intensity import PRESETS, check_intensity

_FIXED = flags.DEFINE_string(
    "fixed", None, "Image that stays: a file, a DICOM folder or FOLDER::SERIES."
)
_MOVING = flags.DEFINE_string("moving", None, "Image that is warped.")
_FIXED_MASK = flags.DEFINE_string(
    "fixed_mask",
    None,
    "Where to align the fixed image: what is not 0, or of fractions what is above half"
    " of their maximum.",
)
_MOVING_MASK = flags.DEFINE_string("moving_mask", None, "The same for the moving one.")
_FIXED_POINTS = flags.DEFINE_string("fixed_points", None, "Landmarks, for the report.")
_MOVING_POINTS = flags.DEFINE_string("moving_points", None, "The same ones, moving.")
_ONE = (_FIXED, _MOVING, _FIXED_MASK, _MOVING_MASK, _FIXED_POINTS, _MOVING_POINTS)
_PAIRS = flags.DEFINE_string("pairs", None, "CSV or JSON file that lists pairs.")
_SHARD = flags.DEFINE_string("shard", "1/1", "I/N: which of N parts of --pairs.")
_OUT = flags.DEFINE_string("out", None, "Folder for the results.")
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Network that ships, list to show them, or folder of a training. By default lung"
    " for 3D images and lung2d for 2D images, each pair of --pairs by itself.",
)
_INITIAL = flags.DEFINE_string(
    "initial", "affine", f"Linear alignment: {', '.join(KINDS)}, or a transform file."
)
_INTENSITY = flags.DEFINE_string(
    "intensity",
    "auto",
    f"What intensities are: {', '.join(PRESETS)}, or LOW,HIGH, percentiles to take for"
    " air and bone. auto: ct where there is air in Hounsfield units, ct+1024 where they"
    " are stored without their sign, elsewhere mr.",
)
_REFINE = flags.DEFINE_integer(
    "refine", 0, "Steps of descent from the network's answer.", lower_bound=0
)
_BOTH = flags.DEFINE_bool("inverse_consistent", False, "Go both ways, and half way.")
_FORMATS = flags.DEFINE_multi_enum(
    "format", [], ["ants", "elastix"], "Also write the files that this tool looks for."
)
_MEMORY = flags.DEFINE_float(
    "memory", None, "GiB to hold while predicting; larger images go by tiles.", 1e-3
)
_VOXEL_SIZE = flags.DEFINE_float(
    "voxel_size",
    None,
    "mm of the grid that is worked on. Without it the network's own or, for images that"
    " are too small or too large for a human body, as many voxels as a chest has.",
)
_PROFILE = flags.DEFINE_bool("profile", False, "Print the seconds of each phase.")
_LIST = "list"
for _name in ("fixed", "moving", "out"):
    flags.register_multi_flags_validator(
        [_name, "model", "pairs"],
        lambda given, name=_name: (
            given[name] is not None
            or given["model"] == _LIST
            or (given["pairs"] is not None and name != "out")
        ),
        f"Flag --{_name} must have a value other than None.",
    )


def _check_flags():
    """What the flags together must be, before anything is read."""
    check_intensity(_INTENSITY.value)
    given = [flag for flag in _ONE if flag.value]
    if _PAIRS.value and given:
        raise InputError(f"--{given[0].name}: is for one pair; leave it or --pairs out")
    if not _PAIRS.value and _SHARD.present:
        raise InputError("--shard: is for --pairs; leave it out or give those")
    if bool(_FIXED_POINTS.value) != bool(_MOVING_POINTS.value):
        missing = _MOVING_POINTS if _FIXED_POINTS.value else _FIXED_POINTS
        raise InputError(f"--{missing.name}: is missing; give both of the pair")


def _register_one(options: Options) -> dict:
    """Registers the pair that the flags name; returns the seconds of the phases."""
    pair = Pair("pair", **{flag.name: flag.value for flag in _ONE})
    load = functools.cache(load_network)
    report, seconds = register_files(pair, _OUT.value, load, options, progress=True)
    print_outcome(report, _OUT.value)
    return seconds


def main():
    """Reads the flags, registers a pair or many, and says what came out."""
    if _MODEL.value == _LIST:
        print_networks()
        return
    _check_flags()
    options = Options(
        model=_MODEL.value,
        initial=_INITIAL.value,
        intensity=_INTENSITY.value,
        inverse_consistent=_BOTH.value,
        refine=_REFINE.value,
        memory=_MEMORY.value,
        voxel_size=_VOXEL_SIZE.value,
        formats=tuple(sorted(_FORMATS.value)),
    )
    if _PAIRS.value:
        seconds = run_batch(_PAIRS.value, _OUT.value, options, shard=_SHARD.value)
    else:
        seconds = _register_one(options)
    if _PROFILE.value:
        print_profile(seconds)
