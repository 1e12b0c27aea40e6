"""Statistics of errors against arithmetic by hand, NumPy and scipy."""

import numpy as np
import pytest
from scipy import stats

from regnet_jax.evaluation import (
    PairErrors,
    bootstrap_interval,
    error_statistics,
    pair_errors,
    paired_difference,
    sample_deviation,
    statistics_over_pairs,
)


def test_sample_deviation_is_that_of_a_sample():
    values = np.random.default_rng(0).normal(size=20)
    squares = ((values - values.mean()) ** 2).sum()
    assert sample_deviation(values) == pytest.approx(np.sqrt(squares / 19))
    assert np.isnan(sample_deviation([1.0]))
    assert np.isnan(sample_deviation([]))


def test_error_statistics_equal_numpys():
    errors = np.random.default_rng(1).gamma(2.0, size=1001)
    found = error_statistics(errors)
    assert found.mean == pytest.approx(errors.sum() / 1001)
    assert found.sd == pytest.approx(np.std(errors, ddof=1))
    assert found.p95 == pytest.approx(np.sort(errors)[950])
    assert found.median == pytest.approx(np.sort(errors)[500])
    assert found.max == errors.max()
    assert "mean_ci95" not in found.to_dict()


def test_error_statistics_of_nothing_are_nan():
    found = error_statistics([])
    assert found.n == 0
    assert np.isnan([found.mean, found.sd, found.median, found.p95, found.max]).all()


def test_error_statistics_of_known_errors():
    errors = np.arange(101.0)
    found = error_statistics(errors)
    assert found.n == 101
    assert found.mean == 50
    assert found.median == 50
    assert found.p95 == 95
    assert found.max == 100
    # Of the first n whole numbers the sample variance is n (n + 1) / 12.
    assert found.sd == pytest.approx(np.sqrt(101 * 102 / 12))


def test_interval_of_the_mean_equals_scipys():
    errors = np.random.default_rng(0).gamma(2.0, 1.5, 120)
    low, high = error_statistics(errors, interval=True).mean_ci95
    expected = stats.bootstrap(
        (errors,),
        np.mean,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert low == pytest.approx(expected.low, abs=0.03)
    assert high == pytest.approx(expected.high, abs=0.03)
    assert low < errors.mean() < high
    again = error_statistics(errors, interval=True)
    assert again.mean_ci95 == (low, high)


def test_interval_of_the_mean_covers_it_about_as_often_as_stated():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(25):
        low, high = error_statistics(rng.gamma(2.0, 1.5, 80), interval=True).mean_ci95
        held.append(low < 3.0 < high)
    assert np.mean(held) > 0.8


def test_a_single_error_has_no_deviation():
    found = error_statistics([2.0], interval=True)
    assert found.mean == found.median == found.p95 == found.max == 2
    assert np.isnan(found.sd)
    assert found.mean_ci95 is None


def pairs_of_patients():
    """Errors of pairs before and after; the patients have unequal numbers of pairs."""
    rng = np.random.default_rng(3)
    patients = np.repeat(list("abcdefgh"), [1, 5, 2, 8, 3, 3, 7, 4])
    level = dict(zip("abcdefgh", rng.uniform(0.5, 2.0, 8), strict=True))
    before = rng.gamma(4.0, 1.5, patients.size)
    before[::6] = 0.0
    after = 0.2 * before + np.array([level[p] for p in patients])
    return after, before, list(patients)


@pytest.mark.parametrize("relative", [False, True])
def test_bootstrap_over_clusters_equals_scipys(relative):
    after, before, patients = pairs_of_patients()
    scale = before if relative else np.ones(before.shape)
    low, high = bootstrap_interval(
        after, patients, relative_to=before if relative else None
    )
    groups = [np.array(patients) == name for name in dict.fromkeys(patients)]

    def ratio(drawn):
        inside = [groups[int(i)] for i in drawn]
        tops, bottoms = (sum(x[g].sum() for g in inside) for x in (after, scale))
        return tops / bottoms

    expected = stats.bootstrap(
        (np.arange(len(groups)),),
        ratio,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.07 * width)
    assert high == pytest.approx(expected.high, abs=0.07 * width)
    assert low < after.sum() / scale.sum() < high


def test_bootstrap_of_clusters_of_one_is_that_of_the_values():
    values = np.random.default_rng(0).gamma(2.0, 1.5, 120)
    found = bootstrap_interval(values, range(120))
    expected = error_statistics(values, interval=True).mean_ci95
    assert found == pytest.approx(expected, abs=0.03)


def test_bootstrap_draws_whole_clusters():
    """Ten pairs that say the same have the interval of one."""
    values = np.repeat([1.0, 2.0, 6.0], 10)
    patients = np.repeat(["a", "b", "c"], 10)
    assert bootstrap_interval(values, patients) == bootstrap_interval(
        [1.0, 2.0, 6.0], ["a", "b", "c"]
    )
    assert np.isnan(bootstrap_interval(values, ["a"] * 30)).all()
    nothing = np.zeros(30)
    assert np.isnan(bootstrap_interval(values, patients, relative_to=nothing)).all()


def test_errors_of_a_pair_equal_numpys():
    errors = np.random.default_rng(1).gamma(2.0, size=1001)
    found = pair_errors(errors, 3 * errors)
    assert found.voxels == 1001
    assert found.mean == pytest.approx(errors.sum() / 1001)
    assert found.before == pytest.approx(3 * errors.mean())
    assert found.median == pytest.approx(np.sort(errors)[500])
    assert found.p95 == pytest.approx(np.sort(errors)[950])
    assert found.under_2mm == pytest.approx((errors < 2).sum() / 1001)


def made(before, mean, **others):
    values = {"voxels": 5, "median": mean, "p95": 2 * mean, "under_2mm": 0.5}
    return PairErrors(before=before, mean=mean, **{**values, **others})


def test_statistics_over_pairs_by_hand():
    """Also with a pair in which nothing moves, which cannot be worse than before."""
    pairs = [made(4.0, 1.0), made(2.0, 3.0, under_2mm=0.2), made(0.0, 0.2)]
    found = statistics_over_pairs(pairs, ["a", "b", "b"])
    assert (found.pairs, found.patients) == (3, 2)
    assert found.mean == found.median == pytest.approx(1.4)
    assert found.sd == pytest.approx(np.std([1, 3, 0.2], ddof=1))
    assert found.p95 == pytest.approx(2.8)
    assert found.under_2mm == pytest.approx(0.4)
    assert found.ratio == pytest.approx(0.7)
    assert (found.moving, found.worse, found.worse_fraction) == (2, 1, 0.5)
    assert found.interval_over == "patients"
    # Of two patients either one or the other is drawn twice, a quarter of the time.
    assert found.mean_ci95 == pytest.approx((1.0, 1.6))
    assert found.ratio_ci95 == pytest.approx((0.25, 1.6))


def test_statistics_of_one_patient_are_over_pairs_and_say_so():
    found = statistics_over_pairs([made(4.0, 1.0), made(2.0, 3.0)], ["a", "a"])
    assert found.interval_over == "pairs"
    assert found.mean_ci95 == (1.0, 3.0)
    still = statistics_over_pairs([made(0.0, 0.2)], ["a"])
    assert np.isnan([still.sd, still.ratio, still.worse_fraction]).all()
    assert np.isnan(still.mean_ci95 + still.ratio_ci95).all()
    assert (still.moving, still.worse) == (0, 0)


def test_paired_difference_is_that_of_the_pairs():
    after, before, patients = pairs_of_patients()
    found = paired_difference(after, before, patients)
    assert found.mean == pytest.approx(np.mean(after - before))
    assert found.sd == pytest.approx(np.std(after - before, ddof=1))
    assert found.mean_ci95 == bootstrap_interval(after - before, patients)
    assert found.smaller == (after < before).sum()
    assert (found.pairs, found.patients) == (33, 8)
    # Far narrower than that of two methods which were not paired.
    same = paired_difference(after, after + 0.1, patients)
    assert same.mean_ci95 == pytest.approx((-0.1, -0.1))
