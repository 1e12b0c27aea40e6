"""Slices of 3D volumes as 2D pairs, as in the 2D experiments of RegNet 2017."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi

from regnet_jax.geometry.slices import SLICE_AXES, drop_across
from regnet_jax.synthesis.config import GeneratorConfig
from regnet_jax.synthesis.generator import (
    VolumeSources,
    make_generator,
    sample_patches,
)
from regnet_jax.synthesis.patches import TargetGrid
from regnet_jax.synthesis.volumes.scans import ScanBank, crop

# Voxels across the slices, and along them.
ACROSS, ALONG = 13, 24
STEP = 1000.0
AXES = list(SLICE_AXES)


def config(name, **values):
    shape = [ALONG] * 3
    shape[SLICE_AXES[name]] = ACROSS
    start = GeneratorConfig(
        shape=tuple(shape),
        spacing=2.0,
        families=("translation",),
        slice_axis=name,
        noise_fixed=0.0,
        noise_moving=0.0,
        patches_per_pair=8,
        patch_size=17,
        amplitude=0.15,
    )
    return dataclasses.replace(start, **values)


def volume(shape, axis):
    """Smooth within the slices, and higher by ``STEP`` from each to the next."""
    rng = np.random.default_rng(0)
    texture = rng.normal(size=[1 if a == axis else n for a, n in enumerate(shape)])
    texture = ndi.gaussian_filter(texture, 2.0, mode="nearest")
    return 300.0 * texture / texture.std() + STEP * np.indices(shape)[axis]


def sampled(settings, seed, targets=None):
    axis = SLICE_AXES[settings.slice_axis]

    def chest(key, shape, *, spacing):
        return jnp.asarray(volume(shape, axis), jnp.float32)[..., None]

    sample = functools.partial(sample_patches, sources=VolumeSources(chest))
    generate = make_generator(settings, *([targets] if targets else []), sample=sample)
    batch = jax.jit(generate)(jax.random.key(seed))
    return jax.tree.map(np.asarray, batch)


def place_of(patch, whole, axis):
    """Slice and corner of a patch of the volume, which must occur in it."""
    slices = np.moveaxis(whole, axis, 0)
    windows = np.lib.stride_tricks.sliding_window_view(slices, patch.shape, axis=(1, 2))
    found = np.argwhere(np.abs(windows - patch).max(axis=(-2, -1)) < 1e-2)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("seed", range(2))
def test_nothing_moves_across_the_slices(name, seed):
    settings, axis = config(name), SLICE_AXES[name]
    whole = volume(settings.shape, axis)
    batch = sampled(settings, seed)
    assert batch.fixed.shape == (8, 17, 17, 1)
    assert batch.displacement.shape == (8, 17, 17, 2)
    assert 0.1 < np.abs(batch.displacement).max() < 2.0
    for fixed, moving, field in zip(*batch[:3], strict=True):
        k, *corner = place_of(moving[..., 0], whole, axis)
        points = np.moveaxis(np.indices((17, 17)).T + field.swapaxes(0, 1), -1, 0).T
        points = np.moveaxis(points, -1, 0) + np.reshape(corner, (2, 1, 1))
        plane = np.take(whole, k, axis)
        want = ndi.map_coordinates(plane, points, order=1, mode="nearest")
        np.testing.assert_allclose(fixed[..., 0], want, atol=0.05)


@pytest.mark.parametrize("name", AXES)
def test_displacement_across_shows_other_slices(name):
    """The mean of the slice tells how far it is from its place without a shift."""
    rises = {}
    for factor in (0.0, 1.0, 2.0):
        batch = sampled(config(name, through_plane=factor), 5)
        whole = volume(config(name).shape, SLICE_AXES[name])
        rises[factor] = [
            fixed.mean() - moving.mean()
            for fixed, moving in zip(*batch[:2], strict=True)
            if 3 <= place_of(moving[..., 0], whole, SLICE_AXES[name])[0] <= ACROSS - 4
        ]
    across = np.subtract(rises[1.0], rises[0.0]) / STEP
    assert np.ptp(across) < 0.05, "a translation is the same everywhere"
    assert 0.05 < abs(across.mean()) < 1.5
    twice = np.subtract(rises[2.0], rises[0.0]) / STEP
    np.testing.assert_allclose(twice, 2.0 * across, atol=0.05)


def test_targets_of_slices_lie_on_the_grid_of_the_network():
    settings = config("coronal", families=("single",), amplitude=0.3)
    every = sampled(settings, 1)
    some = sampled(settings, 1, TargetGrid(margin=3, stride=2))
    assert some.displacement.shape == (8, 6, 6, 2)
    np.testing.assert_array_equal(
        some.displacement, every.displacement[:, 3:14:2, 3:14:2]
    )


def test_classes_count_components_within_slices_alone():
    """Where only the component across is large, a slice is of the smallest class."""
    settings = config("axial", through_plane=50.0, class_limits=(2.9, 3.0))
    batch = sampled(settings, 2)
    assert np.abs(batch.displacement).max() * settings.spacing < 3.0
    np.testing.assert_array_equal(np.isfinite(batch.fixed), True)


def test_drop_across_keeps_the_order_of_the_others():
    field = jnp.asarray(np.arange(3.0)[None])
    for axis, want in enumerate(([1, 2], [0, 2], [0, 1])):
        np.testing.assert_array_equal(drop_across(field, axis), [want])


def test_crops_of_3d_scans_are_slices_across_every_axis():
    """Of a volume that rises along z alone, slices across z are nearly flat."""
    rise = 10.0 * np.indices((60, 50, 40))[0].astype(np.float32)
    scans = ScanBank(jnp.asarray(rise[None, ..., None]), jnp.asarray([[60, 50, 40]]))
    cropped = jax.jit(jax.vmap(lambda key: crop(key, scans, (9, 11))))
    crops = np.asarray(cropped(jax.random.split(jax.random.key(0), 60)))
    assert crops.shape == (60, 9, 11, 1)
    inside = [c[..., 0] for c in crops if c.min() > 0 and c.max() < 590]
    steps = np.array([[abs(np.diff(c, axis=a).mean()) for a in (0, 1)] for c in inside])
    flat = (steps < 4.0).all(axis=1)
    steep = (steps[:, 0] > 7.0) & (steps[:, 1] < 4.0)
    assert len(inside) > 40
    np.testing.assert_array_equal(flat | steep, True)
    # A third of the slices is axial; in the others z is the first axis.
    assert 0.15 < flat.mean() < 0.55
    for plane in inside:
        assert np.abs(np.diff(plane, 2, axis=0)).max() < 0.1, "a slice is a plane"


def test_slice_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        make_generator(config("axial", patch_size=ALONG + 1))
    make_generator(config("axial", shape=(1, ALONG, ALONG)))
