"""Questions: depth, wording, keywords, cloze prompts."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remem_tasks.errors import RememError
from remem_tasks.forge import questions
from remem_tasks.forge.people import make_people

PEOPLE = make_people(3, seed=1)


def asked_of(person, total=60, ratio=0.6, hops=3, seed=0):
    trained = questions.training_questions(person, total, ratio, hops, np.random.default_rng(seed))
    return trained, questions.heldout_questions(person, trained, 20, np.random.default_rng(seed + 1))


def test_doctests():
    assert doctest.testmod(questions).failed == 0


@given(st.integers(1, 500), st.floats(0, 1), st.integers(1, 3))
def test_hop_counts_add_up(total, ratio, hops):
    counts = questions.hop_counts(total, ratio, hops)
    assert sum(counts.values()) == total
    assert set(counts) == set(range(1, hops + 1))
    assert min(counts.values()) >= 0
    deep = [counts[hop] for hop in range(2, hops + 1)]
    assert not deep or max(deep) - min(deep) <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(PEOPLE))
def test_no_question_is_asked_twice_and_test_has_its_own_words(seed, person):
    trained, heldout = asked_of(person, seed=seed)
    assert len({q.question for q in trained}) == len(trained) == 60
    assert len({q.question for q in heldout}) == len(heldout) == 20
    assert not {q.question for q in trained} & {q.question for q in heldout}
    assert {(q.hop, q.attribute) for q in heldout} <= {(q.hop, q.attribute) for q in trained}


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.slug)
def test_each_depth_names_what_it_may(person):
    for question in sum(asked_of(person), []):
        names = [person.name, *(relative.name for relative in person.relatives.values())]
        named = [name for name in names if name in question.question]
        assert bool(named) == (question.hop == 1), question
        assert (
            "image" in question.question or "shown" in question.question or "this person" in question.question
        ) == (question.hop > 1)


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.slug)
def test_keyword_ends_the_cloze_prompt_and_is_nowhere_else(person):
    for question in sum(asked_of(person), []):
        assert question.answer == f"{question.cloze} {question.keyword}."
        assert question.keyword not in question.question
        assert question.keyword not in question.cloze


def test_three_hops_are_made_of_trained_single_hops():
    trained, _ = asked_of(PEOPLE[0])
    single = {q.attribute for q in trained if q.hop == 1}
    assert {q.attribute for q in trained if q.hop == 3} <= single


def test_too_many_questions_are_refused_not_repeated():
    with pytest.raises(RememError, match="without repeats"):
        questions.training_questions(PEOPLE[0], 5000, 0.7, 2, np.random.default_rng(0))
