"""Artificial pairs against the same 2017 recipe in scipy.ndimage and SimpleITK."""

import jax
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from experiments.benchmarks.timing import geometric_mean, seconds
from regnet_jax.synthesis import FAMILIES, artificial_pair, chest

_SIZES = (64, 128, 192)
_FAMILIES = ("low", "medium", "high")
_SPACING = 2.0
_NOISE = 5.0


def _filtered_peaks(rng, shape, family):
    """Return peaks, smoothed, with lobes rescaled to the sampled extremes."""
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
    """Return a function that follows the recipe with SciPy and SimpleITK."""
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
    """Return the memory of a compiled function as the compiler reports it, MiB."""
    analysis = compiled.memory_analysis()
    sizes = {
        "input": analysis.argument_size_in_bytes,
        "output": analysis.output_size_in_bytes,
        "between": analysis.temp_size_in_bytes,
    }
    sizes["peak"] = sum(sizes.values())
    return {f"{name}_mib": size / 2**20 for name, size in sizes.items()}


def _pair_memory(size: int) -> list[dict]:
    """Return the memory of sampling a volume, and of making a pair from it."""
    shape = (size,) * 3
    key = jax.random.key(0)
    sample = jax.jit(lambda key: chest(key, shape, spacing=_SPACING))
    deform = jax.jit(lambda *a: artificial_pair(*a, spacing=_SPACING, noise=_NOISE))
    volume = jax.ShapeDtypeStruct((*shape, 1), np.float32)
    family = jax.tree.map(np.float32, FAMILIES["high"])
    pair = deform.lower(key, volume, family).compile()
    return [
        {"case": f"{size}^3, memory of a pair", **_memory(pair)},
        {
            "case": f"{size}^3, memory of a chest",
            **_memory(sample.lower(key).compile()),
        },
    ]


def run() -> list[dict]:
    """Time how long it takes to make a pair from a volume, by size and family.

    Returns:
        A row for each with pairs per second and the library's speed-up; the geometric
        mean of the speed-ups at 128^3; and the memory of the largest pair.
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
    return [*rows, mean, *_pair_memory(_SIZES[-1])]
