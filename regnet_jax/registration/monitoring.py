"""The warnings and the seconds of a registration, collected for its report."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _WarningCollector(logging.Handler):
    """A handler that keeps the warnings of the thread that made it."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record):
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the warnings that the library logs, so that a report can list them.

    Yields:
        The messages so far.
    """
    logger, handler = logging.getLogger("regnet_jax"), _WarningCollector()
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


@contextmanager
def timed(seconds: dict, phase: str) -> Iterator[None]:
    """Add the duration of a block to ``seconds[phase]``."""
    began = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - began
