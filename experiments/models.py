"""Shows what every network looks at and takes, counted without running it.

Example:
    python -m experiments.models
    python -m experiments.models --dimensions 2 --size 128

Parameters; receptive field, voxels; the window, voxels, that gives answers for --size
voxels along each axis; additions and multiplications for each voxel answered for, in
thousands; MiB of the arrays that a prediction needs at the same time, and of those that
training keeps, all of that size.
"""

from absl import flags

from regnet_jax.cli import common
from regnet_jax.models.cost import table

_DIMENSIONS = flags.DEFINE_enum("dimensions", "3", ["2", "3"], "Of the images.")
_SIZE = flags.DEFINE_integer(
    "size", 64, "Voxels to answer for along each axis.", lower_bound=16
)


def main():
    """Prints the table."""
    print(table(int(_DIMENSIONS.value), _SIZE.value))


if __name__ == "__main__":
    common.run(main)
