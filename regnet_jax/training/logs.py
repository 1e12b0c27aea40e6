"""The log of a run: JSON lines, pages for TensorBoard, and a progress bar."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from regnet_jax.files import strict_json, write_text
from regnet_jax.hounsfield import DISPLAY_WINDOW
from regnet_jax.synthesis.patches import PatchBatch, TargetGrid

METRICS = "metrics.jsonl"
_BOARD = "tensorboard"


def trim(path: Path, step: int) -> None:
    """Remove the lines of a log that follow the last checkpoint of the run.

    Args:
        path: of the JSON lines; it may not exist.
        step: of the checkpoint.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines(keepends=True):
        with contextlib.suppress(json.JSONDecodeError):
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
    write_text(path, "".join(kept))


def describe(result: Mapping) -> str:
    """Return an evaluation as a human-readable line.

    Args:
        result: statistics of a family, from ``heldout.make_evaluation``.

    Returns:
        Mean and standard deviation of the endpoint error and of the zero field's.
    """
    error, zero = (
        f"{result[f'{name}_mm']:.2f}"
        # A single pair does not spread.
        + (f" ± {result[f'{name}_sd_mm']:.2f}" if result["n"] > 1 else "")
        for name in ("error", "zero")
    )
    return (
        f"endpoint error {error} mm, zero field {zero} mm, "
        f"ratio {result['ratio']:.2f} (n = {result['n']})"
    )


class Journal:
    """A context manager that writes the log of a run.

    Where several processes train together, only the first of them has a journal.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        first: int,
        end: int,
        *,
        batch_size: int,
        minutes: float | None = None,
    ):
        """Open the files, truncated to the step at which the run resumes.

        Args:
            folder: of the run.
            name: of the experiment.
            first: number of finished steps.
            end: last step.
            batch_size: pairs in a step.
            minutes: limit of the run's time. The progress bar then shows the limit and
                not the last step, which may never come.
        """
        self._batch_size = batch_size
        self._generation_seconds: list[float] = []
        self._began = time.perf_counter()
        self._files = contextlib.ExitStack()
        trim(folder / METRICS, first)
        self._log = self._files.enter_context(
            (folder / METRICS).open("a", buffering=1, encoding="utf-8")
        )
        self._board = self._files.enter_context(
            contextlib.closing(
                SummaryWriter(str(folder / _BOARD), purge_step=first + 1, flush_secs=20)
            )
        )
        terminal = self._files.enter_context(_terminal())
        shown: dict = {"desc": name, "total": end}
        if minutes is not None:
            shown = {"desc": f"{name}, {minutes:.0f} min"}
        bar = tqdm(initial=first, unit="step", file=terminal, **shown)
        self._bar = self._files.enter_context(bar)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._files.close()

    def log_generation(self, seconds: float) -> None:
        """Record the time that sampling the pairs of a step took."""
        self._generation_seconds.append(seconds)

    def log_step(
        self, number: int, record: Mapping, seconds: float, *, waited: float = 0.0
    ) -> None:
        """Write the numbers of a step.

        Args:
            number: of the step, from 1.
            record: ``loss``, ``error_mm``, ``zero_mm`` and ``ratio``.
            seconds: duration of the step.
            waited: seconds of it for which scans were awaited, which is logged as a
                fraction.
        """
        speed = {"seconds": seconds, "pairs_per_second": self._batch_size / seconds}
        speed["waiting"] = min(waited / seconds, 1.0)
        elapsed = {"elapsed": time.perf_counter() - self._began}
        if self._generation_seconds:
            share = float(np.mean(self._generation_seconds)) / seconds
            speed["generating"] = min(share, 1.0)
        self._write({"step": number, **record, **speed, **elapsed})
        for key, value in {**record, **speed}.items():
            self._board.add_scalar(f"training/{key}", value, number)
        texts = {
            "loss": f"{record['loss']:.3f}",
            "error": f"{record['ratio']:.2f} of zero's",
            "pairs/s": f"{speed['pairs_per_second']:.3g}",
        }
        if self._generation_seconds:
            texts["generating"] = f"{100 * speed['generating']:.0f}%"
        self._bar.set_postfix(texts, refresh=False)
        self._bar.update()

    def log_fault(self, number: int, record: Mapping, quantity: str) -> None:
        """Write the numbers of a step that was discarded.

        Args:
            number: of the step, from 1.
            record: as for ``log_step``; values that are not finite become null.
            quantity: the first quantity that is not finite.
        """
        self._write({"step": number, **record, "not_finite": quantity})

    def log_evaluation(self, number: int, results: Mapping, panels: Mapping) -> None:
        """Write an evaluation on held-out pairs.

        Args:
            number: of the step.
            results: statistics by family.
            panels: pictures ``[height, width, 3]`` uint8 by family.
        """
        self._write({"step": number, "evaluation": results})
        for family, result in results.items():
            self._bar.write(f"step {number}  {family:12s} {describe(result)}")
            for key in ("error_mm", "zero_mm", "ratio"):
                self._board.add_scalar(f"{key}/{family}", result[key], number)
        for family, picture in panels.items():
            self._board.add_image(f"pairs/{family}", picture, number, dataformats="HWC")
        self._board.flush()

    def log_real_pairs(self, number: int, results: Mapping) -> None:
        """Write an evaluation on real pairs: numbers by pair and measure."""
        self._write({"step": number, "real_pairs": results})
        for pair, measures in results.items():
            line = ", ".join(f"{key} {value:.3g}" for key, value in measures.items())
            self._bar.write(f"step {number}  {pair:12s} {line}")
            for key, value in measures.items():
                self._board.add_scalar(f"real_{key}/{pair}", value, number)

    def _write(self, record: dict) -> None:
        self._log.write(strict_json(record) + "\n")


@contextlib.contextmanager
def _terminal():
    """Yield a copy of standard error, unaffected when ITK's messages are captured."""
    try:
        copy = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):
        yield sys.stderr
        return
    with os.fdopen(copy, "w", encoding="utf-8") as file:
        yield file


class NoJournal:
    """The journal of all processes but the first: steps are not logged there."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def log_generation(self, seconds: float) -> None:
        """Do nothing."""

    def log_step(
        self, number: int, record: Mapping, seconds: float, *, waited: float = 0.0
    ) -> None:
        """Do nothing."""

    def log_fault(self, number: int, record: Mapping, quantity: str) -> None:
        """Do nothing."""


# The displacement that is drawn brightest, voxels.
_LONGEST = 8.0
_GAP = 2


def draw_panel(patch: PatchBatch, prediction, grid: TargetGrid) -> np.ndarray:
    """Draw a patch as a row: fixed, moving, true field, predicted field, error.

    Fields are drawn by their magnitude, on one scale up to 8 voxels; of volumes, the
    middle slice is drawn.

    Args:
        patch: without batch axis.
        prediction: ``[*targets, d]``, voxels.
        grid: of the targets.

    Returns:
        ``[height, width, 3]`` uint8.
    """
    size, dimensions = len(patch.fixed), np.ndim(patch.fixed) - 1
    inside = TargetGrid(grid.margin).slices(size, dimensions)
    images = [
        np.asarray(image, np.float32)[inside][..., 0]
        for image in (patch.fixed, patch.moving)
    ]
    truth, predicted = (
        np.asarray(u, np.float32) for u in (patch.displacement, prediction)
    )
    fields = (truth, predicted, predicted - truth)
    lengths = [np.linalg.norm(u, axis=-1) for u in fields]
    grey = [_coloured(_middle(i), "gray", *DISPLAY_WINDOW) for i in images]
    height, width = grey[0].shape[:2]
    colours = [
        _coloured(_enlarged(_middle(length), grid.stride), "magma", 0.0, _LONGEST)
        for length in lengths
    ]
    tiles = grey + [colour[:height, :width] for colour in colours]
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    row = [piece for tile in tiles for piece in (tile, gap)][:-1]
    return np.concatenate(row, axis=1)


def _middle(array: np.ndarray) -> np.ndarray:
    return array[len(array) // 2] if array.ndim == 3 else array


def _enlarged(array: np.ndarray, factor: int) -> np.ndarray:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _coloured(array: np.ndarray, name: str, low: float, high: float) -> np.ndarray:
    fraction = np.clip((array - low) / (high - low), 0.0, 1.0)
    return matplotlib.colormaps[name](fraction, bytes=True)[..., :3]
