"""Seconds of the phases of a run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict, phase: str) -> Iterator[None]:
    """Adds what the block takes to ``seconds[phase]``."""
    began = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began
