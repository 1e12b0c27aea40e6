"""Measure a registration by landmarks, label maps and images.

The command is ``regnet evaluate``; here it runs from a checkout.
"""

from regnet_jax.cli import common
from regnet_jax.cli.evaluate import main

if __name__ == "__main__":
    common.run(main)
