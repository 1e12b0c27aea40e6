#!/bin/sh
# Train the network `regnet3d_2017`: RegNet of 2017 on chest CT in 3D, at 4 and 2 mm.
#
#     sh experiments/recipes/regnet3d_2017.sh scans.txt     # from the root of a checkout
#
# scans.txt lists chest CTs, a path a line. A killed recipe goes on where it stopped.
# Time: 26 minutes on one CPU core for each of the two networks of slices, and 10 minutes
# on one NVIDIA H200 for the network in 3D; two CPU cores would need a day and a half.
# The recipe as a whole was not run again; the card says what differed.
# It should reach: 0.49 of the zero field's error over the pairs of the last steps
# (regnet_jax/pretrained/regnet3d_2017/CARD.md).
# The last command replaces the shipped weights.
set -eu
scans=${1:?give a file that lists chest CTs, a path a line}

for config in regnet3d_axial regnet3d_coronal regnet3d_2017; do
    python -m experiments.train --config "$config" --workdir "runs/$config" \
        --override "scans.file=$scans"
done
python -m experiments.export --workdir runs/regnet3d_2017 --name regnet3d_2017
