"""The scans that are on the devices at a time, read ahead in background threads."""

import collections
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis.scans import Scans
from regnet_jax.training.config import ExperimentConfig
from regnet_jax.training.scans import Scan, leave_out, list_scans, read_volumes

# Files read at once, and sets of scans that are made ahead of use.
_READERS = 2
_AHEAD = 2


def chosen(seed: int, scans: int, resident: int, turn: int) -> list[int]:
    """Which scans are on the devices: a function of its arguments alone.

    Every scan has its turn once before any has it again.

    Args:
        seed: of the run.
        scans: how many there are.
        resident: how many are on the devices at a time.
        turn: how often they have changed.

    Returns:
        ``resident`` numbers of scans.
    """
    places = range(turn * resident, (turn + 1) * resident)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(scans)
        for epoch in {place // scans for place in places}
    }
    return [int(orders[place // scans][place % scans]) for place in places]


class Volumes:
    """The scans of a run over its steps; a context to be left after use.

    While some are in use, the next ones are read, brought to the voxel sizes of the
    network, and moved to the devices by background threads.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        place: Callable = lambda tree: tree,
        *,
        cache: Path | None = None,
    ):
        """Looks at the headers alone.

        Args:
            config: of the run.
            place: moves a pytree of arrays to the devices.
            cache: folder for volumes at the voxel sizes of the network.

        Raises:
            InputError: if a scan cannot be used.
        """
        self._config, self._place, self._cache = config, place, cache
        self._scans = list_scans(config)
        self._count = min(config.resident or len(self._scans), len(self._scans))
        self._rotates = self._count < len(self._scans)
        self._readers = ThreadPoolExecutor(_READERS, "reader")
        self._maker = ThreadPoolExecutor(1, "maker")
        self._made: collections.deque[tuple[int, Future]] = collections.deque()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._maker.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._maker.shutdown(wait=True)

    def until(self, step: int) -> int | None:
        """The step at which the scans that serve a step change; None for never."""
        every = self._config.rotate_every
        return (step // every + 1) * every if self._rotates else None

    def at(self, step: int) -> tuple[Scans, ...]:
        """The scans that serve a step, on the devices.

        Args:
            step: number of steps before it; not smaller than in the last call.

        Returns:
            ``Scans`` for each stage, int16.

        Raises:
            InputError: if one cannot be read and none is skipped, or none can be.
        """
        turn = step // self._config.rotate_every if self._rotates else 0
        while self._made and self._made[0][0] < turn:
            self._made.popleft()[1].cancel()
        ahead = _AHEAD if self._rotates else 0
        first = self._made[-1][0] + 1 if self._made else turn
        for later in range(first, turn + ahead + 1):
            self._made.append((later, self._maker.submit(self._make, later)))
        return self._made[0][1].result()

    def _make(self, turn: int) -> tuple[Scans, ...]:
        """Reads, stacks and places the scans of a turn."""
        numbers = range(self._count)
        if self._rotates:
            numbers = chosen(self._config.seed, len(self._scans), self._count, turn)
        spacings = [stage.spacing for stage in self._config.data.stages]
        read = [
            self._readers.submit(
                read_volumes, self._scans[number].path, spacings, self._cache
            )
            for number in numbers
        ]
        volumes = []
        for future in read:
            try:
                volumes.append(future.result())
            except InputError as error:
                leave_out(error, self._config)
        if not volumes:
            raise InputError(
                f"{self._config.scans}: none of {self._count} scans can be read; list"
                " others"
            )
        # Others take the places of those that cannot be read: shapes stay as they are.
        volumes = [volumes[i % len(volumes)] for i in range(self._count)]
        stages = zip(zip(*volumes, strict=True), _largest(self._scans), strict=True)
        return self._place(tuple(_stack(arrays, shape) for arrays, shape in stages))


def _largest(scans: Sequence[Scan]) -> list[tuple[int, ...]]:
    """A shape for each stage that has room for every scan."""
    stages = zip(*(scan.shapes for scan in scans), strict=True)
    return [tuple(np.max(shapes, axis=0).tolist()) for shapes in stages]


def _stack(arrays: Sequence[np.ndarray], shape: Sequence[int]) -> Scans:
    """The scans at one voxel size, with air behind the smaller ones."""
    sizes = np.asarray([array.shape for array in arrays], np.int32)
    stack = np.full((len(arrays), *shape, 1), AIR, np.int16)
    for row, array in zip(stack, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array[..., None]
    return Scans(stack, sizes)
