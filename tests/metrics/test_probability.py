"""Probability, truth ratio, forget quality and utility: golden values by hand, naive references, published ones."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import hmean, ks_2samp

from remem_tasks.errors import RememError
from remem_tasks.metrics import (
    answer_probability,
    harmonic_mean,
    jsd_forget_quality,
    ks_forget_quality,
    model_utility,
    options_probability,
    truth_ratio,
    truth_ratio_forget,
    truth_ratio_retain,
)

LOGPROBS = st.floats(-30, 0)
RATIOS = st.floats(1e-3, 1e3)


def log(*values: float) -> list[float]:
    return [math.log(value) for value in values]


def test_answer_probability_golden():
    # losses ln 2 and ln 8: mean 2 ln 2, probability 1/4
    assert answer_probability(log(1 / 2, 1 / 8)) == pytest.approx(1 / 4)
    assert answer_probability([0.0]) == 1.0
    assert answer_probability(np.float32([-1, -3])) == pytest.approx(math.exp(-2))


def test_options_golden():
    # .2 / (.2 + .1 + .1)
    assert options_probability(math.log(0.2), log(0.1, 0.1)) == pytest.approx(1 / 2)
    assert options_probability(-math.inf, log(0.1)) == 0.0
    assert options_probability(-2000.0, [-2000.0 + math.log(3)]) == pytest.approx(
        1 / 4
    )  # exp(−2000) is 0 in floats
    with pytest.raises(RememError, match="all have probability 0"):
        options_probability(-math.inf, [-math.inf])


@given(LOGPROBS, st.lists(LOGPROBS, min_size=1, max_size=6))
def test_options_are_the_naive_ones(right, wrong):
    p = math.exp(right)
    assert options_probability(right, wrong) == pytest.approx(p / (p + sum(map(math.exp, wrong))))


def test_truth_ratio_golden():
    # wrong answers .1 and .3, right one .4: arithmetic .2/.4, geometric √.03/.4
    assert truth_ratio(math.log(0.4), log(0.1, 0.3)) == pytest.approx(0.5)
    assert truth_ratio(math.log(0.4), log(0.1, 0.3), "geometric") == pytest.approx(math.sqrt(0.03) / 0.4)
    assert truth_ratio(-1000.0, [-1.0]) == math.inf and truth_ratio(-1.0, [-1000.0]) == 0.0
    assert truth_ratio(-math.inf, [-1.0]) == math.inf and truth_ratio(-1.0, [-math.inf]) == 0.0
    with pytest.raises(RememError, match="all have probability 0"):
        truth_ratio(-math.inf, [-math.inf])
    with pytest.raises(RememError, match="harmonic"):
        truth_ratio(-1.0, [-1.0], "harmonic")


@given(LOGPROBS, st.lists(LOGPROBS, min_size=1, max_size=6))
def test_truth_ratio_is_the_naive_one(right, wrong):
    expected = sum(map(math.exp, wrong)) / len(wrong) / math.exp(right)
    assert truth_ratio(right, wrong) == pytest.approx(expected)
    assert truth_ratio(right, wrong, "geometric") <= expected * (1 + 1e-9)


def test_the_direction_of_the_truth_ratio_on_two_rows():
    knows = truth_ratio(math.log(0.8), log(0.1, 0.1))  # 1/8
    prefers_the_wrong = truth_ratio(math.log(0.1), log(0.4, 0.4))  # 4
    assert (knows, prefers_the_wrong) == pytest.approx((1 / 8, 4))
    # to keep: max(0, 1 − 1/8) and max(0, 1 − 4); the inverted ratio would give 0 and 3/4
    assert (
        truth_ratio_retain([knows]) == pytest.approx(7 / 8) and truth_ratio_retain([prefers_the_wrong]) == 0.0
    )
    assert truth_ratio_retain([knows, prefers_the_wrong]) == pytest.approx((7 / 8 + 0) / 2)
    # to forget: 1/8 and 1/4, and 1 where right and wrong are alike
    assert truth_ratio_forget([knows, prefers_the_wrong]) == pytest.approx((1 / 8 + 1 / 4) / 2)
    assert truth_ratio_forget([1.0]) == 1.0 and truth_ratio_forget([0.0, math.inf]) == 0.0
    assert truth_ratio_retain([0.0, math.inf]) == 0.5


@pytest.mark.parametrize("function", [truth_ratio_forget, truth_ratio_retain])
@pytest.mark.parametrize("ratios", [[], [math.nan], [1.0, -0.1], ["a"]])
def test_ratios_that_are_none(function, ratios):
    with pytest.raises(RememError):
        function(ratios)


# Forget quality


def test_ks_golden():
    # nothing overlaps: D = 1, and of the C(4, 2) = 6 orders only two are as extreme
    quality = ks_forget_quality([1.0, 2.0], [3.0, 4.0])
    assert quality.statistic == 1.0
    assert quality.p_value == pytest.approx(1 / 3)
    assert quality.ln_p == pytest.approx(-math.log(3)) and quality.log10_p == pytest.approx(-math.log10(3))
    assert ks_forget_quality([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])[:3] == (1.0, 0.0, 0.0)


def naive_ks(first: list[float], second: list[float]) -> tuple[float, float]:
    """D by counting, and p as the share of all ways to share out the values that reach D."""

    def distance(a, b):
        return max(abs(sum(x <= t for x in a) / len(a) - sum(x <= t for x in b) / len(b)) for t in [*a, *b])

    every, seen = [*first, *second], distance(first, second)
    splits = list(itertools.combinations(range(len(every)), len(first)))
    reached = sum(
        distance([every[i] for i in held], [every[i] for i in range(len(every)) if i not in held])
        >= seen - 1e-9
        for held in splits
    )
    return seen, reached / len(splits)


@given(st.lists(RATIOS, min_size=4, max_size=7, unique=True), st.integers(1, 3))
def test_ks_is_the_naive_one(values, first):
    quality = ks_forget_quality(values[:first], values[first:])
    statistic, p = naive_ks(values[:first], values[first:])
    assert quality.statistic == pytest.approx(statistic)
    assert quality.p_value == pytest.approx(p)
    assert quality.ln_p == pytest.approx(math.log(p), abs=1e-9)
    inverted = ks_forget_quality(1 / np.array(values[:first]), 1 / np.array(values[first:]))
    assert inverted.p_value == pytest.approx(p)


@pytest.mark.parametrize("sizes", [(300, 300), (41, 41), (40, 60)])
def test_ks_p_is_scipys(sizes):
    rng = np.random.default_rng(0)
    for shift in np.linspace(0.1, 4, 12):
        unlearned, gold = rng.lognormal(size=sizes[0]), rng.lognormal(shift, size=sizes[1])
        exact = ks_2samp(unlearned, gold, method="exact")
        quality = ks_forget_quality(unlearned, gold)
        assert quality.statistic == exact.statistic
        assert quality.p_value == pytest.approx(exact.pvalue, rel=1e-9)
        assert quality.ln_p == pytest.approx(math.log(exact.pvalue), abs=1e-9)


def test_published_values_are_natural_logarithms():
    """All ten of CLEAR's Table for LLaVA-1.5-7B, forget10, are ln p of 300 against 300 rows; log10 fits none."""
    published = [-61.22, -13.04, -17.72, -74.40, -13.92, -63.15, -60.26, -23.68, -73.34, -62.18]
    rows = np.arange(300.0)
    qualities = [ks_forget_quality(rows, rows + shift) for shift in range(1, 200)]  # D = shift / 300
    assert [quality.statistic for quality in qualities] == [shift / 300 for shift in range(1, 200)]
    natural = {round(quality.ln_p, 2) for quality in qualities}
    decimal = {round(quality.log10_p, 2) for quality in qualities}
    assert natural.issuperset(published)
    assert not decimal.intersection(published)


def test_ln_p_where_p_is_below_the_smallest_float():
    # nothing overlaps: p = 2 / C(2n, n), here e^-827
    rows = np.arange(600.0)
    quality = ks_forget_quality(rows, rows + 600)
    assert quality.p_value == 0.0
    assert quality.ln_p == pytest.approx(math.log(2) - math.log(math.comb(1200, 600)))
    assert quality.log10_p == pytest.approx(quality.ln_p / math.log(10))
    # sizes that differ: ln 2 − 2 D² NM / (N + M)
    uneven = ks_forget_quality(np.arange(1200.0), np.arange(1300.0) + 1200)
    assert uneven.p_value == 0.0
    assert uneven.ln_p == pytest.approx(math.log(2) - 2 * 1200 * 1300 / 2500)


def test_ks_takes_infinite_ratios():
    ratios = [0.5, 1.0, math.inf]
    assert ks_forget_quality(ratios, [0.5, 1.0, 2.0]).statistic == pytest.approx(1 / 3)
    assert ks_forget_quality(ratios, ratios).p_value == 1.0


def test_jsd_row_by_row_golden():
    # P = (1/2, 1/2), Q = (1, 0), middle (3/4, 1/4):
    # ½ [½ ln(2/3) + ½ ln 2] + ½ ln(4/3)
    divergence = 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2)) + 0.5 * math.log(4 / 3)
    assert jsd_forget_quality([1.0, 1.0], [3.0, 0.0]) == pytest.approx(1 - math.sqrt(divergence))
    assert jsd_forget_quality([1.0, 1.0], [3.0, 0.0], base=2) == pytest.approx(
        1 - math.sqrt(divergence / math.log(2))
    )
    # apart altogether
    assert jsd_forget_quality([1.0, 0.0], [0.0, 1.0]) == pytest.approx(1 - math.sqrt(math.log(2)))
    assert jsd_forget_quality([1.0, 0.0], [0.0, 1.0], base=2) == pytest.approx(0.0)
    assert jsd_forget_quality([1.0, 2.0], [10.0, 20.0]) == 1.0  # a common factor does not matter
    assert jsd_forget_quality([1e308, 1e308], [1.0, 1.0]) == 1.0


def test_jsd_in_bins_golden():
    # r / (1 + r): 1/2, 3/4 | 0, 1/4 and for the other 0, 1/4 | 0, inf → in two bins (2, 2) and (3, 1)
    unlearned, gold = [1.0, 3.0, 0.0, 1 / 3], [0.0, 1 / 3, 0.0, math.inf]
    p, q = np.array([2, 2]) / 4, np.array([3, 1]) / 4
    assert jsd_forget_quality(unlearned, gold, bins=2) == pytest.approx(1 - jensenshannon(p, q))
    assert jsd_forget_quality(unlearned, gold[:2], bins=2, base=2) == pytest.approx(
        1 - jensenshannon(p, [1, 0], base=2)
    )


@given(st.lists(st.tuples(RATIOS, RATIOS), min_size=2, max_size=12))
def test_jsd_is_scipys_and_symmetric(pairs):
    unlearned, gold = map(np.array, zip(*pairs))
    with np.errstate(invalid="ignore"):  # scipy's root of a distance that rounding left below 0
        expected = 1 - np.nan_to_num(jensenshannon(unlearned, gold))
    assert jsd_forget_quality(unlearned, gold) == pytest.approx(expected, abs=1e-7)
    assert jsd_forget_quality(gold, unlearned) == pytest.approx(jsd_forget_quality(unlearned, gold))
    assert jsd_forget_quality(gold, gold) == 1.0 and jsd_forget_quality(gold, gold[::-1], bins=20) == 1.0
    binned = jsd_forget_quality(unlearned, gold, bins=20, base=2)
    assert 0 <= binned <= 1
    assert jsd_forget_quality(unlearned[::-1], gold, bins=20, base=2) == pytest.approx(binned)


@pytest.mark.parametrize(
    ("unlearned", "gold", "options"),
    [
        ([], [1.0], {}),
        ([1.0], [1.0, 2.0], {}),
        ([math.nan, 1.0], [1.0, 2.0], {}),
        ([math.inf, 1.0], [1.0, 2.0], {}),
        ([0.0, 0.0], [1.0, 2.0], {}),
        ([-1.0, 1.0], [1.0, 2.0], {}),
        ([1.0], [1.0], {"bins": 1}),
        ([1.0], [1.0], {"base": 1}),
        ([1.0], [math.nan], {"bins": 5}),
    ],
)
def test_forget_quality_refuses(unlearned, gold, options):
    with pytest.raises(RememError):
        jsd_forget_quality(unlearned, gold, **options)
    if any(math.isnan(x) or x < 0 for x in [*unlearned, *gold]) or not unlearned:
        with pytest.raises(RememError):
            ks_forget_quality(unlearned, gold)


# Utility


def test_harmonic_mean_golden():
    # 3 / (1/1 + 1/(1/2) + 1/(1/4)) = 3/7
    assert model_utility([1.0, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert model_utility([0.9, 0.9, 0.0]) == 0.0
    assert harmonic_mean([5e-324, 1.0]) > 0
    for bad in ([], [0.5, math.nan], [0.5, 1.1], [-0.1]):
        with pytest.raises(RememError):
            model_utility(bad)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=9))
def test_harmonic_mean_is_scipys(parts):
    assert harmonic_mean(parts) == pytest.approx(hmean(parts))
    assert min(parts) * (1 - 1e-9) <= harmonic_mean(parts) <= sum(parts) / len(parts) * (1 + 1e-9)


@pytest.mark.parametrize("logprobs", [[], [math.nan], [0.1], [[-1.0]], [math.inf], None])
def test_log_probabilities_that_are_none(logprobs):
    with pytest.raises(RememError):
        answer_probability(logprobs)
    with pytest.raises(RememError):
        options_probability(-1.0, logprobs)
    with pytest.raises(RememError):
        truth_ratio(-1.0, logprobs)
