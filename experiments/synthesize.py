r"""Makes artificial pairs with their displacement fields, and shows the families.

Example:
    python -m experiments.synthesize --family low,medium,high --count 2 \
        --shape 160,160,160 --out pairs

--out gets NAME_NNN_fixed.nii.gz, NAME_NNN_moving.nii.gz and
NAME_NNN_displacement.nii.gz (mm, ITK vector image, fixed to moving) for each family
and number, pairs.csv, which lists them for experiments.compare, families.png, heat maps
of the first field of each, and statistics.json and .png: how large, uneven and fine the
fields are. --family all makes them all. The volumes are procedural chests, or the
middle of --volume. 3D figures are coronal.
"""

import functools
import itertools
import math

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import cli
from experiments.results import write_pair, write_statistics
from regnet_jax.errors import InputError
from regnet_jax.io import (
    Frame,
    canonicalise,
    isotropic_frame,
    read_image,
    resample,
    staged_folder,
)
from regnet_jax.reporting import family_figure
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest, field_statistics

_FAMILY = flags.DEFINE_list(
    "family",
    None,
    f"Of the field: {', '.join(FAMILIES)}; several with commas, or all.",
    required=True,
)
_VOLUME = flags.DEFINE_string("volume", None, "CT to deform; default procedural.")
_COUNT = flags.DEFINE_integer("count", 1, "Pairs of each family.", lower_bound=1)
_SHAPE = flags.DEFINE_list("shape", "128,128,128", "Voxels: Z,Y,X or Y,X.")
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_SPACING = flags.DEFINE_float("spacing", 1.0, "Voxel size, mm.", lower_bound=0.1)
_LEAST = flags.DEFINE_float(
    "least_jacobian", None, "Keep the determinant at or above it; default anything."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the random numbers.")


def _shape() -> tuple[int, ...]:
    """The wanted shape, checked."""
    text = ",".join(_SHAPE.value)
    if len(_SHAPE.value) not in (2, 3) or not all(n.isdecimal() for n in _SHAPE.value):
        raise InputError(f"--shape {text}: give Z,Y,X or Y,X in voxels")
    shape = tuple(int(n) for n in _SHAPE.value)
    if min(shape) < 8:
        raise InputError(f"--shape {text}: too small to deform; give 8 or more")
    return shape


def _source(shape):
    """``draw(key) -> [*shape, 1]`` volumes and the frame they lie in."""
    spacing = _SPACING.value
    if _VOLUME.value is None:
        d = len(shape)
        frame = Frame(shape, (spacing,) * d, (0.0,) * d, np.eye(d))
        return jax.jit(lambda key: chest(key, shape, spacing=spacing)), frame
    image = read_image(_VOLUME.value)
    if image.frame.ndim != len(shape):
        raise InputError(
            f"{_VOLUME.value} is {image.frame.ndim}D and --shape {len(shape)}D;"
            " give both of the same dimension"
        )
    _, frame = canonicalise(image.array, image.frame)
    frame = isotropic_frame(frame, spacing, shape)
    volume = resample(image, frame).array[..., None]
    return lambda key: volume, frame


def _middle(array, shape):
    """The middle coronal slice with the head up, or the slice itself."""
    return array[::-1, shape[1] // 2] if len(shape) == 3 else array


def _in_view(displacement, shape):
    """The middle slice of a field in mm, its last two components along the slice."""
    field = _SPACING.value * _middle(displacement, shape)
    return field[..., [1, 0, 2]] * [1, -1, 1] if len(shape) == 3 else field


def _families() -> list[str]:
    """The wanted families, checked with what belongs to them."""
    names = list(FAMILIES) if _FAMILY.value == ["all"] else _FAMILY.value
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        known = ", ".join(FAMILIES)
        raise InputError(f"--family {unknown[0]}: unknown; there are {known}, or all")
    if not math.isfinite(_SPACING.value):
        raise InputError(f"--spacing {_SPACING.value}: give millimetres")
    if _LEAST.value is not None and not _LEAST.value < 1:
        raise InputError(f"--least_jacobian {_LEAST.value}: give a number below 1")
    return names


def _check_motion(name: str, pair) -> None:
    """Refuses a family that found no room for its fields."""
    if FAMILIES[name].amplitude and not pair.displacement.any():
        raise InputError(
            f"--family {name}: finds nothing to move in --shape"
            f" {','.join(_SHAPE.value)}; give a larger shape or spacing"
        )


def main():
    """Reads the flags, makes the pairs and the figures, and says where they are."""
    names, shape, spacing = _families(), _shape(), _SPACING.value
    draw, frame = _source(shape)
    options = {"spacing": spacing, "least_jacobian": _LEAST.value}
    deform = jax.jit(functools.partial(artificial_pair, **options))
    measure = jax.jit(functools.partial(field_statistics, spacing=spacing))
    stream = jax.random.key(_SEED.value)
    fields, images, measures = {}, {}, {name: [] for name in names}
    numbers = list(itertools.product(names, range(_COUNT.value)))
    lines = ["name,fixed,moving,displacement"]
    with staged_folder(_OUT.value) as folder:
        for name, number in tqdm(numbers, "making pairs"):
            # Families of one number share volume and peaks, to be compared.
            volume_key, pair_key = jax.random.split(jax.random.fold_in(stream, number))
            traced = jax.tree.map(np.float32, FAMILIES[name])
            pair = deform(pair_key, draw(volume_key), traced)
            measures[name].append(jax.device_get(measure(pair.displacement)))
            pair = jax.tree.map(np.asarray, pair)
            _check_motion(name, pair)
            case = f"{name}_{number:03d}"
            write_pair(folder, case, frame, pair)
            files = (f"{case}_{x}.nii.gz" for x in ("fixed", "moving", "displacement"))
            lines.append(",".join([case, *files]))
            if number == 0:
                fields[name] = _in_view(pair.displacement, shape)
                images[name] = _middle(pair.fixed, shape)[..., 0]
        (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
        family_figure(fields, images).savefig(folder / "families.png", dpi=150)
        table = write_statistics(folder, measures)
    print("\n".join(table))
    print(f"wrote {len(numbers)} pairs and their figures to {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
