r"""Makes artificial pairs with their displacement fields, and shows the families.

Example:
    python -m experiments.synthesize --family low,medium,high --count 2 \
        --shape 160,160,160 --out pairs

--out gets NAME_NNN_fixed.nii.gz, NAME_NNN_moving.nii.gz and
NAME_NNN_displacement.nii.gz (mm, ITK vector image, fixed to moving) for each family
and number, pairs.csv, which lists them for experiments.compare, and families.png,
heat maps of the first field of each. The volumes are procedural chests, or the middle
of --volume.
"""

import math

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import cli
from experiments.results import write_pair
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
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest

_FAMILY = flags.DEFINE_list(
    "family",
    None,
    f"Of the field: {', '.join(FAMILIES)}; several with commas.",
    required=True,
)
_VOLUME = flags.DEFINE_string("volume", None, "CT to deform; default procedural.")
_COUNT = flags.DEFINE_integer("count", 1, "Pairs of each family.", lower_bound=1)
_SHAPE = flags.DEFINE_list("shape", "128,128,128", "Voxels: Z,Y,X or Y,X.")
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_SPACING = flags.DEFINE_float("spacing", 1.0, "Voxel size, mm.", lower_bound=0.1)
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
    """The middle axial slice, or the slice itself."""
    return array[shape[0] // 2] if len(shape) == 3 else array


def main():
    """Reads the flags, makes the pairs and the figure, and says where they are."""
    unknown = [name for name in _FAMILY.value if name not in FAMILIES]
    if unknown:
        known = ", ".join(FAMILIES)
        raise InputError(f"--family {unknown[0]}: unknown; there are {known}")
    if not math.isfinite(_SPACING.value):
        raise InputError(f"--spacing {_SPACING.value}: give millimetres")
    shape = _shape()
    draw, frame = _source(shape)
    deform = jax.jit(artificial_pair, static_argnames=("spacing", "noise"))
    stream = jax.random.key(_SEED.value)
    fields, images = {}, {}
    numbers = [(f, i) for f in _FAMILY.value for i in range(_COUNT.value)]
    lines = ["name,fixed,moving,displacement"]
    with staged_folder(_OUT.value) as folder:
        for family, number in tqdm(numbers, "making pairs"):
            # Families of one number share volume and peaks, to be compared.
            volume_key, pair_key = jax.random.split(jax.random.fold_in(stream, number))
            spacing = _SPACING.value
            traced = jax.tree.map(np.float32, FAMILIES[family])
            pair = deform(pair_key, draw(volume_key), traced, spacing=spacing)
            pair = jax.tree.map(np.asarray, pair)
            if FAMILIES[family].amplitude and not pair.displacement.any():
                raise InputError(
                    f"--family {family}: finds nothing to move in --shape"
                    f" {','.join(_SHAPE.value)}; give a larger shape or spacing"
                )
            name = f"{family}_{number:03d}"
            write_pair(folder, name, frame, pair)
            files = (f"{name}_{x}.nii.gz" for x in ("fixed", "moving", "displacement"))
            lines.append(",".join([name, *files]))
            if number == 0:
                fields[family] = _middle(pair.displacement, shape) * spacing
                images[family] = _middle(pair.fixed, shape)[..., 0]
        (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
        family_figure(fields, images).savefig(folder / "families.png", dpi=150)
    print(f"wrote {len(numbers)} pairs, pairs.csv and families.png to {_OUT.value}")


if __name__ == "__main__":
    cli.run(main)
