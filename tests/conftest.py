"""Strict numerics for every test: nothing broadcasts or promotes by accident."""

import gc
import os
from pathlib import Path

# Tests compile much and compute little, so little optimisation saves most of their
# time. The flags of the environment come last and win: an instruction set, say. Child
# processes inherit all.
os.environ["XLA_FLAGS"] = " ".join(
    ("--xla_backend_optimization_level=0", os.environ.get("XLA_FLAGS", ""))
)
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes many objects that stay. By default the collector of cycles, which JAX
# extends, goes through them so often that it takes up to a fifth of the time of a test.
gc.set_threshold(100_000)

# Fixtures that several folders use.
pytest_plugins = ("tests.helpers.commands", "tests.helpers.networks")

_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 16_000


@pytest.fixture(autouse=True, scope="module")
def _release_programs():
    """Keep a worker below Linux's limit of 65,530 memory maps.

    A compiled program has dozens. At the limit not even a thread can start any more.
    """
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
