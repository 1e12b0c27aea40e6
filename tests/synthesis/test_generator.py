"""Pairs at several voxel sizes, of scans, with weights and with density."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi

from experiments import configs
from regnet_jax.hounsfield import AIR
from regnet_jax.synthesis import another_patient
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.generator import (
    VolumeSources,
    make_generator,
    sample_patches,
)
from regnet_jax.synthesis.volumes.scans import ScanBank
from tests.helpers.tiny import smooth_patches

CONFIG = GeneratorConfig(
    shape=(25, 28),
    spacing=2.0,
    families=("translation",),
    noise_fixed=0.0,
    noise_moving=0.0,
    patches_per_pair=1,
    patch_size=25,
    amplitude=0.6,
)
SHAPES = {2: (25, 28), 3: (13, 15, 14)}
SCALES = (1.0, 2.0, 4.0)


def _config(dimensions=2, **values):
    shape = SHAPES[dimensions]
    return dataclasses.replace(CONFIG, shape=shape, patch_size=min(shape), **values)


def _generator(config, volume=None, regions=None):
    """A generator; ``volume(shape, spacing)`` may take the place of the chests."""
    sources = VolumeSources()
    if volume:

        def chest(key, shape, *, spacing):
            return jnp.asarray(volume(shape, spacing), jnp.float32)[..., None]

        sources = VolumeSources(chest, regions or sources.regions)
    sample = functools.partial(sample_patches, sources=sources)
    return make_generator(config, sample=sample)


def _drawer(config, volume=None):
    """``draw(seed)``: one patch on the host, without its axis."""
    generate = jax.jit(_generator(config, volume))

    def draw(seed):
        pairs = generate(jax.random.key(seed))
        return jax.tree.map(lambda a: np.asarray(a)[0], pairs)

    return draw


def _draw(config, volume=None):
    return _drawer(config, volume)(0)


def _level(shape, spacing):
    return np.full(shape, spacing)


def test_stages_have_voxels_and_amplitudes_of_their_scale():
    stages = dataclasses.replace(CONFIG, scales=SCALES).stages
    assert [stage.spacing for stage in stages] == [2.0, 4.0, 8.0]
    assert [stage.amplitude for stage in stages] == pytest.approx([0.6, 1.2, 2.4])
    for stage in stages:
        assert stage.scales == (1.0,)
        same = dataclasses.replace(stage, spacing=2.0, amplitude=0.6)
        assert same == CONFIG
        (family,) = stage.amplified.values()
        # In voxels all stages look alike.
        assert family.amplitude / stage.spacing == pytest.approx(6.0)
    assert CONFIG.stages == (CONFIG,)


def test_stages_can_have_amplitudes_of_their_own():
    config = configs.load("unet3d_2019").data
    largest = {1.0: 7.0, 2.0: 15.0, 4.0: 20.0}
    for stage in config.stages:
        assert stage.stages == (stage,)
        amplitudes = {family.amplitude for family in stage.amplified.values()}
        assert max(amplitudes) == pytest.approx(largest.pop(stage.spacing))
        assert min(amplitudes - {0.0}) == max(amplitudes)
    assert not largest


def test_volumes_are_of_random_regions_with_their_probability():
    def regions(key, shape, *, spacing):
        return jnp.full((*shape, 1), 77.0)

    keys = jax.random.split(jax.random.key(0), 80)
    for probability in (0.0, 0.3, 1.0):
        generate = jax.jit(
            jax.vmap(
                _generator(_config(regions_probability=probability), _level, regions)
            )
        )
        values = np.asarray(generate(keys).moving)[:, 0, 3, 3, 0]
        assert set(values) <= {2.0, 77.0}
        within = 0.15 if probability % 1 else 0
        assert np.mean(values == 77.0) == pytest.approx(probability, abs=within)


def test_a_scan_is_multiplied_before_it_is_deformed():
    """Without other motion both images are the same new patient, near to the old."""
    shape = (40, 44)
    image = 500 * ndi.gaussian_filter(np.random.default_rng(0).normal(size=shape), 4)
    draw = jax.jit(functools.partial(another_patient, spacing=4.0))

    def texture(shape, spacing):
        """Stands for a chest, which takes longer to compile."""
        return 4 * image[tuple(map(slice, shape))]

    keys = jax.random.split(jax.random.key(0), 3)
    volume = jnp.asarray(image[..., None], jnp.float32)
    first, second, again = (np.asarray(draw(keys[i], volume)) for i in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    for a, b in ((first, volume), (second, volume), (first, second)):
        assert 0.05 < np.abs(a - b).max() / np.ptp(image) < 0.6
    families = {
        "families": ("zero",),
        "predeform_probability": 1.0,
        "scales": (2.0,),
    }
    pair = _draw(_config(**families), texture)
    np.testing.assert_array_equal(pair.fixed, pair.moving)
    assert (
        np.abs(
            pair.moving
            - _draw(
                _config(**families | {"predeform_probability": 0.0}), texture
            ).moving
        ).max()
        > 20
    )


@pytest.mark.parametrize("real", [0.0, 0.4, 1.0])
def test_scales_and_scans_are_drawn_with_their_probabilities(real):
    """A chest has the HU of its voxel size, and a scan 100 more."""
    config = _config(scales=SCALES, scan_probability=real)
    sizes = jnp.full((1, 2), 60, jnp.int32)
    scans = tuple(
        ScanBank(jnp.full((1, 60, 60, 1), 100 + 2 * scale, jnp.int16), sizes)
        for scale in SCALES
    )
    keys = jax.random.split(jax.random.key(0), 120)
    pairs = jax.jit(jax.vmap(_generator(config, _level), (0, None)))(keys, scans)
    middle = np.asarray(pairs.moving)[:, 0, 12, 12, 0]
    fixed = np.asarray(pairs.fixed)[:, 0, 12, 12, 0]
    np.testing.assert_allclose(fixed, middle, rtol=1e-5)
    real_ones = middle > 100
    assert real_ones.mean() == pytest.approx(real, abs=0.15 if real % 1 else 0)
    values = np.round(np.where(real_ones, middle - 100, middle), 3)
    found, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(found, [2, 4, 8])
    assert counts.min() > 25
    # Displacements are of up to 6 voxels at all scales.
    for value in found:
        largest = np.abs(pairs.displacement[values == value]).max()
        assert 4.5 < largest <= 6.0 + 1e-4


def test_without_scans_all_is_procedural():
    got = _draw(_config(scan_probability=1.0), _level)
    np.testing.assert_array_equal(got.moving, 2.0)


def test_there_must_be_scans_for_each_scale():
    scans = (ScanBank(jnp.zeros((1, 30, 30, 1)), jnp.full((1, 2), 30)),)
    with pytest.raises(ValueError, match="zip"):
        make_generator(_config(scales=SCALES))(jax.random.key(0), scans)


def _smooth(image, sigma):
    """By a Gaussian of what is inside the image."""
    options = {"sigma": sigma, "mode": "constant", "truncate": 8.0}
    return ndi.gaussian_filter(image, **options) / ndi.gaussian_filter(
        np.ones_like(image), **options
    )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_air_weighs_less(dimensions):
    def shore(shape, spacing):
        """Tissue on one side of a wavy border: no air is enclosed."""
        first, *_, last = np.indices(shape)
        return np.where(last > 0.5 * shape[-1] + 3 * np.sin(first), 40.0, -1000.0)

    # Far away from the border of a zero field.
    config = _config(dimensions, families=("zero",))
    full = _draw(config, shore)
    np.testing.assert_array_equal(full.weight, 1)
    got = _draw(dataclasses.replace(config, unseen_weight=0.1), shore)
    for a, b in zip(full[:3], got[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    smooth = _smooth(got.fixed[..., 0].astype(np.float64), 1.5)
    want = np.where(smooth > -960, 1.0, 0.1)
    certain = np.abs(smooth + 960) > 0.1
    np.testing.assert_allclose(got.weight[..., 0][certain], want[certain])
    assert 0.05 < (want < 1).mean() < 0.9


@pytest.mark.parametrize("dimensions", [2, 3])
def test_targets_beyond_the_volume_weigh_less(dimensions):
    slopes = np.array((4096.0, 64.0, 1.0)[-dimensions:])

    def places(shape, spacing):
        return np.tensordot(slopes, np.indices(shape), 1)

    size = 9  # not at the border of all of the volume
    config = dataclasses.replace(
        _config(dimensions), patch_size=size, unseen_weight=0.25
    )
    weights = []
    for pair in map(_drawer(config, places), range(4)):
        code = int(pair.moving.flat[0])
        start = [code // 4096, code // 64 % 64, code % 64][-dimensions:]
        points = np.moveaxis(np.indices((size,) * dimensions), 0, -1)
        points = points + start + pair.displacement
        inside = ((points >= 0) & (points <= np.array(config.shape) - 1)).all(-1)
        np.testing.assert_allclose(pair.weight[..., 0], np.where(inside, 1, 0.25))
        weights.append(pair.weight)
    assert 0.25 < np.mean(weights) < 1


@pytest.mark.parametrize("dimensions", [2, 3])
def test_squeezed_lungs_get_denser(dimensions):
    def ramp(shape, spacing):
        return -950.0 + 2.0 * np.indices(shape).sum(0)

    plain = _config(dimensions, families=("single",))
    before = _draw(plain, ramp)
    after = _draw(dataclasses.replace(plain, sponge_probability=1.0), ramp)
    np.testing.assert_array_equal(after.moving, before.moving)
    np.testing.assert_array_equal(after.displacement, before.displacement)
    slopes = [np.gradient(before.displacement, axis=a) for a in range(dimensions)]
    squeeze = np.linalg.det(np.stack(slopes, -1) + np.eye(dimensions))
    assert np.ptp(squeeze) > 0.1
    factor = (after.fixed - AIR) / (before.fixed - AIR)
    part = factor[..., 0] / np.clip(squeeze, 0.5, 2.5)
    assert 0.9 <= part.mean() <= 1.1
    np.testing.assert_allclose(part, part.mean(), rtol=1e-4)


def test_density_changes_with_its_probability_and_costs_nothing_without():
    keys = jax.random.split(jax.random.key(0), 100)

    def lung(shape, spacing):
        return np.full(shape, -850.0)

    generate = _generator(_config(sponge_probability=0.3), lung)
    draw = jax.jit(jax.vmap(generate))
    fixed = np.asarray(draw(keys).fixed)[:, 0, 12, 12, 0]
    assert (fixed != -850.0).mean() == pytest.approx(0.3, abs=0.15)
    programs = [
        str(jax.make_jaxpr(_generator(_config(sponge_probability=p), _level))(keys[0]))
        for p in (0.0, 0.3)
    ]
    assert programs[0].count("cond[") < programs[1].count("cond[")


def test_pairs_are_the_same_on_one_device_and_on_four():
    families = ("medium", "translation", "single")
    config = _config(families=families)
    generate = jax.jit(jax.vmap(make_generator(config, sample=smooth_patches)))
    keys = jax.random.split(jax.random.key(3), 8)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    want, got = generate(keys), generate(jax.device_put(keys, spread))
    assert len(got.fixed.sharding.device_set) == 4
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-2), got, want)
    # And they are pairs of several kinds, each with its own field.
    assert len({float(jnp.abs(u).max()) for u in got.displacement}) == 8
