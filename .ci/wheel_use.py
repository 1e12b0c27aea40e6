"""Use an installed regnet_jax: import all of it, and register two small files."""

import importlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

import regnet_jax
from regnet_jax.io import write_image

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "SimpleITK")


def import_everything() -> int:
    """Import every module but the commands, whose flags exclude each other."""
    count = 0
    for module in pkgutil.walk_packages(regnet_jax.__path__, "regnet_jax."):
        if not module.name.startswith("regnet_jax.cli."):
            importlib.import_module(module.name)
            count += 1
    return count


def write_disc(path: str, centre: tuple[float, float]) -> None:
    """Write a bright disc with a darker spot in air, 96 x 96 voxels of 2 mm."""
    y, x = np.mgrid[:96, :96]
    distance = np.hypot(y - centre[0], x - centre[1])
    spot = np.hypot(y - centre[0] + 10, x - centre[1] - 6)
    array = np.where(distance < 30, 40.0, -1000.0)
    array = np.where(spot < 8, -700.0, array)
    image = regnet_jax.Image.from_array(array.astype(np.float32), 2.0)
    write_image(path, image.array, image.frame)


def run(command: str) -> None:
    """Run a command line to its end; leave with its message if it fails."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}: status {done.returncode}\n{done.stderr}")


def main() -> None:
    """Import, register, warp back and evaluate with the installed package."""
    print(*(f"{name} {metadata.version(name)}" for name in PACKAGES), sep=", ")
    if "site-packages" not in regnet_jax.__file__:
        sys.exit(f"{regnet_jax.__file__}: is not the installed package")
    if importlib.util.find_spec("experiments"):
        sys.exit("the wheel installs a package of the name experiments")
    print(f"{import_everything()} modules can be imported")
    write_disc("fixed.nii.gz", (48.0, 48.0))
    write_disc("moving.nii.gz", (51.0, 46.0))
    run("regnet --help")
    run("regnet register --model list")
    run("regnet register --fixed fixed.nii.gz --moving moving.nii.gz --out result")
    written = {path.name for path in Path("result").iterdir()}
    wanted = {"warped.nii.gz", "displacement.nii.gz", "transform.h5", "report.html"}
    if missing := wanted - written:
        sys.exit(f"regnet register: did not write {', '.join(sorted(missing))}")
    json.loads(Path("result/report.json").read_text("utf-8"))
    run(
        "regnet warp --transform result/transform.h5 --image moving.nii.gz"
        " --like fixed.nii.gz --out again.nii.gz"
    )
    fixed, moving, warped = (
        regnet_jax.read_image(name).array
        for name in ("fixed.nii.gz", "moving.nii.gz", "again.nii.gz")
    )
    before, after = (float(np.abs(fixed - each).mean()) for each in (moving, warped))
    print(f"mean difference before and after: {before:.1f} and {after:.1f} HU")
    if not after < 0.5 * before:
        sys.exit("regnet register: did not bring the images together")


if __name__ == "__main__":
    main()
