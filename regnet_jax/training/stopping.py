"""A request to stop, such as a scheduler sends before it takes a machine away."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

from regnet_jax.training import parallel


@contextlib.contextmanager
def halting() -> Iterator[Callable[[], bool]]:
    """Notes SIGTERM instead of dying of it.

    Yields:
        A function to be asked between steps: whether to stop there. If several
        processes train together it is to be asked equally often in all of them, and
        answers all alike, whichever of them was sent the signal.
    """
    calls, came = itertools.count(), threading.Event()

    def halted():
        if parallel.told_to_stop(next(calls)):
            came.set()
        return came.is_set()

    # Python handles signals in the main thread alone, and JAX those of several
    # processes.
    main = threading.current_thread() is threading.main_thread()
    if not main or parallel.several():
        yield halted
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield halted
    finally:
        signal.signal(signal.SIGTERM, before)
