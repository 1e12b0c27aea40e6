r"""Compare procedural chests with real ones: a figure, and densities of the lungs.

Example:
    python -m experiments.chests --scans scans.txt --out chests

scans.txt lists chest CTs, one path on each line; of a manifest the scans for training
are taken. The folder --out gets chests.png with
axial and coronal slices, and chests.json with percentiles of Hounsfield units and of
the gradient's magnitude inside the lungs of each volume, at 2 mm. Procedural chests get
the noise and the blur of a scanner.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy import ndimage
from tqdm import tqdm

from regnet_jax.cli import common
from regnet_jax.files import staged_folder, strict_json
from regnet_jax.hounsfield import DISPLAY_WINDOW, traced_lung_mask
from regnet_jax.io import read_ct, read_scans
from regnet_jax.reporting import volumes_figure
from regnet_jax.spatial import to_isotropic
from regnet_jax.synthesis import chest

_SCANS = flags.DEFINE_string("scans", None, "File that lists scans.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_COUNT = flags.DEFINE_integer("count", 6, "Procedural chests.", lower_bound=1)
_SHOWN = flags.DEFINE_integer(
    "shown", 3, "Volumes of each kind in the figure.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random numbers.")

_SPACING, _SHAPE = 2.0, (128, 144, 176)
_NOISE, _BLUR = 20.0, 0.5
_PERCENTILES = (5, 25, 50, 75, 95)
# The lung mask is eroded by the first to exclude walls, after closing by the second to
# include vessels; mm.
_WALL, _VESSEL = 6.0, 8.0


def _real(path: Path) -> np.ndarray:
    image = read_ct(path)
    return to_isotropic(image, _SPACING, _SHAPE).array


def _procedural(number: int, sample) -> np.ndarray:
    volume = np.asarray(sample(jax.random.fold_in(jax.random.key(_SEED.value), number)))
    rng = np.random.default_rng((_SEED.value, number))
    noise = rng.normal(0.0, _NOISE, volume.shape[:-1])
    return ndimage.gaussian_filter(volume[..., 0], _BLUR) + noise


def _percentiles(volume: np.ndarray) -> dict:
    """Return percentiles of values and slopes inside the lungs, vessels included."""
    lungs = np.asarray(traced_lung_mask(jnp.asarray(volume)[..., None]))
    ball = ndimage.generate_binary_structure(3, 1)
    lungs = ndimage.binary_closing(lungs, ball, round(_VESSEL / _SPACING))
    lungs = ndimage.binary_erosion(lungs, ball, round(_WALL / _SPACING))
    slope = ndimage.gaussian_gradient_magnitude(volume, 0.5) / _SPACING
    if not lungs.any():
        return {"hu": [], "slope": [], "millilitres": 0.0}
    return {
        "hu": np.percentile(volume[lungs], _PERCENTILES).round(1).tolist(),
        "slope": np.percentile(slope[lungs], _PERCENTILES).round(1).tolist(),
        "millilitres": float(lungs.sum() * _SPACING**3 / 1000),
    }


def main():
    """Sample and read chests, compare them, and print where the results are."""
    sample = jax.jit(lambda key: chest(key, _SHAPE, spacing=_SPACING))
    volumes = {}
    scans = read_scans(_SCANS.value, "training")
    for number, scan in enumerate(tqdm(scans, "reading scans")):
        volumes[f"real {number + 1}"] = _real(scan.path)
    for number in tqdm(range(_COUNT.value), "sampling chests"):
        volumes[f"procedural {number + 1}"] = _procedural(number, sample)
    table = {name: _percentiles(volume) for name, volume in volumes.items()}
    for name, row in table.items():
        print(f"{name:14s} HU {row['hu']}  HU/mm {row['slope']}")
    shown = {
        name: volumes[name]
        for kind in ("real", "procedural")
        for name in [n for n in volumes if n.startswith(kind)][: _SHOWN.value]
    }
    with staged_folder(_OUT.value) as folder:
        figure = volumes_figure(shown, spacing=_SPACING, window=DISPLAY_WINDOW)
        figure.savefig(folder / "chests.png", dpi=110)
        result = {"percentiles": _PERCENTILES, "volumes": table}
        text = strict_json(result, indent=1) + "\n"
        (folder / "chests.json").write_text(text, "utf-8")
    print(f"wrote chests.png and chests.json to {_OUT.value}")


if __name__ == "__main__":
    common.run(main)
