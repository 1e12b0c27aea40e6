"""The description of a training run: frozen dataclasses, their JSON and overrides."""

import contextlib
import dataclasses
import json
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from regnet_jax.errors import InputError
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.models import MODELS, make_model
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.patches import TargetGrid


@dataclasses.dataclass(frozen=True)
class ScansConfig:
    """The scans that artificial pairs are made from.

    Attributes:
        file: path of the list of scans, one path per line; empty for none.
        resident: number of scans that are trained on at a time; 0 for all. The next two
            such sets are read, resampled and placed on the device meanwhile, so that it
            holds three times as many.
        rotate_every: steps after which other scans are put on the device.
        skip_unreadable: whether to go on without scans that cannot be read.
    """

    file: str = ""
    resident: int = 8
    rotate_every: int = 100
    skip_unreadable: bool = False


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss, a weighted sum of terms.

    Attributes:
        huber_delta: error in voxels from which the Huber loss grows linearly.
        endpoint_weight: weight of the endpoint error.
        bending_weight: weight of the bending energy of the prediction.
        folding_weight: weight of the penalty of small Jacobian determinants.
        balance_edges: edges, in voxels, between classes of displacement that get equal
            weight within a patch; none to weight all positions equally.
    """

    huber_delta: float = 1.0
    endpoint_weight: float = 0.0
    bending_weight: float = 0.0
    folding_weight: float = 0.0
    balance_edges: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, gradient clipping, weight decay and EMA.

    Attributes:
        learning_rate: highest learning rate of the schedule.
        weight_decay: of AdamW, on kernels; 0 for plain Adam.
        max_grad_norm: gradients of a larger norm are clipped to it; 0 clips none.
        ema_decay: decay of the exponential moving average (EMA) of the weights, which
            then replaces them in evaluation and use; 0 to keep no average.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_grad_norm: float = 0.0
    ema_decay: float = 0.0


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the run: linear warm-up, constant, then cosine decay.

    Attributes:
        warmup_steps: steps of linear growth to the highest rate.
        constant_fraction: fraction of the run after which the rate decays.
        final_fraction: rate at the end, as a fraction of the highest; 1 keeps it
            constant.
    """

    warmup_steps: int = 50
    constant_fraction: float = 0.0
    final_fraction: float = 0.02


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The evaluation on held-out pairs.

    Attributes:
        every: steps between evaluations.
        pairs: held-out pairs of each family.
    """

    every: int = 500
    pairs: int = 8


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that a training run depends on.

    Attributes:
        name: of the experiment.
        model: name in ``regnet_jax.models.registry``.
        data: the artificial pairs.
        batch_size: artificial pairs in a step, over all devices.
        steps: length of the run and of the learning-rate schedule.
        seed: of weights and pairs. Held-out pairs have a stream of their own.
        precision: type in which the network computes, ``float32`` or ``bfloat16``;
            weights and losses are always float32.
        microbatches: number of micro-batches that a device's batch is split into;
            gradients are accumulated over them, to save memory.
        pairs_at_once: number of pairs that a device samples at a time, as a group of
            one family and voxel size: 1 for CPUs and little memory; more for
            accelerators, which one pair does not keep busy.
        steps_per_call: largest number of steps in one call of the compiled program.
        residual_probability: probability that a step trains on the residuals of the
            network's own prediction, the input of later passes of a registration.
        init_from: network whose weights the run starts from: the name of a shipped one
            or the folder of a run; empty to start from random weights.
        inflate: whether ``init_from`` is the same network in 2D, whose kernels
            become the middle planes of the 3D ones.
        init_planes: for RegNet in 3D, two runs in 2D of a network of half the features
            that it starts from, each as ``SLICES=NETWORK``, such as
            ``axial=runs/axial``; see ``models.inflate_planes``.
        checkpoint_every: largest number of steps that a crash can lose. Checkpoints are
            written twice as often, while training goes on.
        scans: the scans behind ``data.scan_probability`` of the pairs.
        loss: the loss.
        optimizer: the optimizer.
        schedule: of the learning rate.
        evaluation: the evaluation on held-out pairs.
    """

    name: str
    model: str
    data: GeneratorConfig
    batch_size: int
    steps: int
    seed: int = 0
    precision: str = "float32"
    microbatches: int = 1
    pairs_at_once: int = 1
    steps_per_call: int = 1
    residual_probability: float = 0.0
    init_from: str = ""
    inflate: bool = False
    init_planes: tuple[str, ...] = ()
    checkpoint_every: int = 100
    scans: ScansConfig = ScansConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return self.data.dimensions

    @property
    def targets(self) -> TargetGrid:
        """The voxels of a patch that the model predicts."""
        support = make_model(self.model, dimensions=self.dimensions).support
        return TargetGrid(support.margin, support.stride)

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Spatial shape of the patches that the model takes."""
        return (self.data.patch_size,) * self.dimensions


# Former keys of earlier versions, and their present paths.
FORMER_KEYS = {
    "pairs": "batch_size",
    "parts": "microbatches",
    "dispatch": "steps_per_call",
    "residuals": "residual_probability",
    "save_every": "checkpoint_every",
    "scans": "scans.file",
    "resident": "scans.resident",
    "rotate_every": "scans.rotate_every",
    "skip_unreadable": "scans.skip_unreadable",
    "huber_delta": "loss.huber_delta",
    "endpoint": "loss.endpoint_weight",
    "bending": "loss.bending_weight",
    "folding": "loss.folding_weight",
    "balance": "loss.balance_edges",
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "clip": "optimizer.max_grad_norm",
    "average": "optimizer.ema_decay",
    "warmup": "schedule.warmup_steps",
    "final_rate": "schedule.final_fraction",
    "evaluate_every": "evaluation.every",
    "evaluation_pairs": "evaluation.pairs",
    "data.windows": "data.patches_per_pair",
    "data.window": "data.patch_size",
    "data.limits": "data.class_limits",
    "data.weights": "data.family_weights",
    "data.intensity": "data.intensity_models",
    "data.sponge": "data.sponge_probability",
    "data.unseen": "data.unseen_weight",
    "data.real": "data.scan_probability",
    "data.regions": "data.regions_probability",
    "data.multiplied": "data.predeform_probability",
    "data.amplitudes": "data.scale_amplitudes",
}
# Keys of earlier versions that were removed, and their replacement.
REMOVED_KEYS = {
    "data.margin": "margins come from the model",
    "data.stride": "strides come from the model",
    "plane_steps": "train a 2D run first and name it in init_from, with inflate=true",
}


def with_model(
    config: ExperimentConfig, model: str, predictions: int
) -> ExperimentConfig:
    """Return the experiment with another network.

    Args:
        config: any experiment.
        model: name in ``regnet_jax.models.registry``.
        predictions: along each axis of a patch.

    Returns:
        The experiment with the patch size that the network needs for them, and volumes
        that are large enough for the patches.
    """
    size = MODELS[model].support.patch_size(predictions)
    # Across slices no patch has a size.
    across = SLICE_AXES.get(config.data.slice_axis)
    shape = tuple(
        n if axis == across else max(n, size)
        for axis, n in enumerate(config.data.shape)
    )
    data = dataclasses.replace(config.data, shape=shape, patch_size=size)
    return dataclasses.replace(config, model=model, data=data)


def to_json(config: ExperimentConfig) -> str:
    """Return the config as JSON, which ``from_json`` reads.

    Args:
        config: any experiment.

    Returns:
        JSON with all values, defaults included.
    """
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> ExperimentConfig:
    """Read a config that ``to_json`` of this or an earlier version wrote.

    Args:
        text: JSON.

    Returns:
        The experiment.

    Raises:
        InputError: if the text is not a valid config.
    """
    try:
        return _build(ExperimentConfig, _with_present_keys(json.loads(text)))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"this is not the config of an experiment: {error}") from error


def _with_present_keys(values: dict) -> dict:
    """Rename the keys of earlier versions."""
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is no group of values")
    flat = cast(dict[str, Any], flatten_dict(values, sep="."))
    limits = flat.get("data.limits")
    if limits is not None and len(limits) == 1:
        # A single class, which balanced nothing.
        flat["data.limits"] = []
    present = {
        FORMER_KEYS.get(key, key): value
        for key, value in flat.items()
        if key not in REMOVED_KEYS
    }
    return unflatten_dict(present, sep=".")


def _build(cls, values: Mapping):
    if not isinstance(values, Mapping):
        raise TypeError(f"{values!r} is no group of values")
    types = typing.get_type_hints(cls)
    fields: dict[str, Any] = {
        name: _build(types[name], value)
        if dataclasses.is_dataclass(types[name])
        else (tuple(value) if isinstance(value, list) else value)
        for name, value in values.items()
    }
    return cls(**fields)


def difference(old: ExperimentConfig, new: ExperimentConfig) -> str:
    """Return the values that differ between two configs.

    Args:
        old: any experiment.
        new: any experiment.

    Returns:
        One line, as ``key: old -> new; key: old -> new``.
    """
    a, b = (flatten_dict(dataclasses.asdict(config), sep=".") for config in (old, new))
    return "; ".join(f"{k}: {a[k]} -> {b[k]}" for k in b if a[k] != b[k])


def override(config: ExperimentConfig, assignments: Sequence[str]) -> ExperimentConfig:
    """Change values by ``key=value``, with dotted keys for the groups of a config.

    Args:
        config: the experiment to change.
        assignments: for example ``["steps=100", "data.families=low,high"]``; former
            keys are accepted, see ``FORMER_KEYS``.

    Returns:
        The changed config.

    Raises:
        InputError: for an unknown key, or a value of another type.
    """
    removed = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise InputError(f"--override {assignment}: write KEY=VALUE")
        if key in REMOVED_KEYS:
            removed[key] = value
            continue
        if key == "data.limits" and "," not in value:
            # A single class, which balanced nothing.
            value = ""
        path = FORMER_KEYS.get(key, key).split(".")
        config = _replace(config, path, value, assignment)
    for key, value in removed.items():
        margin, stride = config.targets
        present = {"data.margin": margin, "data.stride": stride, "plane_steps": 0}
        if value != str(present[key]):
            raise InputError(
                f"--override {key}={value}: this key is gone; {REMOVED_KEYS[key]}"
            )
    return config


@contextlib.contextmanager
def name_former_keys(assignments: Sequence[str]) -> Iterator[None]:
    """Report the present names of former keys in a message or in the log.

    Args:
        assignments: as for ``override``.

    Yields:
        Nothing. The names are appended to an ``InputError`` that is raised within the
        context; without one they are logged at the end.
    """
    keys = [assignment.partition("=")[0] for assignment in assignments]
    names = "; ".join(f"{k} is now {FORMER_KEYS[k]}" for k in keys if k in FORMER_KEYS)
    try:
        yield
    except InputError as error:
        if not names:
            raise
        raise InputError(f"{error} ({names})") from error
    if names:
        logging.warning("--override: %s", names)


def _replace(config, path, value, assignment):
    names = [field.name for field in dataclasses.fields(config)]
    if path[0] not in names:
        raise InputError(
            f"--override {assignment}: no key {path[0]!r}; there are {', '.join(names)}"
        )
    old = getattr(config, path[0])
    if dataclasses.is_dataclass(old) != (len(path) > 1):
        raise InputError(
            f"--override {assignment}: {path[0]!r} is "
            + ("a group; name one of its keys" if len(path) == 1 else "no group")
        )
    if len(path) > 1:
        new = _replace(old, path[1:], value, assignment)
    else:
        annotation = typing.get_type_hints(type(config))[path[0]]
        new = _parse(annotation, value, assignment)
    return dataclasses.replace(config, **{path[0]: new})


def _parse(annotation, value: str, assignment: str):
    """Convert a string to the annotated type; commas separate elements of a tuple."""
    try:
        if typing.get_origin(annotation) is tuple:
            element = typing.get_args(annotation)[0]
            return tuple(_scalar(element, item) for item in value.split(",") if value)
        return _scalar(annotation, value)
    except ValueError as error:
        raise InputError(f"--override {assignment}: {error}") from error


def _scalar(kind, value: str):
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{value!r} is neither true nor false")
        return value.lower() == "true"
    number = kind(value)
    if kind is float and math.isnan(number):
        raise ValueError("not a number")
    return number
