"""A small 2D run of a few minutes: the network that `make demo` trains and uses.

    python -m experiments.train --config demo2d --workdir runs/demo2d

As regnet2d_2017, at 2 mm and shorter.
"""

import dataclasses

from experiments.configs import regnet2d_2017

_FULL = regnet2d_2017.CONFIG

CONFIG = dataclasses.replace(
    _FULL,
    name="demo2d",
    data=dataclasses.replace(_FULL.data, shape=(160, 160), spacing=2.0),
    steps=200,
    warmup=20,
    save_every=200,
    evaluate_every=200,
)
