"""Statistics of fields against waves whose every number is known."""

import jax
import numpy as np
import pytest

from regnet_jax.geometry import jacobian_determinant
from regnet_jax.synthesis import FAMILIES, field_statistics, sample_field

SPACING = 1.5
SHAPES = {2: (80, 120), 3: (40, 30, 120)}


def _wave(dimensions, height, length):
    """Along the last axis, with whole periods; height and length in voxels."""
    shape = SHAPES[dimensions]
    field = np.zeros((*shape, dimensions), np.float32)
    field[..., -1] = height * np.sin(2 * np.pi * np.arange(shape[-1]) / length)
    return field


@pytest.mark.parametrize("dimensions", [2, 3])
def test_statistics_of_a_wave_are_its_own(dimensions):
    height, length = 3.0, 40.0
    wave = _wave(dimensions, height, length)
    got = field_statistics(wave, spacing=SPACING)
    assert got.largest == pytest.approx(SPACING * height, rel=1e-5)
    assert got.mean == pytest.approx(SPACING * height * 2 / np.pi, rel=1e-2)
    sizes = SPACING * np.abs(wave[..., -1])
    assert got.upper == pytest.approx(np.percentile(sizes, 95), rel=1e-4)
    # Central differences see a wave as a little longer.
    assert got.wavelength == pytest.approx(SPACING * length, rel=2e-2)
    steepest = 2 * np.pi * height / length
    assert got.least_jacobian == pytest.approx(1 - steepest, abs=1e-2)
    assert got.greatest_jacobian == pytest.approx(1 + steepest, abs=1e-2)
    assert got.spread == pytest.approx(steepest / np.sqrt(2), abs=1e-2)
    assert got.folding == 0
    # Of a sine little is near zero: an arc of 2 * 0.1 / (height * slope).
    assert got.still == pytest.approx(2 * 0.1 / (SPACING * height * np.pi), abs=0.05)


def test_statistics_count_folds_and_rest():
    wave = _wave(2, 8.0, 40.0)
    folded = field_statistics(wave, spacing=SPACING)
    wanted = (np.asarray(jacobian_determinant(wave)) <= 0).mean()
    assert 0.1 < wanted == pytest.approx(folded.folding)
    rest = field_statistics(np.zeros((9, 8, 2), np.float32), spacing=SPACING)
    assert rest.still == 1
    assert rest.wavelength == rest.largest == rest.folding == 0
    assert rest.least_jacobian == rest.greatest_jacobian == 1


def test_finer_families_have_shorter_waves():
    draw = jax.jit(
        lambda key, family: field_statistics(
            sample_field(
                key, np.zeros((96, 96, 1), np.float32), family, spacing=4.0
            ).displacement,
            spacing=4.0,
        )
    )
    waves = []
    for name in ("low", "medium", "high"):
        family = jax.tree.map(np.float32, FAMILIES[name])
        keys = jax.random.split(jax.random.key(0), 4)
        waves.append(np.mean([draw(key, family).wavelength for key in keys]))
    assert waves[0] > waves[1] > waves[2] > 80
