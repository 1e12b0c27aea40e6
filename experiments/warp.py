"""Apply a transform to an image, a label map or points.

The command is ``regnet warp``; here it runs from a checkout.
"""

from regnet_jax.cli import common
from regnet_jax.cli.warp import main

if __name__ == "__main__":
    common.run(main)
