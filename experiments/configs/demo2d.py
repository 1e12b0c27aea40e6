"""A small 2D run of a few minutes: the network that `make demo` trains and uses.

    python -m experiments.train --config demo2d --workdir runs/demo2d

As regnet2d_2017, and shorter.
"""

import dataclasses

from experiments.configs import regnet2d_2017

CONFIG = dataclasses.replace(
    regnet2d_2017.CONFIG,
    name="demo2d",
    steps=200,
    warmup=20,
    save_every=200,
    evaluate_every=200,
)
