"""Command-line binaries over the library."""

import os

# Programs from the compile cache name tuning flags of LLVM as missing features of
# the machine, as an error on every start. Set before the first import of JAX.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
