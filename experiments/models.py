"""Print the receptive field and the cost of every network, counted without running it.

Example:
    python -m experiments.models
    python -m experiments.models --dimensions 2 --size 128

The columns are the number of parameters; the receptive field (voxels); the size of the
patch (voxels) that gives predictions for --size voxels along each axis; additions and
multiplications for each voxel predicted, in thousands; and, for that size, MiB of the
arrays that a prediction needs at the same time and of those that training keeps.
"""

from absl import flags

from regnet_jax.cli import common
from regnet_jax.models.cost import table

_DIMENSIONS = flags.DEFINE_enum("dimensions", "3", ["2", "3"], "Of the images.")
_SIZE = flags.DEFINE_integer(
    "size", 64, "Voxels to predict for along each axis.", lower_bound=16
)


def main():
    """Print the table."""
    print(table(int(_DIMENSIONS.value), _SIZE.value))


if __name__ == "__main__":
    common.run(main)
