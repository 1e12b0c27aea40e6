"""The main job on embedded data: train for minutes, register a pair, compare.

Example:
    python -m experiments.demo --out out/demo

Trains the experiment demo2d (or goes on with it), draws an artificial pair that
training never saw, registers it as experiments.register does, and compares with the
known displacement field. Everything is written below --out; open report.html.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import cli, configs
from experiments.results import write_results
from regnet_jax.io import (
    Frame,
    displacement_from_world,
    from_sitk,
    staged_folder,
    to_sitk,
    write_image,
)
from regnet_jax.registration import load_network, register
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest
from regnet_jax.training.loop import describe, train

_OUT = flags.DEFINE_string("out", "out/demo", "Folder for everything.")

# Training folds sample numbers into keys of its own seed; this one is not its.
_HELD_OUT = 2017
_SHAPE = (176, 168)


def _held_out_pair(spacing):
    """A pair that training never draws, as images, and its field in voxels."""
    volume_key, pair_key = jax.random.split(jax.random.key(_HELD_OUT))
    volume = chest(volume_key, _SHAPE, spacing=spacing)
    pair = artificial_pair(pair_key, volume, FAMILIES["medium"], spacing=spacing)
    frame = Frame(_SHAPE, (spacing,) * 2, (0.0, 0.0), np.eye(2))
    fixed, moving = (
        from_sitk(to_sitk(np.asarray(image[..., 0]), frame), name)
        for image, name in ((pair.fixed, "fixed"), (pair.moving, "moving"))
    )
    return fixed, moving, np.asarray(pair.displacement)


def _endpoint_error(displacement, truth, body, spacing):
    """Mean and deviation over the body, mm."""
    error = spacing * np.linalg.norm(displacement - truth, axis=-1)[body]
    return f"{error.mean():.2f} ± {error.std():.2f} mm"


def main():
    """Trains, registers, compares, and says where the report is."""
    out = Path(_OUT.value)
    config = configs.load("demo2d")
    for family, result in train(config, out / "training").items():
        print(f"held-out, {family:8s}{describe(result)}")
    spacing = config.data.spacing
    fixed, moving, truth = _held_out_pair(spacing)
    network = load_network(out / "training")
    with staged_folder(out) as folder:
        registration = register(fixed, moving, network, initial="none")
        write_image(folder / "fixed.nii.gz", fixed.array, fixed.frame)
        write_image(folder / "moving.nii.gz", moving.array, moving.frame)
        write_results(folder, registration, fixed, moving, model="demo2d")
    found = displacement_from_world(fixed.frame, registration.displacement)
    body = fixed.array > -500
    zero = np.zeros_like(truth)
    print(f"endpoint error before  {_endpoint_error(zero, truth, body, spacing)}")
    print(f"endpoint error after   {_endpoint_error(found, truth, body, spacing)}")
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    cli.run(main)
