"""The artificial deformations of 2019, and their U-Net, at 1, 2 and 4 mm.

    python -m experiments.train --config unet3d_2019 --workdir runs/unet3d_2019 \
        --override scans=scans.txt

Source: Sokooti et al., arXiv 1908.10235. Displacements of up to 7, 15 and 20 mm at 1, 2
and 4 mm; five families; scans multiplied by mild deformations; the sponge, noise of a
random mean, and occlusions on the images. There a network is trained for each stage,
here one serves all three. Without scans: --override data.real=0. It has not been run
to its end; batches are small, as two CPU cores have them.
"""

import dataclasses

from experiments.configs import lung3d

# Chances by our choice: most of what is smooth or breathes, a little of the rest.
_FAMILIES = {
    "single": 0.4,
    "mixed": 0.2,
    "respiratory": 0.25,
    "zero": 0.05,
    "translation": 0.1,
}
# The families of the library move by up to 20 mm.
_LARGEST = (7.0, 15.0, 20.0)

_data = dataclasses.replace(
    lung3d.CONFIG.data,
    spacing=1.0,
    families=tuple(_FAMILIES),
    weights=tuple(_FAMILIES.values()),
    amplitude=1.0,
    noise_fixed=0.0,
    noise_moving=0.0,
    intensity=("noise", "occlusions"),
    sponge=1.0,
    unseen=1.0,
    real=0.5,
    multiplied=0.8,
    scales=(1.0, 2.0, 4.0),
    amplitudes=tuple(largest / 20.0 for largest in _LARGEST),
)
CONFIG = dataclasses.replace(
    lung3d.CONFIG, name="unet3d_2019", model="unet", data=_data, learning_rate=1e-3
)
