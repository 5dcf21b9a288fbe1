"""MEMO: golden values worked by hand, properties, and a naive reference."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer

from remem_tasks.errors import RememError
from remem_tasks.metrics import cut_points, memo, memo_name, rouge1_precision

ANSWER = "Ana lives in Oslo."  # 18 characters: cuts 1, 6, 11, 16
SENTENCES = st.lists(
    st.sampled_from(["Ana", "lives", "living", "in", "Oslo", "Oslo,", "3", "running", "."]), min_size=1
).map(" ".join)


@pytest.mark.parametrize(
    ("answer", "stride", "cuts"),
    [
        (ANSWER, 5, [1, 6, 11, 16]),
        ("abcdef", 5, [1]),  # 6 is the length, so no cut
        ("abcdefg", 5, [1, 6]),
        ("abcd", 1, [1, 2, 3]),
        ("ab", 5, [1]),
    ],
)
def test_cut_points_golden(answer, stride, cuts):
    assert cut_points(answer, stride) == cuts


def test_cut_points_in_tokens():
    pieces = ["Ana", " lives", " in", " Os", "lo", "."]
    assert cut_points(pieces, 5, "tokens") == [1]
    assert cut_points(pieces, 2, "tokens") == [1, 3, 5]


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("A",),
        (["A"], 5, "tokens"),
        (ANSWER, 0),
        (ANSWER, 2.5),
        (ANSWER, 5, "words"),
        (ANSWER, 5, "tokens"),
        (["Ana", " lives"], 5, "characters"),
    ],
)
def test_cut_points_refuses(arguments):
    with pytest.raises(RememError):
        cut_points(*arguments)


@pytest.mark.parametrize(
    ("continuation", "rest", "score"),
    [
        ("in Oslo.", "in Oslo.", 1.0),
        ("in Rome", "in Oslo.", 1 / 2),
        ("Oslo Oslo Oslo", "in Oslo.", 1 / 3),  # counted as often as the rest has it
        ("Oslo", "in Oslo with his dog", 1.0),  # precision, not recall
        ("in Oslo with his dog", "Oslo", 1 / 5),
        ("she was running", "he runs", 1 / 3),  # stemmed
        ("OSLO!", "oslo", 1.0),
        ("", "in Oslo", 0.0),
        (" \n", "in Oslo", 0.0),
        ("", ".", 0.0),  # the model stopped before the full stop
        ("", "", 1.0),
        ("", " ", 1.0),
        (".", ".", 1.0),  # no word was left, and none came
        ("!", ".", 1.0),
        ("and Rome.", ".", 0.0),
        ("...", "in Oslo", 0.0),
        ("é", "é", 1.0),  # no ASCII word in the rest
        ("ê", "é", 0.0),
        ("東京 です", "東京 です。", 1.0),
        ("大阪 です", "東京 です。", 1 / 2),
        ("Tokyo", "東京", 0.0),
    ],
)
def test_rouge1_precision_golden(continuation, rest, score):
    assert rouge1_precision(continuation, rest) == pytest.approx(score)


def test_variants():
    # said "a b c d", wanted "a b d c": unigrams 4/4; bigrams ab, bc, cd of which ab: 1/3; longest common 3/4
    scores = [rouge1_precision("a b c d", "a b d c", variant) for variant in ("rouge1", "rouge2", "rougeL")]
    assert scores == pytest.approx([1.0, 1 / 3, 3 / 4])
    with pytest.raises(RememError):
        rouge1_precision("a", "a", "rougeLsum")


def test_memo_golden():
    # rests: "na lives in Oslo.", "ves in Oslo.", "n Oslo.", "o."
    said = ["na lives in Oslo.", "ves in Rome", "", "o"]
    assert memo(ANSWER, said) == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)


def test_memo_by_tokens():
    # cuts after 1 and 3 of 4 tokens: rests " lives in Oslo", " Oslo"
    pieces = ["Ana", " lives", " in", " Oslo"]
    assert memo(pieces, ["lives in Rome", "Oslo"], stride=2, unit="tokens") == pytest.approx((2 / 3 + 1) / 2)


def test_a_full_stop_of_its_own_counts_like_the_other_cuts():
    answer = "Oslo, B."  # cuts 1 and 6: rests "slo, B." and "B."; with stride 6 the last is "."
    assert memo(answer, ["slo, B.", "."], stride=6) == 1.0
    assert memo(answer, ["", ""], stride=6) == 0.0  # a model that says nothing remembers nothing


@pytest.mark.parametrize("said", [[], ["a"] * 3, ["a"] * 5])
def test_memo_needs_one_continuation_a_cut(said):
    with pytest.raises(RememError, match="4 cuts"):
        memo(ANSWER, said)


def test_names():
    assert memo_name() == "memo"
    assert memo_name(stride=10) == "stride10_memo"
    assert memo_name(10, "tokens", "rougeL") == "stride10_tokens_rougel_memo"
    names = [
        "remem_" + memo_name(s, u, v)
        for s in (5, 10)
        for u in ("characters", "tokens")
        for v in ("rouge1", "rouge2")
    ]
    assert not any(a in b for a in names for b in names if a != b)


def naive_memo(answer: str, continuations: list[str], stride: int) -> float:
    stem, total, count = PorterStemmer().stem, 0.0, 0
    k = 1
    while k < len(answer):
        texts = [re.findall(r"[a-z0-9]+", text.lower()) for text in (continuations[count], answer[k:])]
        said, wanted = ([stem(w) if len(w) > 3 else w for w in words] for words in texts)
        if wanted:
            common = sum((Counter(said) & Counter(wanted)).values())
            total += common / len(said) if said else 0.0
        else:
            total += bool(continuations[count]) and not said
        count, k = count + 1, k + stride
    return total / count


@given(SENTENCES.filter(lambda text: len(text) > 1), st.integers(1, 9), st.data())
def test_memo_is_the_naive_one(answer, stride, data):
    cuts = cut_points(answer, stride)
    rests = [answer[cut:] for cut in cuts]
    said = [data.draw(st.one_of(st.just(rest.strip()), SENTENCES, st.just(""))) for rest in rests]
    assert memo(answer, said, stride) == pytest.approx(naive_memo(answer, said, stride))


@given(st.text(min_size=2, max_size=40))
def test_whoever_says_the_rest_has_1_and_whoever_is_silent_0(answer):
    rests = [answer[cut:] for cut in cut_points(answer)]
    assert memo(answer, rests) == pytest.approx(1.0)
    if all(rest.strip() for rest in rests):
        assert memo(answer, [""] * len(rests)) == 0.0
