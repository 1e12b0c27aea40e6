"""Strict numerics for every test: nothing broadcasts or promotes by accident."""

import gc
import os

# Tests compile much and compute little, so little optimisation saves most of their
# time. The flags of the environment come last and win: an instruction set, say. Child
# processes inherit all.
os.environ["XLA_FLAGS"] = " ".join(
    ("--xla_backend_optimization_level=0", os.environ.get("XLA_FLAGS", ""))
)
os.environ.setdefault("MPLBACKEND", "Agg")

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes many objects that stay. By default the collector of cycles, which JAX
# extends, goes through them so often that it takes up to a fifth of the time of a test.
gc.set_threshold(100_000)

# Fixtures that several folders use.
pytest_plugins = ("tests.helpers.commands", "tests.helpers.networks")
