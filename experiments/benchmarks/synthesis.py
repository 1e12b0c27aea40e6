"""Artificial pairs against the same 2017 recipe in scipy.ndimage and SimpleITK."""

import jax
import jax.numpy as jnp
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from experiments import configs
from experiments.benchmarks.timing import geometric_mean, seconds
from regnet_jax.models import make_model
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest, make_generator
from regnet_jax.training import parallel
from regnet_jax.training.config import override
from regnet_jax.training.state import init_state, make_optimizer
from regnet_jax.training.step import draw_batch, make_train_step

_SIZES = (64, 128, 192)
_FAMILIES = ("low", "medium", "high")
_SPACING = 2.0
_NOISE = 5.0
# Whose step is taken for comparison, and how many of them.
_TRAINING = "unet3d_2019"
_STEPS = 6


def _filtered_peaks(rng, shape, family):
    """Peaks in an image, smoothed, with lobes stretched to the drawn extremes."""
    margin = min(round(family.border / _SPACING), min(shape) // 2 - 1)
    field = np.zeros((3, *shape), np.float32)
    places = tuple(rng.integers(margin, n - margin, 100) for n in shape)
    sizes = family.amplitude / _SPACING * rng.uniform(-1, 1, (3, 100))
    sizes[:, :2] = 0.0
    for component, values in zip(field, sizes, strict=True):
        component[places] = values
        smooth = ndimage.gaussian_filter(component, family.sigma / _SPACING)
        for sign, extreme in ((1, values.max()), (-1, values.min())):
            lobe = sign * smooth > 0
            if lobe.any():
                smooth[lobe] *= extreme / (sign * (sign * smooth[lobe]).max())
        component[:] = smooth
    return np.moveaxis(field, 0, -1)


def _reference(volume, family):
    """The recipe as one writes it with the usual libraries."""
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(np.asarray(volume[..., 0]))

    def run():
        field = _filtered_peaks(rng, volume.shape[:-1], family)
        vectors = sitk.GetImageFromArray(field[..., ::-1].astype(np.float64), True)
        transform = sitk.DisplacementFieldTransform(vectors)
        fixed = sitk.GetArrayFromImage(sitk.Resample(image, transform, sitk.sitkLinear))
        return fixed + rng.normal(0.0, _NOISE, fixed.shape), field

    return run


def _memory(compiled) -> dict:
    """What a compiled function holds at once, MiB, by the compiler's account."""
    analysis = compiled.memory_analysis()
    sizes = {
        "input": analysis.argument_size_in_bytes,
        "output": analysis.output_size_in_bytes,
        "between": analysis.temp_size_in_bytes,
    }
    sizes["peak"] = sum(sizes.values())
    return {f"{name}_mib": size / 2**20 for name, size in sizes.items()}


def _pair_memory(size: int) -> list[dict]:
    """Memory of one pair from a volume, and of the volume before it."""
    shape = (size,) * 3
    key = jax.random.key(0)
    draw = jax.jit(lambda key: chest(key, shape, spacing=_SPACING))
    deform = jax.jit(lambda *a: artificial_pair(*a, spacing=_SPACING, noise=_NOISE))
    volume = jax.ShapeDtypeStruct((*shape, 1), np.float32)
    family = jax.tree.map(np.float32, FAMILIES["high"])
    pair = deform.lower(key, volume, family).compile()
    return [
        {"case": f"{size}^3, memory of a pair", **_memory(pair)},
        {"case": f"{size}^3, memory of a chest", **_memory(draw.lower(key).compile())},
    ]


def _share_of_a_step() -> dict:
    """Which part of a training step of the U-Net its generator takes."""
    config = configs.load(_TRAINING)
    config = override(config, ["data.real=0"])
    model = make_model(config.model, dimensions=3, axis_name=parallel.AXIS)
    optimizer = make_optimizer(config)
    weight_key, stream = jax.random.split(jax.random.key(0))
    generate = make_generator(config.data)
    step = make_train_step(model, optimizer, generate, parallel.sum_over_devices)
    step = parallel.data_parallel(step, samples=config.pairs)
    indices = jnp.arange(config.pairs)
    alone = jax.jit(lambda step: draw_batch(generate, stream, step, indices))
    state = parallel.replicate(init_state(weight_key, model, optimizer, config))

    def trained():
        nonlocal state
        # From the same step each time: the families of others take longer or shorter.
        state = state._replace(step=jnp.zeros_like(state.step))
        for _ in range(_STEPS):
            state, _ = step(state, stream)
        return state.step

    def drawn():
        return [alone(jnp.int32(number)) for number in range(_STEPS)]

    times = seconds([drawn, trained], repeats=2)
    return {
        "case": f"generation in a step of {_TRAINING}",
        "seconds": times[0] / _STEPS,
        "seconds_step": times[1] / _STEPS,
        "part": times[0] / times[1],
    }


def run() -> list[dict]:
    """Times the making of one pair from a volume, by size and family.

    Returns:
        A row for each, pairs per second and how many times faster ours is; the
        geometric mean at 128^3; the memory of a pair; and the part of a training step
        that generation takes.
    """
    rows = []
    for size in _SIZES:
        volume = chest(jax.random.key(0), (size,) * 3, spacing=_SPACING)
        deform = jax.jit(artificial_pair, static_argnames=("spacing", "noise"))
        for name in _FAMILIES:
            family = jax.tree.map(np.float32, FAMILIES[name])

            def ours(volume=volume, family=family, deform=deform):
                return deform(
                    jax.random.key(1), volume, family, spacing=_SPACING, noise=_NOISE
                )

            reference = _reference(volume, FAMILIES[name].parameters)
            times = seconds([ours, reference], repeats=3)
            rows.append(
                {
                    "case": f"{size}^3, {name}",
                    "pairs_per_second": 1 / times[0],
                    "pairs_per_second_scipy_sitk": 1 / times[1],
                    "times_faster": times[1] / times[0],
                }
            )
    at_128 = [row["times_faster"] for row in rows if row["case"].startswith("128")]
    mean = {"case": "mean at 128^3", "times_faster": geometric_mean(at_128)}
    return [*rows, mean, *_pair_memory(_SIZES[-1]), _share_of_a_step()]
