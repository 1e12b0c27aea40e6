"""Strict numerics for every test: nothing broadcasts or promotes by accident."""

import os

# Saves most of the time that compilation takes, at the same speed. What the environment
# asks for comes last, and so counts: an instruction set, say. Processes that tests start
# inherit it.
_FAST = "--xla_backend_optimization_level=1"
os.environ["XLA_FLAGS"] = f"{_FAST} {os.environ.get('XLA_FLAGS', '')}".strip()
os.environ.setdefault("MPLBACKEND", "Agg")

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
