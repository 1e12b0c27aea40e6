"""CorrNet for slices of chest CT at 2 and 4 mm: the network behind `lung2d`.

    python -m experiments.train --config lung2d --workdir runs/lung2d

Slices are axial, coronal and sagittal, of procedural chests alone: nothing is needed
that the project does not draw. Pairs are those of lung3d, and two fifths of the steps
see what the network itself left, as the later passes of a registration do. It takes ten
minutes of one core; the weights `lung2d` that ship are of this run.
"""

import dataclasses

from experiments.configs import lung3d

CONFIG = dataclasses.replace(
    lung3d.CONFIG,
    name="lung2d",
    data=dataclasses.replace(
        lung3d.CONFIG.data, shape=(128, 128), window=128, real=0.0
    ),
    pairs=8,
    steps=900,
    learning_rate=1e-3,
    residuals=0.4,
    huber_delta=0.25,
    save_every=150,
    evaluate_every=900,
)
