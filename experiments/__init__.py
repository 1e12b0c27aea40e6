"""Research commands on top of the library, run from a checkout."""

import os

# Keeps XLA from logging its own tuning flags as missing CPU features on every start.
# Set before the first import of JAX.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
