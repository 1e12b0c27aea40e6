"""The description of a training run: a frozen dataclass, its JSON and overrides."""

import dataclasses
import json
import math
import typing
from collections.abc import Sequence

from regnet_jax.errors import InputError
from regnet_jax.synthesis.generator_config import GeneratorConfig


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
