"""Register a breath on embedded data, compare with the truth, train a little.

Example:
    python -m experiments.demo --out out/demo

This samples a breathing chest that no training saw, registers it with the shipped
weights as experiments.register does, and compares the result with the displacement
field that made the pair. Then it trains the small experiment demo2d, in two minutes, or
resumes it. Everything is written below --out; open report.html.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import configs
from regnet_jax import register
from regnet_jax.cli import common
from regnet_jax.evaluation import endpoint_error, error_statistics
from regnet_jax.files import staged_folder
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Image, displacement_from_world
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest
from regnet_jax.training.logs import describe
from regnet_jax.training.loop import train

_OUT = flags.DEFINE_string("out", "out/demo", "Folder for everything.")

_MODEL = "lung"
# Differs from the training's seed, so that the samples differ.
_HELD_OUT = 2017
_SHAPE = (96, 112, 128)
_SPACING = 2.5


def _breath():
    """Make two images of a breathing chest and the field between them, voxels."""
    volume_key, pair_key = jax.random.split(jax.random.key(_HELD_OUT))
    volume = chest(volume_key, _SHAPE, spacing=_SPACING)
    family = FAMILIES["respiratory"]
    pair = artificial_pair(pair_key, volume, family, spacing=_SPACING)
    fixed, moving = (
        Image.from_array(np.asarray(image[..., 0]), _SPACING, name=name)
        for image, name in ((pair.fixed, "fixed"), (pair.moving, "moving"))
    )
    return fixed, moving, np.asarray(pair.displacement)


def _error(displacement, truth, body) -> str:
    """Return the endpoint error over the voxels of the body, mean ± sd."""
    errors = error_statistics(_SPACING * endpoint_error(displacement, truth)[body])
    return f"{errors.mean:.2f} ± {errors.sd:.2f} mm"


def main():
    """Register, compare, train, and print the path of the report."""
    out = Path(_OUT.value)
    fixed, moving, truth = _breath()
    with staged_folder(out) as folder:
        registration = register(fixed, moving, _MODEL, initial="none")
        write_image(folder / "fixed.nii.gz", fixed.array, fixed.frame)
        write_image(folder / "moving.nii.gz", moving.array, moving.frame)
        registration.save(folder)
    found = displacement_from_world(fixed.frame, registration.displacement)
    body = fixed.array > -950
    print(f"endpoint error before  {_error(0 * truth, truth, body)}")
    print(f"endpoint error after   {_error(found, truth, body)}")
    for family, result in train(configs.load("demo2d"), out / "training").items():
        print(f"trained, {family:12s} {describe(result)}")
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    common.run(main)
