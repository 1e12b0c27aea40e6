"""The description of a training run: a frozen dataclass, its JSON and overrides."""

import dataclasses
import itertools
import json
import math
import operator
import typing
from collections.abc import Sequence

import jax
from absl import logging

from regnet_jax.errors import InputError
from regnet_jax.models import make_model
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import FAMILIES, has_room
from regnet_jax.synthesis.scanners import INTENSITY_MODELS


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything a training run depends on.

    Attributes:
        name: of the experiment.
        model: name in ``regnet_jax.models.registry``.
        data: the artificial pairs.
        pairs: artificial pairs in a step, over all devices.
        steps: length of the run and of the learning-rate schedule.
        learning_rate: highest rate of Adam.
        warmup: steps of linear growth to it; a cosine decay follows.
        final_rate: rate at the end, as a part of the highest; 1 keeps it constant.
        seed: of weights and pairs. Held-out pairs have a stream of their own.
        save_every: most steps that a crash can cost. Checkpoints are written twice as
            often, while training goes on.
        evaluate_every: steps between evaluations on held-out pairs.
        evaluation_pairs: held-out pairs of each family.
        plane_steps: steps of a 2D network on slices before the 3D network, which
            takes over its kernels; 0 to start from nothing.
        clip: largest norm of a step's gradient; 0 leaves it.
        scans: file that names the scans of which ``data.real`` of the pairs are
            made, a path a line.
        init_from: network whose weights the run starts from: one that ships, or the
            folder of a run; empty to start from random ones.
        residuals: chance of a step on what the network's own answer leaves of its
            pairs, as the later passes of a registration see them.
        resident: scans that are on the device at a time; 0 for all.
        rotate_every: steps between changes of them.
        skip_unreadable: whether to go on without scans that cannot be read.
        huber_delta: error in voxels from which the loss grows linearly.
        endpoint: weight in the loss of the length of the error.
        bending: weight in the loss of the bending energy.
        folding: weight in the loss of small Jacobian determinants.
        balance: edges, in voxels, of classes of displacement that count alike within
            a window; none to count positions alike.
        weight_decay: of AdamW, on kernels.
        average: decay of the average of the weights that is evaluated and used; 0 to
            use the weights themselves.
        precision: type in which the network computes, ``float32`` or ``bfloat16``;
            weights and losses are of float32 always.
        parts: of a device's pairs that pass through the network one after the other,
            to save memory; the result is that of all at once.
        dispatch: most steps that are computed in one go.
    """

    name: str
    model: str
    data: GeneratorConfig
    pairs: int
    steps: int
    learning_rate: float = 1e-3
    warmup: int = 50
    final_rate: float = 0.02
    seed: int = 0
    save_every: int = 100
    evaluate_every: int = 500
    evaluation_pairs: int = 8
    plane_steps: int = 0
    clip: float = 0.0
    scans: str = ""
    init_from: str = ""
    residuals: float = 0.0
    resident: int = 0
    rotate_every: int = 100
    skip_unreadable: bool = False
    huber_delta: float = 1.0
    endpoint: float = 0.0
    bending: float = 0.0
    folding: float = 0.0
    balance: tuple[float, ...] = ()
    weight_decay: float = 0.0
    average: float = 0.0
    precision: str = "float32"
    parts: int = 1
    dispatch: int = 1


# Slices are drawn for each volume that a step in 3D would draw: they cost little.
_SLICES = 4


def in_the_plane(config: ExperimentConfig) -> ExperimentConfig:
    """The 2D run that comes before a 3D one.

    Args:
        config: of the 3D run.

    Returns:
        The same experiment on procedural slices, ``plane_steps`` long.
    """
    return dataclasses.replace(
        config,
        name=f"{config.name}-plane",
        data=dataclasses.replace(config.data, shape=config.data.shape[1:], real=0.0),
        pairs=_SLICES * config.pairs,
        steps=config.plane_steps,
        evaluate_every=config.plane_steps,
        plane_steps=0,
    )


def to_json(config: ExperimentConfig) -> str:
    """The config as text, which ``from_json`` reads back.

    Args:
        config: any experiment.

    Returns:
        JSON with every value written out.
    """
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> ExperimentConfig:
    """The config that ``to_json`` wrote.

    Args:
        text: JSON.

    Returns:
        The experiment.

    Raises:
        InputError: if the text is no such config.
    """
    try:
        return _build(ExperimentConfig, json.loads(text))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"this is not the config of an experiment: {error}") from error


def _build(cls, values: dict):
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is no group of values")
    types = typing.get_type_hints(cls)
    fields = {
        name: _build(types[name], value)
        if dataclasses.is_dataclass(types[name])
        else (tuple(value) if isinstance(value, list) else value)
        for name, value in values.items()
    }
    return cls(**fields)


def override(config: ExperimentConfig, assignments: Sequence[str]) -> ExperimentConfig:
    """Changes values by ``key=value``, with dots into the parts of a config.

    Args:
        config: what to start from.
        assignments: for example ``["steps=100", "data.families=low,high"]``.

    Returns:
        The changed config.

    Raises:
        InputError: for an unknown key, or a value of another type.
    """
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise InputError(f"--override {assignment}: write KEY=VALUE")
        config = _replace(config, key.split("."), value, assignment)
    return config


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
    """A string as the annotated type; a tuple is a list with commas."""
    try:
        if typing.get_origin(annotation) is tuple:
            element = typing.get_args(annotation)[0]
            return tuple(_scalar(element, part) for part in value.split(",") if value)
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


PRECISIONS = ("float32", "bfloat16")
_COUNTS = (
    *("pairs", "steps", "save_every", "evaluate_every", "evaluation_pairs"),
    *("parts", "dispatch", "rotate_every"),
)
# Values from nothing to all.
_PARTS = (
    *("data.sponge", "data.unseen", "data.real"),
    *("data.regions", "data.multiplied", "residuals"),
)
# Values that must be positive and values that may be zero too.
_POSITIVE = (
    *(*_COUNTS, "learning_rate", "huber_delta"),
    *("data.spacing", "data.windows", "data.stride", "data.amplitude"),
)
_NOT_NEGATIVE = (
    *("warmup", "final_rate", "plane_steps", "clip", "weight_decay", "average"),
    *("endpoint", "bending", "folding", "resident"),
    *("data.margin", "data.noise_fixed", "data.noise_moving", *_PARTS),
)


def check(config: ExperimentConfig, *, devices: int) -> None:
    """Refuses what has the right types and cannot be run.

    Args:
        config: any experiment.
        devices: over which the pairs of a step are spread.

    Raises:
        InputError: names the key, its value and what would do.
    """
    for key in (*_POSITIVE, *_NOT_NEGATIVE):
        value = operator.attrgetter(key)(config)
        positive = key in _POSITIVE
        if not math.isfinite(value) or value < 0 or (positive and not value):
            wanted = "a positive" if positive else "zero or a positive"
            raise InputError(f"{key}={value}: give {wanted} number")
    for key in _PARTS:
        if (value := operator.attrgetter(key)(config)) > 1:
            raise InputError(f"{key}={value}: give a number from 0 to 1")
    if config.data.real and not config.scans:
        raise InputError(
            f"data.real={config.data.real}: needs scans; name a file that lists them,"
            " --override scans=FILE, or take data.real=0"
        )
    if config.pairs % devices:
        raise InputError(f"pairs={config.pairs}: give a multiple of {devices} devices")
    if config.plane_steps and len(config.data.shape) == 2:
        raise InputError(
            f"plane_steps={config.plane_steps}: only 3D runs start in the plane; give 0"
        )
    if config.plane_steps and config.model == "corrnet":
        raise InputError(
            f"plane_steps={config.plane_steps}: corrnet learns without a start in the"
            " plane, which does not fit it; give 0"
        )
    if config.residuals and (config.data.margin or config.data.stride != 1):
        raise InputError(
            f"residuals={config.residuals}: needs a target at every voxel; give"
            " data.margin=0 and data.stride=1, or residuals=0"
        )
    _check_update(config, devices)
    _check_fields(config.data)
    _check_window(config)
    _check_room(config.data)


def _check_room(data: GeneratorConfig) -> None:
    """Refuses a stage at which nothing moves; warns of a family that does not."""
    shape = ",".join(map(str, data.shape))
    for stage in data.stages:
        chances = dict(zip(data.families, data.chances, strict=True))
        moving = [name for name in data.families if FAMILIES[name].amplitude]
        moving = [name for name in moving if chances[name]]
        still = [
            name
            for name in moving
            if has_room(FAMILIES[name], stage.shape, spacing=stage.spacing) is False
        ]
        fact = (
            f"data.families={','.join(still)}: finds nothing to move in"
            f" data.shape={shape} at {stage.spacing:g} mm"
        )
        if still and still == moving:
            raise InputError(f"{fact}; give a larger shape or other families")
        if still:
            logging.warning("%s: its fields are zero; give a larger shape", fact)


def _check_update(config: ExperimentConfig, devices: int) -> None:
    if config.average >= 1:
        raise InputError(f"average={config.average}: give an average below 1")
    if list(config.balance) != sorted({*config.balance}):
        edges = ",".join(map(str, config.balance))
        raise InputError(f"balance={edges}: give increasing edges")
    if config.precision not in PRECISIONS:
        known = " or ".join(PRECISIONS)
        raise InputError(f"precision={config.precision}: give {known}")
    windows = config.pairs // devices * config.data.windows
    if windows % config.parts:
        raise InputError(
            f"parts={config.parts}: give a divisor of the {windows} windows of a device"
        )


def _check_fields(data: GeneratorConfig) -> None:
    if not data.families:
        raise InputError(f"data.families=: name one or more of {', '.join(FAMILIES)}")
    for name in data.families:
        if name not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise InputError(f"data.families={name}: unknown; there are {known}")
    for name in data.intensity:
        if name not in INTENSITY_MODELS:
            known = ", ".join(INTENSITY_MODELS)
            raise InputError(f"data.intensity={name}: unknown; there are {known}")
    one_each = len(data.chances) == len(data.families)
    if not one_each or any(w < 0 for w in data.chances) or not sum(data.chances):
        raise InputError(
            f"data.weights={','.join(map(str, data.weights))}: give one for each of the"
            f" {len(data.families)} families, none negative and not all zero, or none"
        )
    if not data.scales or any(not s > 0 or math.isinf(s) for s in data.scales):
        scales = ",".join(map(str, data.scales))
        raise InputError(f"data.scales={scales}: give positive factors")
    steps = sorted(data.scales)
    if any(b % a for a, b in itertools.pairwise(steps)):
        scales = ",".join(map(str, data.scales))
        raise InputError(f"data.scales={scales}: give multiples of one another")
    factors = data.amplitudes
    one_each = len(factors) in (0, len(data.scales))
    if not one_each or any(not a > 0 or math.isinf(a) for a in factors):
        raise InputError(
            f"data.amplitudes={','.join(map(str, factors))}: give a positive factor for"
            f" each of the {len(data.scales)} scales, or none"
        )
    if list(data.limits) != sorted({*data.limits}) or data.limits[0] <= 0:
        limits = ",".join(map(str, data.limits))
        raise InputError(f"data.limits={limits}: give positive, increasing millimetres")


def _check_window(config: ExperimentConfig) -> None:
    """The window fits into the volume, and the model answers for its targets."""
    data = config.data
    if len(data.shape) not in (2, 3) or min(data.shape) < data.window:
        shape = ",".join(map(str, data.shape))
        raise InputError(
            f"data.shape={shape}: give 2 or 3 numbers, none below the window of"
            f" {data.window} voxels"
        )
    model = make_model(config.model, dimensions=len(data.shape))
    window = jax.ShapeDtypeStruct((1, *[data.window] * len(data.shape), 1), "float32")
    try:
        # Traced without running: the model itself knows best what it answers for.
        answer, _ = jax.eval_shape(
            lambda w: model.init_with_output(jax.random.key(0), w, w, train=False),
            window,
        )
    except ValueError as error:
        raise InputError(f"data.window={data.window}: {error}") from error
    targets = len(range(data.margin, data.window - data.margin, data.stride))
    if answer.shape[1] != targets:
        raise InputError(
            f"data.window={data.window}: the model predicts {answer.shape[1]} positions"
            f" on an axis and data.margin and data.stride give {targets}; change them"
        )
