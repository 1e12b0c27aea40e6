"""A small 2D run of about a minute, which `make demo` trains.

    python -m experiments.train --config demo2d --workdir runs/demo2d

As lung2d, and shorter. On two CPU cores it takes 100 s and reaches 0.27 to 0.36 of the
zero field's error, family by family.
"""

import dataclasses

from experiments.configs import lung2d

CONFIG = dataclasses.replace(
    lung2d.CONFIG,
    name="demo2d",
    steps=200,
    save_every=200,
    evaluate_every=200,
)
