"""Exact memorisation and extraction strength: golden values by hand and naive references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.errors import RememError
from remem_tasks.metrics import exact_memorisation, extraction_strength

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("predicted", "target", "exact", "strength"),
    [
        ([5, 6, 7, 8], [5, 6, 7, 8], 1.0, 1.0),
        ([5, 0, 7, 8], [5, 6, 7, 8], 3 / 4, 1 - 2 / 4),  # from token 2 on all are right
        ([0, 6, 7, 8], [5, 6, 7, 8], 3 / 4, 1 - 1 / 4),
        ([5, 6, 7, 0], [5, 6, 7, 8], 3 / 4, 0.0),  # the last is wrong: k = n
        ([0, 0, 0, 0], [5, 6, 7, 8], 0.0, 0.0),
        ([5], [5], 1.0, 1.0),
        ([0], [5], 0.0, 0.0),
    ],
)
def test_golden(predicted, target, exact, strength):
    assert exact_memorisation(predicted, target) == pytest.approx(exact)
    assert extraction_strength(predicted, target) == pytest.approx(strength)


@given(PAIRS)
def test_the_naive_ones(pairs):
    predicted, target = (list(side) for side in zip(*pairs))
    n = len(target)
    k = next(k for k in range(n + 1) if predicted[k:] == target[k:])
    assert extraction_strength(predicted, target) == pytest.approx(1 - k / n)
    assert exact_memorisation(predicted, target) == pytest.approx(sum(p == t for p, t in pairs) / n)
    assert extraction_strength(predicted, target) <= exact_memorisation(predicted, target)


@pytest.mark.parametrize(
    ("predicted", "target"), [([], []), ([1, 2], [1]), ([[1]], [[1]]), ([1.0], [1.0]), (["a"], ["a"])]
)
@pytest.mark.parametrize("function", [exact_memorisation, extraction_strength])
def test_what_they_refuse(function, predicted, target):
    with pytest.raises(RememError):
        function(predicted, target)
