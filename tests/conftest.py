"""Strict numerics for every test: nothing broadcasts or promotes by accident."""

import os

# Four devices; and most of the time that compilation takes saved, at the same speed.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=1",
)
os.environ.setdefault("MPLBACKEND", "Agg")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
