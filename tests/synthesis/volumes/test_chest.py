"""Procedural chests hold what chests hold; noise has the moments it claims."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regnet_jax.synthesis.volumes.chest import chest
from regnet_jax.synthesis.volumes.patient import field_of_view
from regnet_jax.synthesis.volumes.shapes import smooth_noise, tubes

jit_chest = jax.jit(chest, static_argnames=("shape", "spacing"))


@functools.cache
def _volumes():
    draw = functools.partial(jit_chest, shape=(64, 64, 64), spacing=4.0)
    return [np.asarray(draw(jax.random.key(seed))) for seed in (0, 1, 2, 3, 0)]


def test_chests_are_in_hounsfield_units():
    for volume in _volumes():
        assert volume.shape == (64, 64, 64, 1)
        assert volume.dtype == np.float32
        assert np.isfinite(volume).all()
        assert volume.min() >= -1000
        assert volume.max() <= 3000


def test_chests_are_functions_of_the_key():
    volumes = _volumes()
    np.testing.assert_array_equal(volumes[0], volumes[4])
    for a in range(4):
        for b in range(a):
            assert np.abs(volumes[a] - volumes[b]).mean() > 20


def test_chests_hold_air_lung_soft_tissue_and_bone():
    values = np.concatenate([volume.ravel() for volume in _volumes()[:4]])
    limits = {
        "air": (-1001, -950, 0.02, 0.6),
        "lung": (-950, -600, 0.1, 0.6),
        "soft tissue": (-30, 150, 0.1, 0.6),
        "fat": (-130, -70, 0.01, 0.3),
        "bone": (300, 3001, 0.002, 0.1),
    }
    for name, (low, high, least, most) in limits.items():
        fraction = np.mean((values >= low) & (values < high))
        assert least < fraction < most, f"{name}: {fraction:.3f}"
    # The lungs have vessels, which are what registration holds on to.
    assert all(volume.std() > 100 for volume in _volumes())


def test_slices_are_chests_too():
    slices = [
        np.asarray(jit_chest(jax.random.key(seed), (64, 80), spacing=3.0))
        for seed in range(6)
    ]
    for image in slices:
        assert image.shape == (64, 80, 1)
        assert np.isfinite(image).all()
        assert image.min() >= -1000
        assert image.max() <= 3000
        assert image.std() > 50


def test_a_slice_lies_in_one_of_three_planes():
    seen = set()
    points = jax.jit(lambda key: field_of_view(key, (4, 5), 2.0).points)
    for seed in range(12):
        planes = points(jax.random.key(seed))
        assert planes[0].shape == (1, 4, 5)
        extent = [float(np.ptp(p)) for p in planes]
        assert sorted(extent) == pytest.approx([0, 6, 8], abs=1e-3)
        seen.add(int(np.argmin(extent)))
    assert seen == {0, 1, 2}


def _textures(spec, shape):
    draw = jax.jit(functools.partial(smooth_noise, shape=shape, textures=spec))
    return jax.tree.map(np.asarray, draw(jax.random.key(0)))


def test_noise_has_unit_variance_and_its_correlation_length():
    scale = 4
    fields = _textures({"a": (float(scale), 200), "b": (2.5, 30)}, (48, 40))
    assert fields["a"].shape == (48, 40, 200)
    assert fields["b"].shape == (48, 40, 30)
    for field in fields.values():
        assert abs(field.mean()) < 0.04
        assert field.var() == pytest.approx(1, abs=0.06)
    field = fields["a"]
    # Cubic splines of white noise correlate as the B-spline of order 7 says.
    for knots, want in ((1, 1191 / 2416), (2, 120 / 2416), (4, 0.0)):
        lag = knots * scale
        along_y = np.mean(field[lag:] * field[:-lag])
        along_x = np.mean(field[:, lag:] * field[:, :-lag])
        np.testing.assert_allclose([along_y, along_x], want, atol=0.04)
    between = np.mean(field[..., 0::2] * field[..., 1::2])
    assert abs(between) < 0.05


def test_noise_in_3d_has_unit_variance():
    field = _textures({"a": (3.0, 40)}, (20, 18, 16))["a"]
    assert field.shape == (20, 18, 16, 40)
    assert abs(field.mean()) < 0.05
    assert field.var() == pytest.approx(1, abs=0.1)


def test_tubes_are_where_two_fields_vanish():
    scale, radius = 6.0, 2.0
    width = 1.2 * radius / scale
    noise = jnp.array([[0.0, 0.0], [width, 0.0], [0.0, -width], [3.0, 3.0]])
    got = tubes(noise, scale, radius)
    np.testing.assert_allclose(got, [1, np.exp(-0.5), np.exp(-0.5), 0], atol=1e-5)
    calibres = tubes(noise[:2], scale, jnp.array([1.0, 4.0]))
    np.testing.assert_allclose(calibres, [1, np.exp(-0.125)], rtol=1e-5)


def test_tubes_of_noise_fill_little_and_stay_in_range():
    noise = _textures({"a": (6.0, 2)}, (40, 40, 12))["a"]
    got = np.asarray(tubes(jnp.asarray(noise), 6.0, 0.8))
    assert got.shape == (40, 40, 12)
    assert got.min() >= 0
    assert got.max() <= 1
    assert got.max() > 0.8
    assert 0.005 < got.mean() < 0.15
