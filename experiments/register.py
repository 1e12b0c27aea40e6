"""Register a moving to a fixed image with a trained network.

The command is ``regnet register``; here it runs from a checkout.
"""

from regnet_jax.cli import common
from regnet_jax.cli.register import main

if __name__ == "__main__":
    common.run(main)
