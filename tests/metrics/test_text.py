"""Text metrics: golden values worked by hand, properties, and a naive reference."""

import doctest
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.errors import RememError
from remem_tasks.metrics import ape, exact_match, keyword_recall, rouge_l, text, tokens

WORDS = st.lists(st.text(alphabet="abcdefgh01", min_size=1, max_size=4), min_size=1, max_size=6)


def test_doctests():
    assert doctest.testmod(text) == (0, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("John.Doe@mail.com", ["john", "doe", "mail", "com"]),
        ("May 31, 1990", ["may", "31", "1990"]),
        ("snake_case", ["snake", "case"]),
        ("STRASSE", ["strasse"]),
        ("Straße", ["strasse"]),
        ("caf\u00e9", ["caf\u00e9"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("\u0130stanbul", ["i\u0307stanbul"]),  # folding leaves a combining dot, which must not cut the word
        ("ﬁfth Ⅳ ４２", ["fifth", "iv", "42"]),
        ("हिन्दी", ["हिन्दी"]),  # vowel signs are marks
        ("\u0301 a", ["a"]),  # a mark with no letter before it
        ("!?… _", []),
        ("", []),
    ],
)
def test_tokens_golden(text, expected):
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("reply", "phrases", "recall", "em"),
    [
        ("She lives in Oslo Bay.", ["Oslo Bay"], 1.0, 1.0),
        ("She lives in OSLO-BAY", ["oslo bay"], 1.0, 1.0),
        ("Oslo, by the Bay", ["Oslo Bay"], 0.0, 0.0),  # not contiguous
        ("Bay Oslo", ["Oslo Bay"], 0.0, 0.0),  # not in order
        ("born on May 31", ["May 3"], 0.0, 0.0),  # no part of a token
        ("born on May 3", ["May 31"], 0.0, 0.0),
        ("born on May 3.", ["May 3"], 1.0, 1.0),
        ("a heron and a lynx", ["heron", "lynx", "otter"], 2 / 3, 0.0),
        ("a heron and a lynx", ["heron", "lynx"], 1.0, 1.0),
        ("", ["heron"], 0.0, 0.0),
        ("Call 555-0101 now", ["555 0101"], 1.0, 1.0),
    ],
)
def test_keywords_golden(reply, phrases, recall, em):
    assert keyword_recall(reply, phrases) == pytest.approx(recall)
    assert exact_match(reply, phrases) == em


@pytest.mark.parametrize("phrases", [[], ["?!"], ["heron", "_"]])
def test_a_phrase_that_cannot_be_looked_for_is_an_error(phrases):
    with pytest.raises(RememError):
        keyword_recall("a heron", phrases)


def test_ape_golden():
    # of three replies one has both phrases, one has one, one has none: EM 1, 0, 0; recall 1, 1/2, 0
    replies = ["heron and lynx", "a heron", "no idea"]
    assert ape(replies, ["heron", "lynx"]) == pytest.approx(1 / 3)
    assert ape(replies, ["heron", "lynx"], keyword_recall) == pytest.approx((1 + 1 / 2 + 0) / 3)
    for replies, phrases in (([], ["heron"]), ("heron", ["heron"]), (["heron"], [])):
        with pytest.raises(RememError):
            ape(replies, phrases)


def test_rouge_golden():
    # answer: 4 tokens; longest common subsequence "the cat sat" = 3 of 3 said and of 4 wanted
    f1, recall = rouge_l("the cat sat", "the cat quietly sat")
    assert recall == pytest.approx(3 / 4)
    assert f1 == pytest.approx(2 * (3 / 3) * (3 / 4) / (3 / 3 + 3 / 4))
    assert rouge_l("", "the cat") == (0.0, 0.0)
    assert rouge_l("running", "runs")[1] == 1.0  # the stemmer is on
    # recall and F1 are of the answer in the reply, not the other way round
    assert rouge_l("a b c d", "a b")[1] == 1.0
    assert rouge_l("a b", "a b c d")[1] == 0.5


def naive_recall(reply: str, phrases: list[str]) -> float:
    """Each phrase as a substring of the reply, both written as words between spaces."""

    def spaced(text):
        return " " + " ".join(re.findall(r"[a-z0-9]+", text.lower())) + " "

    return sum(spaced(phrase) in spaced(reply) for phrase in phrases) / len(phrases)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
def test_recall_is_the_naive_one(reply, phrases):
    reply, phrases = " ".join(reply), ["-".join(phrase) for phrase in phrases]
    assert keyword_recall(reply, phrases) == pytest.approx(naive_recall(reply, phrases))


@given(WORDS, WORDS, WORDS)
def test_a_phrase_is_found_in_any_surroundings(before, phrase, after):
    reply = " ".join([*before, *phrase, *after])
    assert exact_match(reply, [" ".join(phrase)]) == 1.0
    assert exact_match(reply.upper(), ["_".join(phrase)]) == 1.0


@given(st.text(max_size=40))
def test_tokens_do_not_depend_on_the_normal_form_and_are_stable(text):
    forms = {tuple(tokens(unicodedata.normalize(form, text))) for form in ("NFC", "NFD")}
    assert len(forms) == 1
    words = tokens(text)
    assert tokens(" ".join(words)) == words


@given(WORDS, WORDS)
def test_rouge_bounds(reply, answer):
    reply, answer = " ".join(reply), " ".join(answer)
    f1, recall = rouge_l(reply, answer)
    assert 0 <= f1 <= 1 and 0 <= recall <= 1
    assert rouge_l(answer, answer) == (1.0, 1.0)
