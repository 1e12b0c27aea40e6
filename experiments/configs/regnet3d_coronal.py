"""The same as regnet3d_axial on coronal slices: the other start of regnet3d_2017.

    python -m experiments.train --config regnet3d_coronal \
        --workdir runs/regnet3d_coronal --override scans.file=scans.txt

After 1,600 steps it was at 0.96 of the zero field's error.
"""

import dataclasses

from experiments.configs import regnet3d_axial

CONFIG = dataclasses.replace(
    regnet3d_axial.CONFIG,
    name="regnet3d_coronal",
    data=dataclasses.replace(
        regnet3d_axial.CONFIG.data, shape=(112, 48, 112), slice_axis="coronal"
    ),
)
