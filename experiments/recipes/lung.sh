#!/bin/sh
# Train the network `lung`: chest CT in 3D, trained at 8, 4 and 2 mm and
# used at 12, 6, 3 and 1.5 mm.
#
#     sh experiments/recipes/lung.sh scans.txt     # from the root of a checkout
#
# scans.txt lists chest CTs, a path a line. A killed recipe goes on where it stopped.
# Time: about five hours on two CPU cores (61, 40, 59, 66 and 66 minutes), and eight
# minutes on one NVIDIA H200 for the last part, which is too long for a CPU.
# It should reach: on boxes of held-out CT, deformed by up to 20 mm, an endpoint error of
# 0.64 mm where the zero field has 5.26 mm, n = 60 (regnet_jax/pretrained/lung/CARD.md):
#     python -m experiments.assess --volumes heldout.txt --model lung \
#         --crop 96 --out heldout.json
# The last part was not run by this command; the card says what differed.
# The last command replaces the shipped weights.
set -eu
scans=${1:?give a file that lists chest CTs, a path a line}

train() {
    name=$1
    config=$2
    shift 2
    python -m experiments.train --config "$config" --workdir "runs/$name" \
        --override "scans.file=$scans" "$@"
}

train lung3d lung3d --steps 2500
train lung3d_residual lung3d_residual
train lung3d_polish lung3d_polish
python -m experiments.export --workdir runs/lung3d_polish \
    --mean_with runs/lung3d_residual --name lung
# It starts from the mean that was just exported.
train lung3d_polish_again lung3d_polish --override init_from=lung --override seed=3 \
    --override steps=1700 --override evaluation.every=1700
python -m experiments.export --workdir runs/lung3d_polish_again --mean_with lung \
    --name lung
# So does this.
train lung3d_confident lung3d_confident
python -m experiments.export --workdir runs/lung3d_confident --name lung
# And this, on an accelerator.
train lung3d_long lung3d_long
python -m experiments.export --workdir runs/lung3d_long --name lung
