"""Text metrics: golden values worked by hand, properties, and a naive reference."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from remem_tasks.errors import RememError
from remem_tasks.metrics import (
    ape,
    cut_points,
    exact_match,
    extraction_rate,
    frequency_rank,
    keyword_recall,
    memo,
    rouge_l,
)
from remem_tasks.metrics.text import rouge

WORDS = st.lists(st.text(alphabet="abcdefgh01", min_size=1, max_size=4), min_size=1, max_size=6)


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


@given(WORDS, WORDS)
def test_rouge_bounds(reply, answer):
    reply, answer = " ".join(reply), " ".join(answer)
    f1, recall = rouge_l(reply, answer)
    assert 0 <= f1 <= 1 and 0 <= recall <= 1
    assert rouge_l(answer, answer) == (1.0, 1.0)


@given(
    st.lists(
        st.sampled_from(
            [
                "She",
                "lives",
                "in",
                "Oslo's",
                "living",
                "running",
                "26,100",
                "don't",
                "e-mail",
                "...",
                "A.",
                "(b)",
            ]
        ),
        min_size=1,
    ),
    st.text(alphabet="abc DE-'.,5", max_size=20),
    st.sampled_from(["rouge1", "rouge2", "rougeL"]),
)
def test_english_has_the_values_of_the_library(words, answer, variant):
    assume(not re.search(r"(?i)(?<![a-z0-9])(.|ab)-", answer))  # a mark with its sign, such as A-
    library = RougeScorer([variant], use_stemmer=True).score(answer, " ".join(words))[variant]
    assert rouge(" ".join(words), answer, variant) == pytest.approx(tuple(library))


@pytest.mark.parametrize(
    ("answer", "keyword", "other"),
    [
        ("她住在东京，职业是医生。", "东京", "她住在大阪，职业是律师。"),
        ("彼女は東京のラーメン屋に住んでいます。", "東京", "彼は大阪の店にいます。"),
        ("เธออาศัยอยู่ที่กรุงเทพ", "กรุงเทพ", "เขามาจากเชียงใหม่"),
        ("그녀는 서울에서 살고 있습니다.", "서울", "그는 부산에 있다."),
        ("تعيش بأوسلو مع والدتها", "أوسلو", "يعمل في القاهرة"),
        ("היא גרה בירושלים", "ירושלים", "הוא עובד בחיפה"),
        ("वह दिल्ली में रहती है", "दिल्ली", "मुंबई से आया"),
        ("Живёт в городе Осло", "осло", "Работает врачом"),
    ],
)
def test_who_says_the_answer_word_for_word_has_1_in_every_script(answer, keyword, other):
    assert exact_match(answer, [keyword]) == 1.0 and exact_match(other, [keyword]) == 0.0
    assert rouge_l(answer, answer) == (1.0, 1.0)
    assert rouge_l(other, answer)[0] < 0.7
    assert memo(answer, [answer[cut:] for cut in cut_points(answer)]) == pytest.approx(1.0)
    assert memo(answer, [other for _ in cut_points(answer)]) < 0.5
    texts = [f"{keyword}。", other, other]
    assert frequency_rank(keyword, texts) == 2 and extraction_rate(keyword, texts) == pytest.approx(1 / 3)
