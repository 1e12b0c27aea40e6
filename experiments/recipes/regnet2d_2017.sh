#!/bin/sh
# Train the network `regnet2d_2017`: RegNet of 2017 on slices of chest CT, at 4 and 2 mm.
#
#     sh experiments/recipes/regnet2d_2017.sh     # from the root of a checkout
#
# No scans are needed. Time: 70 minutes on one CPU core.
# It should reach: 0.45 of the zero field's error over the pairs of the last 1,500 steps
# (regnet_jax/pretrained/regnet2d_2017/CARD.md).
# The last command replaces the shipped weights.
set -eu
python -m experiments.train --config regnet2d_2017 --workdir runs/regnet2d_2017
python -m experiments.export --workdir runs/regnet2d_2017 --name regnet2d_2017
