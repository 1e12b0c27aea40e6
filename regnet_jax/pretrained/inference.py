"""How registration uses a trained network: ``inference.json`` beside its weights.

Registration reads this file and not the config of the training, so that a network can
be trained further, averaged or exported without a change of its use.
"""

import dataclasses
import itertools
import json
import math
import numbers
from dataclasses import dataclass
from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.files import write_text
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.intensity import is_preset

INFERENCE = "inference.json"
# Predictions of a tile along each axis, by dimension: one compiled program then serves
# every image, the margin costs little, and a tile fits in 2 GiB.
DEFAULT_TILE = {2: 128, 3: 32}


@dataclass(frozen=True)
class InferenceConfig:
    """How registration uses a network.

    Attributes:
        name: of the network, for reports.
        model: name in ``regnet_jax.models.registry``.
        dimensions: 2 or 3.
        voxel_sizes: of the passes, isotropic, mm, coarse to fine; each a multiple of
            the next.
        extra_pass: whether the pass at the finest voxel size may be repeated.
        fineness: factor by which the voxels of a registration are smaller than
            ``voxel_sizes`` says, unless it is to be fast. Networks that predict on a
            lattice coarser than their voxels gain from it, also where the images are no
            finer.
        shrinkage: each pass halves displacements of this length, as they may be noise,
            and shrinks longer ones less; voxels of the pass. 0 keeps all. Where the
            network estimates its errors, these count, too (``passes.settle``).
        tile: predictions of a tile along each axis where there is no memory limit; used
            by networks with a margin alone (``Support.margin``).
        slice_axis: across the slices on which a 2D network is used in 3D images:
            ``axial``, ``coronal`` or ``sagittal``.
        stage_weights: for a network per voxel size, as in RegNet 2019, the name of a
            shipped network or the folder of a run for each of ``voxel_sizes``; folders
            are relative to that of this file. Empty where one network serves all.
        intensity_preset: how images are mapped where the user leaves it to ``auto``:
            ``auto`` again, by what each image is, or as in the training, see
            ``regnet_jax.intensity``.
        adapt_voxel_size: whether images too small or too large for a human body get
            another voxel size than those of the network.
        error_width: factor of the widths of estimated errors (``--confidence``), by
            which 95 % of those of held-out pairs lie within their bounds; 1 changes
            nothing.
    """

    name: str
    model: str
    dimensions: int
    voxel_sizes: tuple[float, ...]
    extra_pass: bool
    shrinkage: float
    tile: int
    slice_axis: str = "axial"
    stage_weights: tuple[str, ...] = ()
    intensity_preset: str = "auto"
    adapt_voxel_size: bool = True
    error_width: float = 1.0
    fineness: float = 1.0

    @property
    def voxel_size(self) -> float:
        """The finest voxel size, mm."""
        return self.voxel_sizes[-1]

    @property
    def factors(self) -> tuple[int, ...]:
        """Voxel sizes of all passes, coarse to fine, as multiples of the finest."""
        factors = tuple(round(size / self.voxel_size) for size in self.voxel_sizes)
        return (*factors, 1) if self.extra_pass else factors


def write_inference(folder: Path, config: InferenceConfig) -> None:
    """Write ``inference.json`` into a folder that holds weights.

    Args:
        folder: of a shipped network or of a run; it must exist.
        config: how the network is used.
    """
    text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    write_text(Path(folder) / INFERENCE, text)


def read_inference(folder: Path) -> InferenceConfig:
    """Read ``inference.json`` of a folder that holds weights.

    Args:
        folder: of a shipped network or of a run.

    Returns:
        How the network is used.

    Raises:
        InputError: if the file is missing or its content is not valid.
    """
    path = Path(folder) / INFERENCE
    if not path.is_file():
        raise InputError(
            f"{folder}: no {INFERENCE} here, as this run is of an earlier version;"
            " give the command of its training again, which adds the file"
        )
    try:
        values = json.loads(path.read_text("utf-8"))
        for key in {"voxel_sizes", "stage_weights"} & values.keys():
            values[key] = tuple(values[key])
        config = InferenceConfig(**values)
        reason = _fault(config)
    except (TypeError, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        raise InputError(
            f"{path}: does not say how a network is used ({reason}); remove it and"
            " give the command of the training again, which writes it"
        )
    weights = tuple(
        str(path.parent / name) if (path.parent / name).is_dir() else name
        for name in config.stage_weights
    )
    return dataclasses.replace(config, stage_weights=weights)


def _fault(config: InferenceConfig) -> str:
    """Return the first field that is not valid, with its value, or an empty string."""
    sizes = config.voxel_sizes
    positive = all(isinstance(s, numbers.Real) and 0 < s < math.inf for s in sizes)
    ratios = [a / b for a, b in itertools.pairwise(sizes)] if positive else []
    checks = {
        "dimensions": config.dimensions in (2, 3),
        "voxel_sizes": positive
        and len(sizes) > 0
        and all(r >= 1 and math.isclose(r, round(r)) for r in ratios),
        "extra_pass": isinstance(config.extra_pass, bool),
        "shrinkage": 0 <= config.shrinkage < math.inf,
        "tile": isinstance(config.tile, int) and config.tile > 0,
        "slice_axis": config.slice_axis in SLICE_AXES,
        "stage_weights": len(config.stage_weights) in (0, len(sizes))
        and all(isinstance(name, str) for name in config.stage_weights),
        "intensity_preset": is_preset(config.intensity_preset),
        "adapt_voxel_size": isinstance(config.adapt_voxel_size, bool),
        "error_width": 0 < config.error_width < math.inf,
        "fineness": 0 < config.fineness < math.inf,
    }
    wrong = [name for name, fits in checks.items() if not fits]
    return f"{wrong[0]}: {getattr(config, wrong[0])}" if wrong else ""
