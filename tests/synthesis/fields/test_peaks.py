"""The fields of 2017 against the recipe written with scipy.ndimage, rule by rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from regnet_jax.synthesis.fields import peaks
from regnet_jax.synthesis.fields.deformation import rescale_lobes
from regnet_jax.synthesis.fields.peaks import FAMILIES_2017, peak_field, peaks_that_fit

# Spatial shape and spacing, mm: room for several distant peaks inside the border.
SPACES = {2: ((96, 80), 2.0), 3: ((40, 44, 48), 4.0)}
CASES = [(d, name) for d in SPACES for name in FAMILIES_2017]

jit_field = jax.jit(peak_field, static_argnames=("shape", "spacing"))
jit_positions = jax.jit(peaks._positions, static_argnames="shape")


def _key(seed):
    return jax.random.key(seed)


def _draw(seed, dimensions, name):
    shape, spacing = SPACES[dimensions]
    return jit_field(_key(seed), shape, FAMILIES_2017[name], spacing=spacing)


def _drawn_peaks(seed, dimensions, name):
    """Positions, values and the family in voxels, from the same splits of the key."""
    shape, spacing = SPACES[dimensions]
    family = jax.tree.map(lambda mm: mm / spacing, FAMILIES_2017[name])
    position_key, amplitude_key = jax.random.split(_key(seed))
    position, exists = jit_positions(
        position_key, shape, family.border, family.separation
    )
    value = family.amplitude * jax.random.uniform(
        amplitude_key, (100, dimensions), minval=-1.0, maxval=1.0
    )
    exists = np.asarray(exists)
    value = np.array(value)[exists]
    value[:2] = 0
    return np.asarray(position)[exists], value, family


def _rescaled(smooth, value):
    """The recipe: each lobe of a component stretched to its most extreme peak."""
    result = np.zeros_like(smooth)
    for axis in range(smooth.shape[-1]):
        component = smooth[..., axis]
        up, down = np.maximum(component, 0), np.minimum(component, 0)
        if up.max() > 0:
            result[..., axis] += up * (max(value[:, axis].max(), 0) / up.max())
        if down.min() < 0:
            result[..., axis] += down * (min(value[:, axis].min(), 0) / down.min())
    return result


@functools.cache
def _recipe(seed, dimensions, name):
    position, value, family = _drawn_peaks(seed, dimensions, name)
    shape, _ = SPACES[dimensions]
    image = np.zeros((*shape, dimensions))
    np.add.at(image, tuple(position.T), value)
    # The Gaussian that scipy cuts off reaches over the whole image.
    smooth = np.stack(
        [
            ndimage.gaussian_filter(
                image[..., c],
                family.sigma,
                mode="constant",
                truncate=max(shape) / family.sigma + 1,
            )
            for c in range(dimensions)
        ],
        axis=-1,
    )
    return _rescaled(smooth, value)


@pytest.mark.parametrize(("dimensions", "name"), CASES)
def test_peak_field_matches_the_recipe_in_scipy(dimensions, name):
    field = np.asarray(_draw(3, dimensions, name).displacement)
    want = _recipe(3, dimensions, name)
    assert field.dtype == np.float32
    assert np.ptp(want) > 1
    np.testing.assert_allclose(field, want, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize(("dimensions", "name"), CASES)
def test_lobes_reach_the_largest_sampled_peaks(dimensions, name):
    lobes = 0
    for seed in range(4):
        field = np.asarray(_draw(seed, dimensions, name).displacement)
        _, value, family = _drawn_peaks(seed, dimensions, name)
        assert np.abs(value).max() <= family.amplitude
        for axis in range(dimensions):
            component = field[..., axis]
            # Several peaks of one sign can drown the other lobe altogether.
            if component.max() > 0:
                assert component.max() == pytest.approx(value[:, axis].max(), rel=1e-5)
                lobes += 1
            if component.min() < 0:
                assert component.min() == pytest.approx(value[:, axis].min(), rel=1e-5)
                lobes += 1
    assert lobes > 6 * dimensions


def test_rescaling_keeps_signs_and_zero():
    rng = np.random.default_rng(0)
    field = rng.normal(size=(9, 8, 2)).astype(np.float32)
    field[3, 4] = 0
    highest, lowest = np.float32([6.0, 0.5]), np.float32([-2.0, -7.0])
    got = np.asarray(rescale_lobes(jnp.asarray(field), highest, lowest))
    np.testing.assert_array_equal(np.sign(got), np.sign(field))
    np.testing.assert_allclose(got.max(axis=(0, 1)), highest, rtol=1e-6)
    np.testing.assert_allclose(got.min(axis=(0, 1)), lowest, rtol=1e-6)
    # Each lobe is stretched by one number.
    for axis in range(2):
        for lobe in (field[..., axis] > 0, field[..., axis] < 0):
            assert np.ptp((got / np.where(field, field, 1))[..., axis][lobe]) < 1e-4


def test_rescaling_a_field_of_one_sign_or_none_is_finite():
    positive = jnp.abs(jnp.sin(jnp.arange(12.0))).reshape(3, 4, 1) + 0.1
    got = rescale_lobes(positive, jnp.ones(1), -jnp.ones(1))
    assert float(jnp.max(got)) == pytest.approx(1)
    assert float(jnp.min(got)) > 0
    zero = rescale_lobes(jnp.zeros((3, 4, 1)), jnp.ones(1), -jnp.ones(1))
    np.testing.assert_array_equal(zero, 0)


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 6)])
def test_sum_of_products_is_the_sum_over_peaks(shape):
    rng = np.random.default_rng(1)
    bases = [rng.normal(size=(n, 9)).astype(np.float32) for n in shape]
    amplitudes = rng.normal(size=(9, 2)).astype(np.float32)
    want = np.zeros((*shape, 2))
    for k in range(9):
        product = functools.reduce(np.multiply.outer, [b[:, k] for b in bases])
        want += product[..., None] * amplitudes[k]
    got = peaks._sum_of_products([jnp.asarray(b) for b in bases], amplitudes)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("separation", [0.0, 40.0])
@pytest.mark.parametrize("dimensions", SPACES)
def test_positions_keep_border_and_distance(dimensions, separation):
    shape, spacing = SPACES[dimensions]
    counts = []
    for seed in range(3):
        position, exists = jit_positions(
            _key(seed), shape, 33.0 / spacing, separation / spacing
        )
        kept = spacing * np.asarray(position)[np.asarray(exists)]
        edge = spacing * (np.array(shape) - 1)
        assert min(kept.min(), (edge - kept).min()) >= 33
        distance = np.abs(kept[:, None] - kept[None]).max(-1)
        distance[np.diag_indices(len(kept))] = np.inf
        assert distance.min() >= separation
        counts.append(len(kept))
    assert min(counts) > 2
    assert max(counts) == 100 if separation == 0 else max(counts) < 100


def test_positions_are_the_trials_that_nothing_excludes():
    shape, border, separation = (120, 90), 17, 20
    low = jnp.full((1, 2), border)
    trials = jax.random.randint(
        _key(5), (peaks._TRIALS, 2), low, jnp.asarray(shape)[None] - border
    )
    kept = []
    for trial in np.asarray(trials):
        if all(np.abs(trial - other).max() >= separation for other in kept):
            kept.append(trial)
    position, exists = jit_positions(_key(5), shape, float(border), float(separation))
    assert 5 < len(kept) < 100
    np.testing.assert_array_equal(np.asarray(position)[np.asarray(exists)], kept)


def test_positions_fill_the_inside_of_the_border():
    shape = (96, 80)
    seen = np.concatenate(
        [jit_positions(_key(seed), shape, 16.5, 0.0)[0] for seed in range(40)]
    )
    np.testing.assert_array_equal(seen.min(0), [17, 17])
    np.testing.assert_array_equal(seen.max(0), [96 - 18, 80 - 18])
    np.testing.assert_allclose(seen.mean(0), [47.5, 39.5], atol=1)


@pytest.mark.parametrize(("dimensions", "name"), CASES)
def test_area_lies_within_20_mm_of_a_peak(dimensions, name):
    shape, spacing = SPACES[dimensions]
    for seed in range(3):
        area = np.asarray(_draw(seed, dimensions, name).area)
        assert area.dtype == bool
        if name != "high":
            assert area.all()
            continue
        position, *_ = _drawn_peaks(seed, dimensions, name)
        grid = np.moveaxis(np.indices(shape), 0, -1)[..., None, :]
        distance = spacing * np.abs(grid - position).max(-1).min(-1)
        np.testing.assert_array_equal(area, distance <= 20)


@pytest.mark.parametrize("name", FAMILIES_2017)
def test_peak_family_is_in_millimetres(name):
    shape = (96, 80)
    halved = jax.tree.map(lambda mm: mm / 2, FAMILIES_2017[name])
    at_2_mm = jit_field(_key(1), shape, FAMILIES_2017[name], spacing=2.0)
    in_voxels = jit_field(_key(1), shape, halved, spacing=1.0)
    # Two programs: equal but for the order of sums.
    np.testing.assert_allclose(at_2_mm.displacement, in_voxels.displacement, atol=2e-5)
    np.testing.assert_array_equal(at_2_mm.area, in_voxels.area)


def test_field_is_a_function_of_the_key():
    first, again, other = (_draw(seed, 2, "medium").displacement for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


def test_eager_with_a_static_family_is_compiled_with_a_traced_one():
    shape, spacing = SPACES[2]
    name = "high"
    eager = peak_field(_key(4), shape, FAMILIES_2017[name], spacing=spacing)
    traced = _draw(4, 2, name)
    np.testing.assert_allclose(eager.displacement, traced.displacement, atol=2e-5)
    np.testing.assert_array_equal(eager.area, traced.area)


def test_vmap_of_peak_field_is_a_loop():
    shape, spacing = SPACES[2]
    keys = jax.random.split(_key(6), 3)
    field = functools.partial(
        peak_field, shape=shape, family=FAMILIES_2017["high"], spacing=spacing
    )
    together = jax.jit(jax.vmap(field))(keys)
    for index, key in enumerate(keys):
        alone = jit_field(key, shape, FAMILIES_2017["high"], spacing=spacing)
        got = together.displacement[index]
        np.testing.assert_allclose(got, alone.displacement, atol=2e-5)
        np.testing.assert_array_equal(together.area[index], alone.area)


def test_volumes_without_room_inside_the_border_are_finite():
    shape = (1, 4, 6)
    for name, family in FAMILIES_2017.items():
        displacement, area = jit_field(_key(2), shape, family, spacing=1.0)
        assert displacement.shape == (*shape, len(shape)), name
        assert area.shape == shape
        assert np.isfinite(displacement).all()
        assert np.abs(displacement).max() <= family.amplitude


@pytest.mark.parametrize("shape", [(70, 90), (40, 44), (200, 210), (96, 96, 96)])
@pytest.mark.parametrize("name", list(FAMILIES_2017))
def test_peaks_that_fit_are_between_fewest_and_most(name, shape):
    family = FAMILIES_2017[name]
    fewest, most = peaks_that_fit(shape, family, spacing=1.0)
    for seed in range(5):
        _, exists = peaks._positions(
            jax.random.key(seed), shape, family.border, family.separation
        )
        assert fewest <= int(exists.sum()) <= most
