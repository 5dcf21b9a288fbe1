"""Intervals, paired bootstrap, distances: against hand-worked values and other implementations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ks_2samp

from remem_tasks.errors import RememError
from remem_tasks.report.statistics import (
    distances,
    interval,
    mean_and_sd,
    p_value,
    paired_difference,
    pareto,
    resampled,
    resampled_means,
    wilson,
)


def test_wilson_by_hand():
    # p = 1, n = 9, z = 1.959964: low = (1 + z²/18 − z √(z²/324)) / (1 + z²/9) = 1 / (1 + z²/9)
    z = 1.959963984540054
    low, high = wilson(1.0, 9)
    assert low == pytest.approx(1 / (1 + z * z / 9)) and high == 1
    assert wilson(0.0, 9) == pytest.approx((0, 1 - 1 / (1 + z * z / 9)))


@given(st.integers(1, 200), st.data())
@settings(max_examples=60, deadline=None)
def test_wilson_is_scipys(rows, data):
    right = data.draw(st.integers(0, rows))
    expected = binomtest(right, rows).proportion_ci(0.95, method="wilson")
    assert wilson(right / rows, rows) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_one_sided_bounds_are_those_of_a_wider_confidence():
    assert wilson(0.7, 30, 0.95, sides=1) == pytest.approx(wilson(0.7, 30, 0.90, sides=2))


@pytest.mark.parametrize(("mean", "rows"), [(math.nan, 3), (1.2, 3), (0.5, 0)])
def test_wilson_refuses(mean, rows):
    with pytest.raises(RememError):
        wilson(mean, rows)


def test_every_bootstrap_sample_has_as_many_rows():
    weights = resampled(7, 50)
    assert weights.shape == (50, 7) and (weights.sum(axis=1) == 7).all()
    assert len({tuple(row) for row in weights.tolist()}) > 40
    assert (resampled(7, 50) == weights).all() and (resampled(7, 50, seed=1) != weights).any()


def test_bootstrap_means_are_weighted_means():
    weights = np.array([[2, 1, 0], [0, 0, 3]], dtype=np.float32)
    values = np.array([[1.0, 0.0], [0.0, np.nan], [0.5, 1.0]])
    # (2·1 + 1·0)/3 and 0.5; second model lacks row 1: 2·0/2 and 1
    assert resampled_means(values, weights) == pytest.approx(np.array([[2 / 3, 0.0], [0.5, 1.0]]))


def test_bootstrap_interval_has_the_width_of_theory():
    values = np.array([0.0, 1.0] * 200)
    low, high = interval(resampled_means(values[:, None], resampled(400, 4000))[:, 0])
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 400), rel=0.08)


def test_pairing_sees_what_unpaired_intervals_do_not():
    hard = np.linspace(0, 1, 60)
    better = paired_difference(np.clip(hard + 0.02, 0, 1), hard)
    assert 0 < better.low < better.mean < 0.021 and better.p <= 2 / 1001 + 1e-9
    spread = interval(resampled_means(hard[:, None], resampled(60))[:, 0])
    assert spread[1] - spread[0] > 0.1  # each alone is far less sure


def test_a_difference_of_nothing_is_nothing():
    same = np.array([0.1, 0.7, 0.3] * 11)
    found = paired_difference(same, same)
    assert (found.mean, found.low, found.high, found.p, found.rows) == (0, 0, 0, 1, 33)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_swapping_the_models_turns_the_sign(pairs):
    a, b = (np.array(column) for column in zip(*pairs))
    one, two = paired_difference(a, b, draws=200), paired_difference(b, a, draws=200)
    assert (one.mean, one.low, one.high) == pytest.approx((-two.mean, -two.high, -two.low))
    assert one.p == pytest.approx(two.p)


def test_rows_that_one_model_lacks_are_left_out():
    found = paired_difference([1.0, np.nan, 0.0, 1.0], [0.0, 1.0, 0.0, np.nan])
    assert found.rows == 2 and found.mean == 0.5
    with pytest.raises(RememError, match="no row that both"):
        paired_difference([np.nan], [1.0])
    with pytest.raises(RememError, match="do not pair"):
        paired_difference([1.0, 0.0], [1.0])


def test_p_value_by_hand():
    # 2 of 9 draws at most 0: 2 (2 + 1) / (9 + 1)
    assert p_value([-1, 0, 1, 1, 1, 1, 1, 1, 1]) == pytest.approx(0.6)
    assert p_value([1.0] * 9) == pytest.approx(0.2)
    assert p_value([0.0] * 9) == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_distances_are_scipys_and_numpys(model, gold):
    found = distances(model, gold)
    assert found["ks"] == pytest.approx(ks_2samp(model, gold, method="asymp").statistic)
    assert 0 <= found["jsd"] <= 1 and 0 <= found["ks_p"] <= 1


def test_distance_by_hand():
    found = distances([0.05, 0.05, 0.95, 0.95], [0.05] * 4)
    # halves (½, ½) against (1, 0): JSD² = H(¾, ¼) − ½ H(½, ½) − ½ H(1) bits = 0.8113 − 0.5
    assert found["ks"] == 0.5 and found["jsd"] == pytest.approx(math.sqrt(0.8112781244591328 - 0.5))
    assert distances([0.0, 1.0], [0.0, 1.0])["jsd"] == pytest.approx(0)
    assert distances([1.0, 1.0], [0.0, 0.0])["jsd"] == pytest.approx(1)


def test_mean_and_sd_of_seeds():
    assert mean_and_sd([0.1, 0.2, 0.3]) == pytest.approx((0.2, 0.1))
    assert mean_and_sd([0.4]) == (0.4, None)


def test_pareto_front():
    points = {"a": (0.0, 0.5), "b": (0.2, 0.9), "c": (0.2, 0.8), "d": (0.5, 0.9), "e": (0.0, 0.5)}
    assert pareto(points) == ["a", "e", "b"]


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1
    )
)
def test_nothing_beats_the_front_and_it_is_never_empty(points):
    front = pareto(points)
    assert front
    for name in front:
        x, y = points[name]
        assert not any((u <= x and v >= y) and (u, v) != (x, y) for u, v in points.values())
