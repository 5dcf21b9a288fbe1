"""UMU-Bench: golden values by hand and properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.errors import RememError
from remem_tasks.metrics import accf, accr, rlf, rlr

FACTS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20)
ROUGE = st.floats(0, 1)


def test_accuracy_golden():
    # both right, text only, image only, both wrong, both wrong
    text, image = [1, 1, 0, 0, 0], [1, 0, 1, 0, 0]
    assert accf(text, image) == pytest.approx(2 / 5)
    assert accr(text, image) == pytest.approx(1 / 5)


@given(FACTS)
def test_accuracy_is_the_naive_one(facts):
    text, image = zip(*facts)
    assert accf(text, image) == pytest.approx(sum(not (t or i) for t, i in facts) / len(facts))
    assert accr(text, image) == pytest.approx(sum(t and i for t, i in facts) / len(facts))
    assert accf(text, image) + accr(text, image) <= 1 + 1e-12


@pytest.mark.parametrize(
    ("text", "image"), [([], []), ([1], [1, 0]), ([0.5], [1]), ([math.nan], [1]), ([2], [1]), ([None], [1])]
)
@pytest.mark.parametrize("function", [accf, accr])
def test_accuracy_refuses(function, text, image):
    with pytest.raises(RememError):
        function(text, image)


@pytest.mark.parametrize(
    ("text", "image", "contraharmonic", "harmonic"),
    [
        (0.6, 0.2, (0.36 + 0.04) / 0.8, 2 * 0.12 / 0.8),  # .5 and .3
        (0.5, 0.5, 0.5, 0.5),
        (1.0, 0.0, 1.0, 0.0),  # still known one way
        (0.0, 0.0, 0.0, 0.0),
        (1e-200, 1e-200, 1e-200, 1e-200),
    ],
)
def test_rouge_golden(text, image, contraharmonic, harmonic):
    assert rlf(text, image) == pytest.approx(contraharmonic, abs=0)
    assert rlr(text, image) == pytest.approx(harmonic, abs=0)
    assert rlf(image, text) == rlf(text, image)


@given(ROUGE, ROUGE)
def test_rouge_lies_on_either_side_of_the_mean(text, image):
    mean = (text + image) / 2
    assert min(text, image) - 1e-9 <= rlr(text, image) <= mean + 1e-9
    assert mean - 1e-9 <= rlf(text, image) <= max(text, image) + 1e-9
    # the two means lie equally far from the middle: C + H = u + m
    assert rlf(text, image) + rlr(text, image) == pytest.approx(text + image, abs=1e-9)


@pytest.mark.parametrize("pair", [(math.nan, 0.5), (0.5, 1.1), (-0.1, 0.5)])
@pytest.mark.parametrize("function", [rlf, rlr])
def test_rouge_refuses(function, pair):
    with pytest.raises(RememError):
        function(*pair)
