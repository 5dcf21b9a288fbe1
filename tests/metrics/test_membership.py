"""Membership inference: golden values by hand, naive references, and scikit-learn's area under the curve."""

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from remem_tasks.errors import RememError
from remem_tasks.metrics import auc, loss_score, min_k, min_k_plus_plus, privleak, reference_score, zlib_score

LOGPROBS = st.lists(st.floats(-30, 0), min_size=1, max_size=30)
SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=20)  # with many ties


def test_loss_zlib_and_reference_golden():
    logprobs = [-1.0, -2.0, -6.0]
    assert loss_score(logprobs) == pytest.approx(-3.0)
    assert zlib_score(logprobs, "Ana") == pytest.approx(-3.0 / len(zlib.compress(b"Ana")))
    assert reference_score(logprobs, [-4.0, -6.0]) == pytest.approx(-3.0 - -5.0)
    # of two texts with the same loss the one that compresses less is the likelier member
    assert zlib_score(logprobs, "q8#Zf!t0Lw2x") > zlib_score(logprobs, "a")
    with pytest.raises(RememError):
        zlib_score(logprobs, "")


@pytest.mark.parametrize(
    ("k", "score"),
    [
        (0.4, (-5 - 4) / 2),  # 2 of 5
        (0.1, -5.0),  # 0.5 of 5: at least one
        (0.59, (-5 - 4) / 2),  # 2.95 rounds down
        (0.6, (-5 - 4 - 3) / 3),
        (1.0, -3.0),
    ],
)
def test_min_k_golden(k, score):
    assert min_k([-1.0, -5.0, -3.0, -2.0, -4.0], k) == pytest.approx(score)


def test_min_k_counts_exactly_where_floats_do_not():
    # 0.29 · 100 is 28.999999999999996 in floats: 29 tokens, of which the last differs
    logprobs = [-2.0] * 28 + [-1.0] * 72
    assert min_k(logprobs, 0.29) == pytest.approx((28 * -2 - 1) / 29)


def test_min_k_plus_plus_golden():
    # (−1 − −2)/1 = 1, (−5 − −2)/2 = −1.5, (−3 − −1)/4 = −.5: lowest 2 of 3 at k = .7
    arguments = ([-1.0, -5.0, -3.0], [-2.0, -2.0, -1.0], [1.0, 2.0, 4.0])
    assert min_k_plus_plus(*arguments, k=0.7) == pytest.approx((-1.5 - 0.5) / 2)
    assert min_k_plus_plus(*arguments, k=0.1) == pytest.approx(-1.5)
    # a certain model: the token has all mass, σ = 0, and nothing is divided by it
    assert min_k_plus_plus([0.0], [0.0], [0.0]) == 0.0
    assert min_k_plus_plus([-0.002], [-0.001], [0.0]) == pytest.approx(-0.001 / 0.001)


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.4, 1.0]))
def test_min_k_plus_plus_is_the_naive_one(seed, k):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5), size=9)
    said = rng.integers(0, 5, size=9)
    z = []
    for row, token in zip(p, said):
        mean = sum(q * math.log(q) for q in row)
        variance = sum(q * (math.log(q) - mean) ** 2 for q in row)
        z.append((math.log(row[token]) - mean) / math.sqrt(variance))
    means = (p * np.log(p)).sum(1)
    sds = np.sqrt((p * np.log(p) ** 2).sum(1) - means**2)
    expected = np.mean(sorted(z)[: max(1, int(k * 9))])
    assert min_k_plus_plus(np.log(p[range(9), said]), means, sds, k) == pytest.approx(expected)


@given(LOGPROBS, st.sampled_from([0.1, 0.25, 0.4, 0.5]))
def test_min_k_properties(logprobs, k):
    assert min_k(logprobs, k) == min_k(logprobs[::-1], k)
    assert min(logprobs) - 1e-9 <= min_k(logprobs, k) <= loss_score(logprobs) + 1e-9
    assert min_k(logprobs, 1.0) == pytest.approx(loss_score(logprobs))


@pytest.mark.parametrize("logprobs", [[], [math.nan], [0.1], [-math.inf], [[-1.0]]])
def test_log_probabilities_that_are_none(logprobs):
    for score in (loss_score, min_k, lambda x: zlib_score(x, "Ana"), lambda x: reference_score([-1.0], x)):
        with pytest.raises(RememError):
            score(logprobs)


@pytest.mark.parametrize("k", [0.0, -0.1, 1.1, math.nan])
def test_min_k_refuses(k):
    with pytest.raises(RememError):
        min_k([-1.0], k)


@pytest.mark.parametrize(
    ("means", "sds"),
    [([-1.0], [1.0, 1.0]), ([-1.0, -1.0], [1.0]), ([-1.0] * 2, [1.0, -1.0]), ([-1.0] * 2, [1.0, math.nan])],
)
def test_min_k_plus_plus_refuses(means, sds):
    with pytest.raises(RememError):
        min_k_plus_plus([-1.0, -2.0], means, sds)


def test_auc_golden():
    # pairs (2,1) (2,2) (3,1) (3,2): 1 + ½ + 1 + 1 of 4
    assert auc([2, 3], [1, 2]) == pytest.approx(3.5 / 4)
    assert auc([3, 4], [1, 2]) == 1.0 and auc([1, 2], [3, 4]) == 0.0
    assert auc([1, 1], [1, 1, 1]) == 0.5
    for members, others in (([], [1]), ([1], []), ([math.nan], [1]), ([1], [math.inf])):
        with pytest.raises(RememError):
            auc(members, others)


@given(SCORES, SCORES)
def test_auc_is_the_naive_one_and_scikit_learns(members, others):
    pairs = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    assert auc(members, others) == pytest.approx(sum(pairs) / len(pairs))
    labels = [1] * len(members) + [0] * len(others)
    assert auc(members, others) == pytest.approx(roc_auc_score(labels, [*members, *others]))
    assert auc(others, members) == pytest.approx(1 - auc(members, others))


def test_privleak_golden():
    # MUSE's AUC are .1 and .5: (.1 − .5) / .5 = −80 %, members still told
    assert privleak(0.9, 0.5) == pytest.approx(-80.0)
    assert privleak(1.0, 0.5) == pytest.approx(-100.0)
    assert privleak(0.5, 0.5) == 0.0
    assert privleak(0.25, 0.5) == pytest.approx(50.0)  # over-unlearned
    for bad in ((0.5, 1.0), (1.1, 0.5), (0.5, math.nan)):
        with pytest.raises(RememError):
            privleak(*bad)
