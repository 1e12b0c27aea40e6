"""What every family promises, and the anatomy some of them look at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage as ndi

from regnet_jax.geometry import jacobian_determinant
from regnet_jax.hounsfield import traced_body_mask, traced_lung_mask
from regnet_jax.synthesis import chest
from regnet_jax.synthesis.fields.families import (
    FAMILIES,
    Family,
    choose_family,
    pick_family,
    sample_field,
)
from regnet_jax.synthesis.fields.respiratory import descent_profile, mask_extent
from regnet_jax.synthesis.fields.splines import dilate, edges

SHAPES = {2: (43, 52), 3: (42, 37, 48)}
SPACING = 6.0
CASES = [(name, d) for name in FAMILIES for d in SHAPES]


@functools.cache
def _volume(dimensions):
    """Two lungs in a body in air, seen from the front in 2D."""
    shape = SHAPES[dimensions]
    z, *_, x = np.indices(shape) * SPACING
    middle = (shape[-1] - 1) * SPACING / 2
    side = np.abs(x - middle)
    depth = np.zeros(shape)
    if dimensions == 3:
        depth = np.indices(shape)[1] * SPACING - 110.0
    body = (side / 125.0) ** 2 + (depth / 90.0) ** 2 < 1
    lung = (side > 20) & (side < 80) & (np.abs(depth) < 55) & (z > 60) & (z < 220)
    volume = np.where(body, np.where(lung, -850.0, 40.0), -1000.0)
    return jnp.asarray(volume[..., None], jnp.float32)


_compiled = jax.jit(functools.partial(sample_field, spacing=SPACING))


@functools.cache
def _draw(name, dimensions, seed=0):
    family = jax.tree.map(jnp.float32, FAMILIES[name])
    field, area = _compiled(jax.random.key(seed), _volume(dimensions), family)
    return np.asarray(field), np.asarray(area)


@pytest.mark.parametrize(("name", "dimensions"), CASES)
def test_fields_are_bounded_finite_and_of_the_volume(name, dimensions):
    field, area = _draw(name, dimensions)
    assert field.shape == (*SHAPES[dimensions], dimensions)
    assert area.shape == SHAPES[dimensions]
    assert area.any()
    amplitude = FAMILIES[name].amplitude
    largest = SPACING * np.abs(field).max()
    assert largest <= amplitude + 1e-3
    assert (largest > 0) == (name != "zero")


@pytest.mark.parametrize("name", FAMILIES)
def test_fields_are_functions_of_the_key(name):
    family = jax.tree.map(jnp.float32, FAMILIES[name])
    again = _compiled(jax.random.key(0), _volume(2), family).displacement
    np.testing.assert_array_equal(again, _draw(name, 2)[0])
    differs = np.abs(_draw(name, 2, seed=1)[0] - again).max() > 0.05
    assert differs == (name != "zero")


def _still(field):
    return np.mean(SPACING * np.linalg.norm(field, axis=-1) < 0.1)


def test_expected_fraction_of_each_family_rests():
    """Part of the voxels that move by less than a tenth of a millimetre."""
    rest = {"zero": (1, 1), "translation": (0, 0), "affine": (0, 0.5)}
    rest |= {"mixed": (0.05, 0.9), "sliding": (0.2, 0.95), "respiratory": (0.1, 0.9)}
    rest |= dict.fromkeys(("single", "diffeomorphic"), (0.1, 0.9))
    rest |= dict.fromkeys(("low", "medium", "high", "multiscale"), (0, 0.1))
    assert set(rest) == set(FAMILIES)
    got = {}
    for name in rest:
        fields = [_draw(name, 3, seed)[0] for seed in range(3)]
        got[name] = np.mean([_still(field) for field in fields])
    wrong = {n: got[n] for n, (a, b) in rest.items() if not a <= got[n] <= b}
    assert not wrong, got


@pytest.mark.parametrize("name", FAMILIES)
def test_scaled_family_has_scaled_fields(name):
    half = FAMILIES[name].scaled(0.5)
    key = jax.random.key(0)
    half = jax.tree.map(jnp.float32, half)
    field = _compiled(key, _volume(2), half).displacement
    amplitude = half.amplitude
    assert SPACING * float(jnp.max(jnp.abs(field))) <= amplitude + 1e-3
    # Breaths are cut off at their amplitude, and flows are not linear.
    if name not in ("respiratory", "sliding", "diffeomorphic"):
        np.testing.assert_allclose(field, 0.5 * _draw(name, 2)[0], atol=1e-4)


@pytest.mark.parametrize(("name", "dimensions"), CASES)
def test_least_jacobian_bounds_the_field(name, dimensions):
    draw = functools.partial(sample_field, spacing=SPACING, least_jacobian=0.6)
    family = FAMILIES[name].scaled(3.0)
    field, _ = draw(jax.random.key(0), _volume(dimensions), family)
    assert float(jnp.min(jacobian_determinant(field))) >= 0.6 - 1e-4


def test_zero_translation_and_affine_fields_have_their_form():
    assert not _draw("zero", 3)[0].any()
    shift = _draw("translation", 3)[0]
    assert np.ptp(shift, axis=(0, 1, 2)).max() == 0
    assert np.abs(shift).min() > 0
    field = _draw("affine", 3)[0]
    for axis in range(3):
        np.testing.assert_allclose(np.diff(field, 2, axis=axis), 0, atol=1e-5)
    middle = [(n - 1) / 2 for n in SHAPES[3]]
    at = [ndi.map_coordinates(field[..., c], np.array([middle]).T) for c in range(3)]
    np.testing.assert_allclose(np.concatenate(at), 0, atol=1e-5)


def test_translations_are_uniform():
    family = FAMILIES["translation"]
    keys = jax.random.split(jax.random.key(0), 300)
    volume = jnp.zeros((1, 1, 1))
    draw = jax.vmap(lambda k: sample_field(k, volume, family, spacing=2.0).displacement)
    shifts = np.sort(2.0 * np.asarray(draw(keys)).reshape(-1)) / 20.0
    ideal = np.linspace(-1, 1, len(shifts))
    assert np.abs(shifts - ideal).max() < 0.12


def test_breathing_moves_the_diaphragm_and_not_the_apex():
    for seed in range(4):
        field, _ = _draw("respiratory", 3, seed)
        lung = np.asarray(traced_lung_mask(_volume(3)))
        planes = np.flatnonzero(lung.any(axis=(1, 2)))
        low = np.abs(field[planes[0]][lung[planes[0]]][:, 0]).mean()
        high = np.abs(field[planes[-1]][lung[planes[-1]]][:, 0]).mean()
        assert low > 3 * high
        outside = ndi.distance_transform_edt(~np.asarray(traced_body_mask(_volume(3))))
        assert np.abs(field[outside * SPACING > 40]).max() < 0.05


@pytest.mark.parametrize("dimensions", [2, 3])
def test_sliding_moves_lungs_and_organs_below_alone(dimensions):
    lung = np.asarray(traced_lung_mask(_volume(dimensions)))
    top = np.where(lung.any(0), lung.shape[0] - 1 - lung[::-1].argmax(0), -1)
    height = np.indices(lung.shape)[0]
    organs = height <= top[None]
    away = SPACING * ndi.distance_transform_edt(~organs)
    deep = SPACING * ndi.distance_transform_edt(organs) > 25
    sliding = FAMILIES["sliding"]
    family = Family(sliding.sample, sliding.parameters._replace(beat=0.0, widening=0.0))
    family = jax.tree.map(jnp.float32, family)
    for seed in range(4):
        field, area = _compiled(jax.random.key(seed), _volume(dimensions), family)
        field = np.asarray(field)
        assert area.all()
        largest = np.abs(field).max()
        # The border is blurred by at most 6 mm.
        assert np.abs(field[away > 40]).max() < 1e-4 * largest
        below = deep & (height < np.argmax(lung.any(tuple(range(1, dimensions)))))
        assert np.abs(field[below]).mean() > 0.05 * largest


def test_along_the_ribs_sliding_is_steeper_than_breathing():
    def steepest(name, seed):
        field, _ = _draw(name, 3, seed)
        return np.abs(np.diff(field[..., 0], axis=2)).max() / np.abs(field).max()

    for seed in range(4):
        assert steepest("sliding", seed) > 1.3 * steepest("respiratory", seed)


def test_without_lungs_nothing_slides():
    solid = jnp.where(_volume(2) > -1000, 40.0, -1000.0)
    family = jax.tree.map(jnp.float32, FAMILIES["sliding"])
    field = _compiled(jax.random.key(0), solid, family).displacement
    np.testing.assert_array_equal(field, 0)


def test_the_descent_falls_off_logarithmically():
    heights = np.linspace(-5, 30, 36, dtype=np.float32)
    got = np.asarray(descent_profile(heights, 2.0, 22.0))
    assert (got[heights <= 2] == 1).all()
    np.testing.assert_allclose(got[heights >= 22], 0, atol=1e-6)
    half = 2 + 20 * (np.sqrt(np.e) - 1) / (np.e - 1)  # where half of it is left
    assert float(descent_profile(np.float32(half), 2.0, 22.0)) == pytest.approx(0.5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_blocks_are_those_of_scipy(dimensions):
    mask = np.random.default_rng(0).uniform(size=SHAPES[dimensions]) > 0.995
    want = ndi.binary_dilation(mask, np.ones((5,) * dimensions))
    np.testing.assert_array_equal(dilate(jnp.asarray(mask), 5), want)


def test_mixed_fields_move_near_edges_only():
    steep = np.asarray(edges(_volume(3), spacing=SPACING))
    assert 0.01 < steep.mean() < 0.5
    assert not np.asarray(edges(jnp.zeros((9, 9, 1)), spacing=1.0)).any()
    floor = jnp.where(jnp.arange(42)[:, None, None, None] < 8, -1000.0, 40.0)
    floor = jnp.broadcast_to(floor, (42, 37, 48, 1))
    draw = functools.partial(sample_field, family=FAMILIES["mixed"], spacing=SPACING)
    field = np.asarray(draw(jax.random.key(0), floor).displacement)
    assert np.abs(field[:16]).max() * SPACING > 1.0
    assert np.abs(field[24:]).max() < 0.02 * np.abs(field).max()


def test_traced_masks_of_a_known_body():
    volume = np.asarray(_volume(3))[..., 0]
    body = ndi.binary_fill_holes(volume > -400, np.ones((1, 3, 3)))
    np.testing.assert_array_equal(traced_body_mask(_volume(3)), body)
    np.testing.assert_array_equal(traced_lung_mask(_volume(3)), volume == -850.0)
    first, last = mask_extent(traced_lung_mask(_volume(3)), 0)
    planes = np.flatnonzero((volume == -850.0).any(axis=(1, 2)))
    assert (float(first), float(last)) == (planes[0], planes[-1])
    upside_down = mask_extent(traced_lung_mask(_volume(3))[::-1], 0)
    assert [SHAPES[3][0] - 1 - float(e) for e in upside_down] == [last, first]
    assert [float(e) for e in mask_extent(jnp.zeros((4, 5), bool), 1)] == [0.0, 4.0]


def test_lungs_are_found_in_procedural_chests():
    volume = jax.jit(lambda k: chest(k, (40, 40, 48), spacing=7.0))(jax.random.key(5))
    part = float(jnp.mean(traced_lung_mask(volume)))
    assert 0.05 < part < 0.5


def test_chosen_families_follow_the_weights_and_have_their_fields():
    names = ("low", "translation", "high")
    families = [FAMILIES[name] for name in names]
    volume = _volume(2)

    @jax.jit
    def one(key):
        choice_key, key = jax.random.split(key)
        family = choose_family(choice_key, families, (1.0, 2.0, 0.0))
        got = sample_field(key, volume, family, spacing=SPACING)
        every = [sample_field(key, volume, f, spacing=SPACING) for f in families]
        return got.displacement, jnp.stack([e.displacement for e in every])

    count = np.zeros(3, int)
    for seed in range(60):
        got, every = one(jax.random.key(seed))
        equal = [np.allclose(got, field, atol=1e-5) for field in every]
        assert sum(equal) == 1
        count += equal
    assert count[2] == 0
    assert 10 <= count[0] <= 30


def test_traced_index_picks_its_family():
    # Kinds that alternate, two families of one kind, and one without numbers.
    names = ("low", "translation", "zero", "high", "multiscale")
    families = [FAMILIES[name].scaled(0.5) for name in names]
    volume, key = _volume(2), jax.random.key(3)

    @jax.jit
    def pick(key, index):
        return sample_field(key, volume, pick_family(families, index), spacing=SPACING)

    for index, family in enumerate(families):
        got = pick(key, jnp.int32(index))
        family = jax.tree.map(jnp.float32, family)
        want = _compiled(key, volume, family)
        np.testing.assert_allclose(got.displacement, want.displacement, atol=1e-5)
        np.testing.assert_array_equal(got.area, want.area)
    assert pick._cache_size() == 1


def _breath(seed, **changes):
    """A breath with the other motions switched off, unless they are given."""
    family = FAMILIES["respiratory"]
    still = {"widening": 0.0, "slip": 0.0, "beat": 0.0} | changes
    # Nothing is cut off at this amplitude.
    still |= {"amplitude": 100.0, "most_descent": 10.0}
    family = Family(family.sample, family.parameters._replace(**still))
    family = jax.tree.map(jnp.float32, family)
    return np.asarray(_compiled(jax.random.key(seed), _volume(3), family).displacement)


def test_the_chest_widens_by_the_profile_of_the_descent():
    """Apices widen less than the base, as in 2019."""
    lung = np.asarray(traced_lung_mask(_volume(3)))
    planes = np.flatnonzero(lung.any(axis=(1, 2)))
    low, high = planes[len(planes) // 10], planes[-2]
    body = np.asarray(traced_body_mask(_volume(3)))
    for seed in range(3):
        widened = _breath(seed, widening=0.12) - _breath(seed)
        assert np.abs(widened[..., [0, 2]]).max() < 1e-5
        front = np.argmax(body, axis=1)[low]
        assert front.any()
        base, apex = (np.abs(widened[z][lung[z]][:, 1]).mean() for z in (low, high))
        assert base > 2 * apex


def test_lobes_slide_along_a_plane_that_falls_to_the_front():
    lung = np.asarray(traced_lung_mask(_volume(3)))
    deep = ndi.binary_erosion(lung, iterations=3)
    for seed in range(3):
        slid = (_breath(seed, slip=10.0) - _breath(seed))[deep]
        # One direction, in the sagittal plane, both ways and at most 5 mm a side.
        assert np.abs(slid[:, 2]).max() < 1e-5
        _, sizes, _ = np.linalg.svd(slid, full_matrices=False)
        assert sizes[1] < 0.02 * sizes[0]
        assert SPACING * np.linalg.norm(slid, axis=1).max() <= 5.01
        assert slid[:, 0].min() < 0 < slid[:, 0].max()
        # Up is towards the back: z and y have the same sign along the fissure.
        assert (slid[:, 0] * slid[:, 1] >= -1e-8).all()


def test_the_heart_beats_by_at_most_its_amplitude():
    narrow = {"least_border": 2.0, "most_border": 3.0}
    middle = (21, 110 / SPACING, 23.5)
    for seed in range(3):
        beat = SPACING * (_breath(seed, beat=5.0, **narrow) - _breath(seed, **narrow))
        length = np.linalg.norm(beat, axis=-1)
        assert 0.5 < length.max() <= 5.01
        z, y, x = (
            SPACING * (each - m)
            for each, m in zip(np.indices(length.shape), middle, strict=True)
        )
        # Neither the spine nor what lies far away moves.
        assert length[(np.abs(x) < 15) & (y > 40)].max() < 0.05
        assert length[np.sqrt(z**2 + y**2 + x**2) > 200].max() < 0.05


def test_breaths_are_of_six_to_sixty_millimetres():
    """The deepest motion of the lungs, at an amplitude that lets it be."""
    family = FAMILIES["respiratory"].scaled(3.0)
    family = jax.tree.map(jnp.float32, family)
    lung = np.asarray(traced_lung_mask(_volume(3)))
    deepest = []
    for seed in range(12):
        field = _compiled(jax.random.key(seed), _volume(3), family).displacement
        deepest.append(SPACING * np.abs(np.asarray(field)[lung][:, 0]).max())
    assert 4 < min(deepest) < 20
    assert 35 < max(deepest) <= 60.01
