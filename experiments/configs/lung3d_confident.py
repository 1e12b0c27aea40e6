"""Part 5 of the training of `lung`: two scanners, 8 mm, and estimated errors.

    python -m experiments.train --config lung3d_confident \
        --workdir runs/lung3d_confident --override scans.file=scans.txt

It starts from the weights of lung3d_polish, as they are exported under the name `lung`;
experiments/recipes/lung.sh runs all parts. The network also learns at 8 mm, so that it
may begin there; images have slices and noise of their own; errors in the lungs and at
their vessels count two and four times; and further layers estimate the error of each
displacement.
"""

import dataclasses

from experiments.configs import lung3d_polish

_DATA = dataclasses.replace(
    lung3d_polish.CONFIG.data,
    scales=(1.0, 2.0, 4.0),
    intensity_models=(
        *("contrast", "bias_field", "blur", "thick_slices", "occlusions"),
        "quantum_noise",
    ),
    lung_weight=2.0,
    vessel_weight=4.0,
)

CONFIG = dataclasses.replace(
    lung3d_polish.CONFIG,
    name="lung3d_confident",
    model="corrnet_confident",
    data=_DATA,
    steps=1400,
    seed=5,
    init_from="lung",
    evaluation=dataclasses.replace(lung3d_polish.CONFIG.evaluation, every=1400),
)
