"""Metrics on trial: R, Q, the cut between two pools, the filters; by hand, by property, against the naive way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.errors import RememError
from remem_tasks.metrics.validity import (
    Knocked,
    alike,
    judge,
    quantisation_robustness,
    relearning_robustness,
    threshold,
)

NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))


def test_alike_by_hand():
    # |.2 − .1| / (.2 + .1) = 1/3.
    assert alike(0.2, 0.1) == pytest.approx(2 / 3)
    assert alike(0.0, 0.0) == 1.0  # nothing moved, before and after
    assert alike(0.0, 0.4) == pytest.approx(0.0, abs=1e-6)  # the quotient is 1 − ε/.4
    assert alike(-0.3, 0.3) == pytest.approx(0.0, abs=1e-6)


def test_relearning_is_against_gold_and_symmetric():
    # The model gains .6, gold .2: |.6 − .2| / (.6 + .2) = .5; as much the other way round.
    assert relearning_robustness(0.1, 0.7, 0.0, 0.2) == pytest.approx(0.5)
    assert relearning_robustness(0.0, 0.2, 0.1, 0.7) == pytest.approx(0.5)
    assert relearning_robustness(0.5, 0.7, 0.0, 0.2) == pytest.approx(1.0)  # the same gain from elsewhere
    assert quantisation_robustness(0.6, 0.9) == pytest.approx(1 - 0.3 / 1.5)


@given(NUMBERS, NUMBERS)
def test_alike_is_a_symmetric_share(one, other):
    found = alike(one, other)
    assert 0 <= found <= 1 and found == alike(other, one) == alike(-one, -other)
    assert alike(one, one) == 1


def test_what_is_no_number_is_refused():
    for bad in (float("nan"), float("inf")):
        with pytest.raises(RememError, match="before and after"):
            alike(bad, 0.1)


def test_the_cut_by_hand():
    # Known .5 .8 .9, ignorant .1 .2 .6. Above .35 lie 3/3 and 1/3 (J 2/3), above .7 lie 2/3 and 0 (J 2/3): the lower.
    assert threshold([0.5, 0.8, 0.9], [0.1, 0.2, 0.6]) == pytest.approx(0.35)
    assert threshold([0.8, 0.9], [0.1, 0.2]) == pytest.approx(0.5)
    assert threshold([0.3], [0.3]) == 0.3


@given(st.lists(NUMBERS, min_size=1, max_size=12), st.lists(NUMBERS, min_size=1, max_size=12))
def test_the_cut_is_the_best_of_all_there_are(known, ignorant):
    def worth(cut):
        return sum(one > cut for one in known) / len(known) - sum(one > cut for one in ignorant) / len(
            ignorant
        )

    found, every = threshold(known, ignorant), sorted({*known, *ignorant})
    naive = max(worth(cut) for cut in every)  # a cut at a value is as good as any above it and below the next
    assert worth(found) == pytest.approx(max(naive, 0.0))


def knocked(value, utility=1.0, relearned=None, quantised=None):
    return Knocked(
        utility,
        value,
        value if relearned is None else relearned,
        value if quantised is None else quantised,
        gold=0.0,
        gold_relearned=0.2,
    )


def test_a_trial_by_hand():
    known, ignorant = [0.6, 0.8, 1.0], [0.0, 0.2, 0.7]
    models = [
        knocked(0.1, relearned=0.7, quantised=0.3),  # R .5 (gains .6 and .2), Q 1 − .2/.4 = .5
        knocked(0.2, relearned=0.4, quantised=0.2),  # R 1, Q 1
        knocked(0.1, utility=0.79, relearned=1.0),  # broken: not counted
        knocked(0.9),  # the metric itself says that it knows: not counted
    ]
    found = judge(known, ignorant, models)
    # 9 pairs, of which .6 < .7 alone is the wrong way round; the cut is between .2 and .6.
    assert found.faithfulness == pytest.approx(8 / 9) and found.cut == pytest.approx(0.4)
    assert (found.kept, found.models) == (2, 4)
    assert found.relearning == pytest.approx(0.75) and found.quantisation == pytest.approx(0.75)
    assert found.robustness == pytest.approx(0.75)
    assert found.overall == pytest.approx(2 * (8 / 9) * 0.75 / (8 / 9 + 0.75))


def test_of_bits_less_is_more_known():
    found = judge([1.0, 2.0], [8.0, 9.0], [knocked(9.5), knocked(1.5)], higher=False)
    assert found.faithfulness == 1 and found.cut == 5 and found.kept == 1


def test_a_trial_without_a_model_left_has_no_robustness():
    found = judge([1.0], [0.0], [knocked(0.9)])
    assert found.faithfulness == 1 and found.kept == 0
    assert found.relearning is found.quantisation is found.robustness is found.overall is None
