"""What a vLLM server tells of tokens, by hand; and what a white box with gaps is asked for."""

import math
from types import SimpleNamespace

import pytest

from remem_tasks.benchmarks.scoring_config import BackendCapabilities, ScoringConfig, fit
from remem_tasks.harness.vllm_reading import Place, end_of, ids_of, places_of, said_of

HALF, QUARTER = math.log(0.5), math.log(0.25)


def told(**values):
    return {name.removeprefix("t"): {"logprob": value} for name, value in values.items()}


def test_what_is_no_text_is_taken_out():
    """p = 1/2, 1/4 and 1/4 of a token that is no text: of text alone 2/3 and 1/3."""
    place = Place.read(1, told(t0=HALF, t1=QUARTER, t9=QUARTER), {9})
    assert place.known == pytest.approx({0: math.log(2 / 3), 1: math.log(1 / 3)})
    assert place.logprob == pytest.approx(math.log(1 / 3)) and place.predicted == 0
    assert Place.read(9, told(t0=HALF, t9=HALF), {9}).logprob == -math.inf


def test_given_that_one_of_some_tokens_comes():
    place = Place(1, {0: HALF, 1: QUARTER, 2: QUARTER})
    assert place.among([1, 2, 7]).logprob == pytest.approx(HALF)
    assert place.among([0]).logprob == -math.inf


def test_moments():
    """p = 1/2, 1/4, 1/4: mean of ln p = −1.5 ln 2, its square's −2.5 (ln 2)², so the sd is ln 2 / 2."""
    mean, sd = Place(0, {0: HALF, 1: QUARTER, 2: QUARTER}).moments()
    assert (mean, sd) == pytest.approx((-1.5 * math.log(2), math.log(2) / 2))


def test_the_likeliest_of_equals_is_the_first():
    assert Place(5, {5: HALF, 3: HALF}).predicted == 3


SPELLING = SimpleNamespace(of=lambda ids: [{1: b"It ", 2: b"is", 3: b" Oslo", 4: b""}[one] for one in ids])


def test_the_end_of_a_prompt():
    assert end_of([4, 1, 2, 3], b"is Oslo", SPELLING) == [2, 3]
    assert end_of([4, 1, 2, 3], b"", SPELLING) == []
    for text in (b"s Oslo", b"is Rome", b"xIt is Oslo"):
        with pytest.raises(ValueError, match="its prompt does not end in"):
            end_of([4, 1, 2, 3], text, SPELLING)


def test_what_a_body_has_to_tell():
    body = {"prompt_token_ids": [1, 2], "prompt_logprobs": [None, told(t2=HALF, t1=HALF)]}
    ids, places = places_of(body, set())
    assert ids == [1, 2] and places[0] is None and places[1].logprob == pytest.approx(HALF)
    for fault, says in (
        ({}, "its prompt's tokens"),
        ({"prompt_token_ids": [1, 2]}, "does not say the log-probabilities"),
        ({**body, "prompt_logprobs": [None]}, "does not say the log-probabilities"),
        ({**body, "prompt_logprobs": [None, {"2": {}}]}, "cannot be read"),
    ):
        with pytest.raises(ValueError, match=says):
            places_of(fault, set())
    with pytest.raises(ValueError, match="its prompt's tokens"):
        ids_of([1])


def test_the_tokens_of_replies():
    choice = {"message": {"content": "x"}, "finish_reason": "stop", "token_ids": [5, 6]}
    assert said_of({"choices": [choice, choice], "usage": {"completion_tokens": 4}}) == [[5, 6], [5, 6]]
    for fault, says in (
        ({"token_ids": []}, "its reply's tokens"),
        ({"finish_reason": "abort"}, "ended by abort"),
    ):
        with pytest.raises(ValueError, match=says):
            said_of({"choices": [{**choice, **fault}]})


GAPS = {"exact": "no search", "distinct": "no search", "membership": "no moments"}


def test_a_white_box_with_gaps_draws_rollouts():
    can = BackendCapabilities("", "", without=GAPS)
    scoring, missing = fit(ScoringConfig(metrics=("em", "exposure", "membership", "memorisation")), can)
    assert scoring.metrics == ("em", "exposure", "memorisation") and scoring.estimator == ("frequency",)
    assert missing == GAPS
    scoring, missing = fit(ScoringConfig(metrics=("em",)), can)
    assert missing == {} and scoring.metrics == ("em",)
    scoring, missing = fit(ScoringConfig(estimator=("exact", "frequency")), can)
    assert scoring.estimator == ("frequency",) and missing == {"exact": "no search"}


def test_a_white_box_without_gaps_and_no_white_box_are_as_before():
    whole = ScoringConfig()
    assert fit(whole, BackendCapabilities("", "")) == (whole, {})
    scoring, missing = fit(whole, BackendCapabilities())
    assert set(missing) == {"memo", "exposure"} and scoring.estimator == whole.estimator
