"""What a config must satisfy to be run."""

import itertools
import math
import operator

import jax
from absl import logging

from regnet_jax.errors import InputError
from regnet_jax.models import make_model
from regnet_jax.synthesis.families import FAMILIES, has_room
from regnet_jax.synthesis.generator_config import GeneratorConfig
from regnet_jax.synthesis.intensity import INTENSITY_MODELS
from regnet_jax.training.config import ExperimentConfig

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
