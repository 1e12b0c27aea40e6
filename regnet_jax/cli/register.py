r"""Register a moving to a fixed image with a trained network.

Example:
    python -m experiments.register --fixed exhale.nii.gz --moving inhale.nii.gz \
        --out result

If the package is installed, regnet register is the same command.

--model names a network that ships (--model list shows them) or the folder of a
training run; by default it is lung for 3D images and lung2d for 2D images.
--refine 36 refines the network's prediction by 36 steps of gradient descent on the
pair. --pairs registers the pairs of a CSV or JSON file instead, writes each to a folder
below --out, and continues where an earlier run was stopped; --shard 2/8 takes the
second of eight shards of them. --series registers all phases of a 4D scan to one, the
--reference (by default the first), and writes amplitude, path and mid-position.

--ignore_fixed and --ignore_moving name masks of what is not compared, such as a lesion;
--immobile names one of what may not move, such as an implant fixed to bone.

Both images are 3D, or both are 2D, of any spacing and orientation. If a DICOM folder
holds several series, --fixed FOLDER::SERIES picks one by its number, description or
UID.

These files are written to --out: warped.nii.gz (the moving image on the fixed grid),
displacement.nii.gz (mm, ITK vector image), transform.h5 (for sitk.ReadTransform; maps
fixed points to moving points), report.json and report.html (not with --noreport).
--write adds others.
"""

import dataclasses
import functools
from typing import Any

from absl import flags

from regnet_jax.cli.output import print_networks, print_outcome, print_profile
from regnet_jax.errors import InputError
from regnet_jax.io import PairPaths
from regnet_jax.registration import RegistrationOptions, load_network
from regnet_jax.registration.batch import run_batch
from regnet_jax.registration.files import register_files
from regnet_jax.registration.saving import FORMATS
from regnet_jax.registration.series_files import run_series

_FIXED = flags.DEFINE_string(
    "fixed", None, "Fixed image: a file, a DICOM folder or FOLDER::SERIES."
)
_MOVING = flags.DEFINE_string("moving", None, "Moving image, which is warped.")
_FIXED_MASK = flags.DEFINE_string(
    "fixed_mask",
    None,
    "Where to align the fixed image: all voxels that are not 0 or, of fractions, those"
    " above half of their maximum.",
)
_MOVING_MASK = flags.DEFINE_string(
    "moving_mask", None, "The same for the moving image."
)
_IGNORE_FIXED = flags.DEFINE_string(
    "ignore_fixed",
    None,
    "Mask of what is not compared in the fixed image, such as a lesion, missing tissue"
    " or an implant that the other lacks; the field there follows from around it.",
)
_IGNORE_MOVING = flags.DEFINE_string(
    "ignore_moving", None, "The same for the moving image."
)
_IMMOBILE = flags.DEFINE_string(
    "immobile",
    None,
    "Mask, in the fixed image, of what the linear alignment alone moves, such as an"
    " implant fixed to bone or the other side.",
)
_FIXED_POINTS = flags.DEFINE_string(
    "fixed_points", None, "Landmarks in the fixed image, for the report."
)
_MOVING_POINTS = flags.DEFINE_string(
    "moving_points", None, "The same landmarks in the moving image."
)
_ONE = (
    *(_FIXED, _MOVING, _FIXED_MASK, _MOVING_MASK),
    *(_IGNORE_FIXED, _IGNORE_MOVING, _IMMOBILE),
    *(_FIXED_POINTS, _MOVING_POINTS),
)
_PAIRS = flags.DEFINE_string("pairs", None, "CSV or JSON file that lists pairs.")
_SHARD = flags.DEFINE_string("shard", "1/1", "I/N: which of N shards of --pairs.")
_SERIES = flags.DEFINE_string(
    "series",
    None,
    "Phases to register to one of them: a 4D image, a folder with an image for each"
    " phase, or a DICOM folder. --fixed_mask, --ignore_fixed and --immobile are masks"
    " of the reference.",
)
_REFERENCE = flags.DEFINE_string(
    "reference",
    None,
    "Phase to which the others of --series are registered: its number from 0, or its"
    " name, such as that of its file. By default the first.",
)
_SERIES_POINTS = flags.DEFINE_string(
    "series_points", None, "Points in the reference, which are carried to all phases."
)
_SERIES_LABELS = flags.DEFINE_string(
    "series_labels", None, "Label map of the reference, which is carried likewise."
)
_CYCLE = flags.DEFINE_bool(
    "cycle",
    True,
    "Whether the last phase of --series is followed by the first, so that the path of a"
    " point is closed.",
)
_OF_REFERENCE = (_FIXED_MASK, _IGNORE_FIXED, _IMMOBILE)
_OF_SERIES = (_REFERENCE, _SERIES_POINTS, _SERIES_LABELS, _CYCLE)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.")
_FORMATS = flags.DEFINE_multi_enum(
    "write",
    [],
    FORMATS,
    "Files to write beside the usual five: those of ants or elastix, the inverse,"
    " the jacobian determinant or the ventilation of lungs as images; several are"
    " separated by spaces.",
)
flags.DEFINE_alias("format", "write")
_REPORT = flags.DEFINE_bool(
    "report",
    True,
    "Whether to write report.html, whose pictures take some seconds. report.json is"
    " always written. With --series, this is for the phases; that of the series is"
    " always written.",
)
_PROFILE = flags.DEFINE_bool("profile", False, "Print the seconds of each phase.")


def define_options(
    options: type[RegistrationOptions], flag_values: flags.FlagValues = flags.FLAGS
) -> dict[str, flags.FlagHolder]:
    """Define a flag for each option.

    Args:
        options: dataclass whose fields are made by ``option``.
        flag_values: where to define the flags.

    Returns:
        The flags by name.
    """
    kinds = {
        str: flags.DEFINE_string,
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    return {
        field.name: kinds[field.metadata["kind"]](
            field.name, field.default, field.metadata["help"], flag_values=flag_values
        )
        for field in dataclasses.fields(options)
    }


_OPTIONS = define_options(RegistrationOptions)
_LIST = "list"


def _check_flags():
    """Raise InputError if flags are missing or contradict each other.

    No file is read before.
    """
    many = _PAIRS.value or _SERIES.value
    for flag in (_OUT,) if many else (_FIXED, _MOVING, _OUT):
        if not flag.value:
            raise InputError(
                f"--{flag.name}: is missing; give --fixed, --moving and --out, or"
                " --pairs or --series and --out"
            )
    given = [flag for flag in _ONE if flag.value]
    for flag in given:
        # The last would count alone, where several masks are meant perhaps.
        if flags.FLAGS[flag.name].present > 1:
            raise InputError(f"--{flag.name}: is there twice; give one file")
    if _PAIRS.value and given:
        raise InputError(f"--{given[0].name}: is for one pair; leave it or --pairs out")
    if _SERIES.value and _PAIRS.value:
        raise InputError("--series: is a job of its own; leave it or --pairs out")
    of_reference = {flag.name for flag in _OF_REFERENCE}
    others = [flag.name for flag in given if flag.name not in of_reference]
    if _SERIES.value and others:
        raise InputError(f"--{others[0]}: is for one pair; leave it or --series out")
    if not _SERIES.value:
        for flag in _OF_SERIES:
            if flag.present:
                raise InputError(f"--{flag.name}: is for --series; leave it out")
    if not _PAIRS.value and _SHARD.present:
        raise InputError("--shard: is for --pairs; leave it out or give those")
    if bool(_FIXED_POINTS.value) != bool(_MOVING_POINTS.value):
        missing = _MOVING_POINTS if _FIXED_POINTS.value else _FIXED_POINTS
        raise InputError(f"--{missing.name}: is missing; give both of the pair")
    if _OPTIONS["point_coordinates"].value and not (
        _PAIRS.value or _FIXED_POINTS.value or _SERIES_POINTS.value
    ):
        raise InputError("--point_coordinates: is for landmarks; leave it out")


def main():
    """Read the flags, register a pair, many or a series, and print the outcome."""
    if _OPTIONS["model"].value == _LIST:
        print_networks()
        return
    options = RegistrationOptions(**{n: flag.value for n, flag in _OPTIONS.items()})
    _check_flags()
    formats = sorted(set(_FORMATS.value))
    if _PAIRS.value:
        seconds = run_batch(
            *(_PAIRS.value, _OUT.value, options, formats),
            shard=_SHARD.value,
            page=_REPORT.value,
        )
    elif _SERIES.value:
        seconds = run_series(
            *(_SERIES.value, _OUT.value, options, formats),
            reference=_REFERENCE.value,
            masks={flag.name: flag.value for flag in _OF_REFERENCE if flag.value},
            points=_SERIES_POINTS.value,
            labels=_SERIES_LABELS.value,
            cycle=_CYCLE.value,
            page=_REPORT.value,
        )
    else:
        paths: dict[str, Any] = {flag.name: flag.value for flag in _ONE}
        pair = PairPaths("pair", **paths)
        report, seconds = register_files(
            pair,
            _OUT.value,
            functools.cache(load_network),
            options,
            formats,
            page=_REPORT.value,
            progress=True,
        )
        print_outcome(report, _OUT.value, formats, page=_REPORT.value)
    if _PROFILE.value:
        print_profile(seconds)
