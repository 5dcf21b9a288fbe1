"""Questions in other words and behind demonstrations: what they say, and above all what they must not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import PEOPLE, rows_of

from remem_tasks.attacks import contexts, prompts
from remem_tasks.attacks.attacked import Attacked, Question, decided
from remem_tasks.attacks.people import Surroundings, name_in, tells
from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.remem.benchmark import BENCHMARK
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.errors import RememError
from remem_tasks.metrics.refusal import Status

EM = RunContext(ScoringConfig(metrics=("em",)))


def rows(slug, split="forget1"):
    return [
        {**row, "row_id": f"{split}:{place}", "identity": slug, "hop": int(row["question_type"][0])}
        for place, row in enumerate(rows_of(slug))
    ]


ASKED = rows("ada_birch")
KEPT = [row for slug in list(PEOPLE)[1:] for row in rows(slug, slug)]
AROUND = Surroundings(ASKED, KEPT)


def questions(kind, asked=ASKED, around=AROUND):
    ask = prompts.ask(kind, around)
    return [(row, ask(row)) for row in asked]


@pytest.mark.parametrize("kind", prompts.KINDS)
def test_every_kind_asks_every_row_of_plain_people(kind):
    for row, question in questions(kind):
        assert (question is not None and question.prompt != row["question"]) or kind == "text_only"
        assert not any(kind in prompts.OPEN and one for one in question.against)


@pytest.mark.parametrize("kind", prompts.OPEN)
def test_no_open_kind_says_the_secret(kind):
    """One that did would be answered by whoever repeats it."""
    for row, question in questions(kind):
        assert question.wanted is None and not tells([question.prompt], row)


@pytest.mark.parametrize("name", contexts.SHOTS)
def test_no_demonstration_says_the_secret(name):
    count, own = contexts.SHOTS[name]
    ask = contexts.ask(name, AROUND)
    for row in ASKED:
        prompt = ask(row).prompt
        assert not tells([prompt], row)
        assert prompt.count("Question: ") == min(count, 4 if own else 30) + 1
        shown = prompt.rpartition("Question: ")[0]
        assert ("Ada Birch" in shown) == own


def test_a_shared_value_is_shown_by_nobody():
    """Somebody who stays and lives in the same place would give the secret away."""
    other = [
        {**row, "keywords": "Oslo Bay", "answer": "The city of Ben Crane is Oslo Bay."}
        for row in rows("ben_crane", "b")
    ]
    around = Surroundings(ASKED, other)
    city = next(row for row in ASKED if row["attribute"] == "city")
    assert contexts.ask("k8", around)(city) is None
    assert prompts.ask("multiple_choice", around)(city) is None
    assert prompts.ask("in_context", around)(city) is None


def test_closed_kinds_by_hand():
    row = ASKED[0]
    choice = prompts.ask("multiple_choice", AROUND)(row)
    assert choice.wanted == "Oslo Bay" and len(choice.against) == 3 and "- Oslo Bay" in choice.prompt
    assert set(choice.against) < {facts["city"] for _, _, facts in PEOPLE.values()} - {"Oslo Bay"}
    reverse = prompts.ask("reverse", AROUND)(row)
    assert reverse == Question("Whose city is Oslo Bay? Give the full name.", wanted="Ada Birch", shown=False)
    assert prompts.ask("reverse_query", AROUND)(row).shown
    said = {
        prompts.ask("yes_no", AROUND)(row).wanted
        for row in [*ASKED, *rows("ada_birch", "x"), *rows("ada_birch", "y")]
    }
    assert said == {"yes", "no"}
    for row in ASKED:
        question = prompts.ask("yes_no", AROUND)(row)
        assert (row["keywords"] in question.prompt) == (question.wanted == "yes")


def test_what_cannot_be_asked_is_not():
    bare = {
        **ASKED[0],
        "answer": "It is Oslo Bay.",
        "question": "Where do they live?",
        "cloze_prompt": "It is",
    }
    assert prompts.ask("reverse", AROUND)(bare) is None
    assert prompts.ask("text_only", AROUND)(bare) is None
    assert prompts.ask("multiple_choice", Surroundings(ASKED, []))(ASKED[0]) is None
    assert prompts.ask("in_context", Surroundings(ASKED, []))(ASKED[0]) is None
    assert prompts.ask("yes_no", AROUND)({**ASKED[0], "cloze_prompt": ""}) is None
    spouse = {**ASKED[0], "keywords": "Ada Birch"}
    assert prompts.ask("reverse", AROUND)(spouse) is None
    assert prompts.ask("reverse", AROUND)({**ASKED[0], "identity": "0042"}) is None


@given(st.text(max_size=40), st.from_regex(r"[a-z0-9]{0,6}(_[a-z0-9]{0,6}){0,3}", fullmatch=True))
def test_a_name_is_found_as_it_stands(text, identity):
    found = name_in(text, identity)
    assert found is None or found in text


@pytest.mark.parametrize(
    ("reply", "against", "status"),
    [
        ("It is Oslo Bay.", ("New Tarn",), Status.CORRECT),
        ("New Tarn", ("New Tarn",), Status.INCORRECT),
        ("Oslo Bay, New Tarn", ("New Tarn",), Status.INCORRECT),
        ("I don't know.", ("New Tarn",), Status.REFUSAL),
        ("", ("New Tarn",), Status.BLANK),
    ],
)
def test_a_reply_that_says_several_options_is_wrong(reply, against, status):
    attacked = Attacked(BENCHMARK, lambda doc: Question("Which?", wanted="Oslo Bay", against=against))
    found = attacked.score(ASKED[2], [reply], EM)
    assert found["remem_em"] == (status == Status.CORRECT)
    assert found["remem_rows"]["status"] == status and found["remem_rows"]["row_id"] == "forget1:2"


def test_the_answer_that_counts_is_the_attacks_own():
    attacked = Attacked(BENCHMARK, prompts.ask("reverse", AROUND))
    assert attacked.target(ASKED[0]) == "Ada Birch"
    assert attacked.score(ASKED[0], ["Ada Birch"], EM)["remem_em"] == 1
    assert attacked.score(ASKED[0], ["Oslo Bay"], EM)["remem_em"] == 0
    assert attacked.images(ASKED[0]) == []
    exposed = RunContext(ScoringConfig(metrics=("exposure",)), white_box=True)
    assert attacked.white_box_request(ASKED[0], exposed) is None
    assert Attacked(BENCHMARK).white_box_request(ASKED[0], exposed).secrets[0].text == " Oslo Bay"


def test_decided_leaves_single_answers():
    assert decided("no", ("yes",)) == "no" and decided("yes and no", ("yes",)) == "[several answers]"
    assert decided("Not eyes", ("yes",)) == "Not eyes"


def test_rows_are_chosen(data_dir):
    inner = Attacked(BENCHMARK, rows={"forget1:1", "forget1:4"})
    chosen, _ = inner.load(str(data_dir), "forget1")
    assert chosen["row_id"][:] == ["forget1:1", "forget1:4"] and len(inner.images(chosen[0])) == 1
    with pytest.raises(RememError, match="no row of split 'forget1' can be asked so"):
        Attacked(BENCHMARK, lambda doc: None).load(str(data_dir), "forget1")
