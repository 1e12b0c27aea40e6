"""Checks of a config beyond its types, before anything is computed."""

import itertools
import math
import operator

import jax
from absl import logging

from regnet_jax.errors import InputError
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.intensity import CT, is_by_percentiles
from regnet_jax.models import HALVES, MODELS, make_model
from regnet_jax.models.corrnet import CorrNet
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.fields.families import (
    CHEST_FAMILIES,
    FAMILIES,
    has_room,
)
from regnet_jax.synthesis.mr_scanners import MR_MODELS
from regnet_jax.synthesis.patches import TargetGrid
from regnet_jax.synthesis.scanners import CT_MODELS, INTENSITY_MODELS
from regnet_jax.training.config import ExperimentConfig

PRECISIONS = ("float32", "bfloat16")
_FRACTIONS = [
    "data.sponge_probability",
    "data.unseen_weight",
    "data.scan_probability",
    "data.regions_probability",
    "data.predeform_probability",
    "residual_probability",
    "schedule.constant_fraction",
    "schedule.final_fraction",
]
_POSITIVE = [
    "batch_size",
    "steps",
    "microbatches",
    "pairs_at_once",
    "steps_per_call",
    "checkpoint_every",
    "scans.rotate_every",
    "evaluation.every",
    "evaluation.pairs",
    "optimizer.learning_rate",
    "loss.huber_delta",
    "data.spacing",
    "data.anatomy_scale",
    "data.patches_per_pair",
    "data.patch_size",
    "data.amplitude",
]
_NOT_NEGATIVE = [
    "scans.resident",
    "schedule.warmup_steps",
    "optimizer.max_grad_norm",
    "optimizer.weight_decay",
    "optimizer.ema_decay",
    "loss.endpoint_weight",
    "loss.bending_weight",
    "loss.folding_weight",
    "data.noise_fixed",
    "data.noise_moving",
    "data.through_plane",
    "data.lung_weight",
    "data.vessel_weight",
    *_FRACTIONS,
]
# JAX takes the seed of a key modulo this number.
_SEEDS = 2**32
# Targets along an axis that the derivatives of a loss need.
_LEAST_TARGETS = {"loss.bending_weight": 3, "loss.folding_weight": 2}
# What is done to lungs alone, and the values that do nothing.
_LUNGS_ALONE = {"sponge_probability": 0, "lung_weight": 1, "vessel_weight": 1}


def check(config: ExperimentConfig, *, devices: int) -> None:
    """Refuse a config that cannot be run although its types are right.

    Args:
        config: any experiment.
        devices: number of devices that share the batch of a step.

    Raises:
        InputError: names the key, its value and valid values.
    """
    _check_numbers(config)
    _check_data(config.data)
    _check_patch(config)
    _check_room(config.data)
    _check_start(config)
    _check_step(config, devices)


def _check_numbers(config: ExperimentConfig) -> None:
    for key in (*_POSITIVE, *_NOT_NEGATIVE):
        value = operator.attrgetter(key)(config)
        positive = key in _POSITIVE
        if not math.isfinite(value) or value < 0 or (positive and not value):
            wanted = "a positive" if positive else "zero or a positive"
            raise InputError(f"{key}={value}: give {wanted} number")
    if not 0 <= config.seed < _SEEDS:
        raise InputError(f"seed={config.seed}: give a number from 0 to {_SEEDS - 1}")
    for key in _FRACTIONS:
        if (value := operator.attrgetter(key)(config)) > 1:
            raise InputError(f"{key}={value}: give a number from 0 to 1")


def _check_start(config: ExperimentConfig) -> None:
    """Check the scans and the weights that the run starts from."""
    if config.data.scan_probability and not config.scans.file:
        raise InputError(
            f"data.scan_probability={config.data.scan_probability}: needs scans; name a"
            " file that lists them, --override scans.file=FILE, or take"
            " data.scan_probability=0"
        )
    if config.init_planes:
        _check_planes(config)
    if not config.inflate:
        return
    if not config.init_from:
        raise InputError("inflate=true: needs a 2D run; name it in init_from")
    if config.dimensions == 2:
        raise InputError("inflate=true: only 3D runs start from a 2D one; give false")
    if issubclass(MODELS[config.model], CorrNet):
        raise InputError(
            f"inflate=true: the weights of {config.model} in 2D do not fit its 3D form;"
            " give false"
        )


def _check_planes(config: ExperimentConfig) -> None:
    given = [plane.partition("=")[::2] for plane in config.init_planes]
    start = f"init_planes={','.join(config.init_planes)}"
    axes = {axis for axis, name in given if axis in SLICE_AXES and name}
    if len(given) != 2 or len(axes) != 2:
        raise InputError(
            f"{start}: give two networks as SLICES=NETWORK, of different slices among"
            f" {', '.join(SLICE_AXES)}"
        )
    if config.model not in HALVES or config.dimensions != 3:
        raise InputError(
            f"{start}: is for the models {' and '.join(HALVES)} in 3D; give none"
        )
    if config.init_from:
        raise InputError(f"{start}: is instead of init_from; give one of both")


def _check_step(config: ExperimentConfig, devices: int) -> None:
    if config.batch_size % devices:
        raise InputError(
            f"batch_size={config.batch_size}: give a multiple of {devices} devices"
        )
    if config.batch_size // devices % config.pairs_at_once:
        raise InputError(
            f"pairs_at_once={config.pairs_at_once}: give a divisor of the"
            f" {config.batch_size // devices} pairs of a device"
        )
    patches = config.batch_size // devices * config.data.patches_per_pair
    if patches % config.microbatches:
        raise InputError(
            f"microbatches={config.microbatches}: give a divisor of the {patches}"
            " patches of a device"
        )
    if config.residual_probability and config.targets != TargetGrid():
        raise InputError(
            f"residual_probability={config.residual_probability}: needs a target at"
            f" every voxel, which {config.model} does not predict; give 0"
        )
    if config.optimizer.ema_decay >= 1:
        raise InputError(
            f"optimizer.ema_decay={config.optimizer.ema_decay}: give a decay below 1"
        )
    edges = config.loss.balance_edges
    if list(edges) != sorted({*edges}) or (edges and edges[0] <= 0):
        text = ",".join(map(str, edges))
        raise InputError(f"loss.balance_edges={text}: give positive, increasing edges")
    if config.precision not in PRECISIONS:
        known = " or ".join(PRECISIONS)
        raise InputError(f"precision={config.precision}: give {known}")


def _check_data(data: GeneratorConfig) -> None:
    if not data.families:
        raise InputError(f"data.families=: name one or more of {', '.join(FAMILIES)}")
    for name in data.families:
        if name not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise InputError(f"data.families={name}: unknown; there are {known}")
    if len({*data.families}) < len(data.families):
        raise InputError(f"data.families={','.join(data.families)}: name each once")
    for name in data.intensity_models:
        if name not in INTENSITY_MODELS:
            known = ", ".join(INTENSITY_MODELS)
            raise InputError(
                f"data.intensity_models={name}: unknown; there are {known}"
            )
    weights = data.probabilities
    one_each = len(weights) == len(data.families)
    if not one_each or any(w < 0 for w in weights) or not sum(weights):
        text = ",".join(map(str, data.family_weights))
        raise InputError(
            f"data.family_weights={text}: give one for each of the"
            f" {len(data.families)} families, none negative and not all zero, or none"
        )
    _check_intensity(data)
    _check_scales(data)
    _check_slices(data)
    limits = data.class_limits
    if list(limits) != sorted({*limits}) or (limits and limits[0] <= 0):
        text = ",".join(map(str, limits))
        raise InputError(
            f"data.class_limits={text}: give positive, increasing millimetres, or none"
        )
    if data.balance_targets and not limits:
        raise InputError(
            "data.balance_targets=true: needs classes; give data.class_limits too"
        )


def _check_intensity(data: GeneratorConfig) -> None:
    """Refuse what is of CT for other images, and what is of MR for CT."""
    preset = f"data.intensity_preset={data.intensity_preset}"
    if not (data.is_ct or is_by_percentiles(data.intensity_preset)):
        raise InputError(f"{preset}: give {CT}, mr, or two percentiles such as 1,99")
    if data.is_ct:
        for name in data.intensity_models:
            if name in MR_MODELS:
                raise InputError(
                    f"data.intensity_models={name}: is of MR and {preset}; take it"
                    " out, or give data.intensity_preset=mr"
                )
        return
    for key, values, names in (
        ("data.families", data.families, CHEST_FAMILIES),
        ("data.intensity_models", data.intensity_models, CT_MODELS),
    ):
        for name in values:
            if name in names:
                raise InputError(
                    f"{key}={name}: needs Hounsfield units and {preset}; take it out,"
                    f" or give data.intensity_preset={CT}"
                )
    for key, neutral in _LUNGS_ALONE.items():
        if (value := getattr(data, key)) != neutral:
            raise InputError(
                f"data.{key}={value:g}: needs Hounsfield units and {preset}; give"
                f" data.{key}={neutral}, or data.intensity_preset={CT}"
            )


def _check_slices(data: GeneratorConfig) -> None:
    if data.slice_axis not in ("", *SLICE_AXES):
        known = ", ".join(SLICE_AXES)
        raise InputError(
            f"data.slice_axis={data.slice_axis}: give one of {known}, or none"
        )
    if data.slice_axis and len(data.shape) != 3:
        raise InputError(
            f"data.slice_axis={data.slice_axis}: needs volumes in 3D; give data.shape"
            " three numbers"
        )
    if data.through_plane and not data.slice_axis:
        raise InputError(
            f"data.through_plane={data.through_plane}: is for slices of 3D volumes;"
            " give data.slice_axis, too"
        )
    if data.through_plane and data.sponge_probability:
        raise InputError(
            f"data.through_plane={data.through_plane}: changes of volume do not follow"
            " from a slice; give data.sponge_probability=0"
        )


def _check_scales(data: GeneratorConfig) -> None:
    text = ",".join(map(str, data.scales))
    if not data.scales or any(not s > 0 or math.isinf(s) for s in data.scales):
        raise InputError(f"data.scales={text}: give positive factors")
    if any(b % a for a, b in itertools.pairwise(sorted(data.scales))):
        raise InputError(f"data.scales={text}: give multiples of one another")
    factors = data.scale_amplitudes
    one_each = len(factors) in (0, len(data.scales))
    if not one_each or any(not a > 0 or math.isinf(a) for a in factors):
        raise InputError(
            f"data.scale_amplitudes={','.join(map(str, factors))}: give a positive"
            f" factor for each of the {len(data.scales)} scales, or none"
        )


def _check_patch(config: ExperimentConfig) -> None:
    """Check that a patch fits into the volume, and the model into a patch."""
    data, size = config.data, config.data.patch_size
    fits = len(data.shape) in (2, 3) and all(
        map(operator.ge, data.shape, data.patch_box)
    )
    if not fits:
        shape = ",".join(map(str, data.shape))
        raise InputError(
            f"data.shape={shape}: give 2 or 3 numbers, none below the patch of"
            f" {size} voxels"
        )
    model = make_model(config.model, dimensions=config.dimensions)
    patch = jax.ShapeDtypeStruct((1, *config.patch_shape, 1), "float32")
    try:
        # Trace the model, without running it, to get the shape of its prediction.
        prediction, _ = jax.eval_shape(
            lambda p: model.init_with_output(jax.random.key(0), p, p, train=False),
            patch,
        )
    except ValueError as error:
        raise InputError(f"data.patch_size={size}: {error}") from error
    (targets, *_) = config.targets.slices(size, config.dimensions)
    count = len(range(size)[targets])
    if prediction.shape[1] != count:
        raise InputError(
            f"data.patch_size={size}: {config.model} predicts {prediction.shape[1]}"
            f" positions on an axis, where its margin and stride give {count}; take"
            " another size"
        )
    for key, least in _LEAST_TARGETS.items():
        if operator.attrgetter(key)(config) and count < least:
            raise InputError(
                f"{key}: needs {least} targets on an axis, of which a patch of {size}"
                f" voxels has {count}; give 0, or a larger data.patch_size"
            )


def _check_room(data: GeneratorConfig) -> None:
    """Refuse a shape without room for any family; warn if only some have no room."""
    shape = ",".join(map(str, data.shape))
    for stage in data.stages:
        weights = dict(zip(data.families, data.probabilities, strict=True))
        moving = [name for name in data.families if FAMILIES[name].amplitude]
        moving = [name for name in moving if weights[name]]
        size = {"spacing": stage.chest_spacing}
        still = [
            name
            for name in moving
            if has_room(FAMILIES[name], stage.shape, **size) is False
        ]
        fact = (
            f"data.families={','.join(still)}: finds nothing to move in"
            f" data.shape={shape} at {stage.spacing:g} mm"
        )
        if still and still == moving:
            raise InputError(f"{fact}; give a larger shape or other families")
        if still:
            logging.warning("%s: its fields are zero; give a larger shape", fact)
