"""MEMO of benchmarks of plain questions: which answers it begins, what is asked, and its value by hand."""

from dataclasses import replace

import pytest
import yaml

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.registry import BENCHMARKS, part_of
from remem_tasks.benchmarks.scoring_config import NO_TURN, ScoringConfig
from remem_tasks.whitebox import WhiteBoxResult

ANSWER = "the town of oslo"
BEGUN = {
    "fiubench": {""},
    "umu": {"generation", "qa"},
    "offside": {"generation"},
    "mlubench": {"Discs", "Squares", "Triangles"},
    "pebench": {"event"},
    "safeeraser": {"unsafe"},
    "unlok": set(),
}
CONTEXT = RunContext(ScoringConfig(metrics=("em", "memo")), white_box=True, known={"forget": True})


@pytest.fixture(scope="module")
def docs(tmp_path_factory, request):
    """{benchmark: rows of the set that holds all its kinds of questions}."""
    found = {}
    for name in BEGUN:
        folder = tmp_path_factory.mktemp(name) / "data"
        knobs = yaml.safe_load((request.path.parent / name / "forge.yaml").read_text())
        forge = part_of(name, "forge")
        forge.forge(folder, forge.ForgeOptions(**knobs))
        sets = {"umu": ["full"], "offside": ["forget", "forget_choice"]}.get(name, ["full"])
        found[name] = [row for one in sets for row in BENCHMARKS[name].load(str(folder), one)[0]]
    return found


@pytest.mark.parametrize("name", list(BEGUN))
def test_which_answers_are_begun(docs, name):
    benchmark = BENCHMARKS[name]
    assert {row["kind"] for row in docs[name] if benchmark.begun(row)} == BEGUN[name]
    for row in docs[name]:
        assert benchmark.begun(row) in ("", row["answer"])


def test_what_is_asked():
    benchmark, doc = BENCHMARKS["mlubench"], {"answer": ANSWER, "secret": "", "cloze": "", "row_id": "x"}
    doc |= {"config": "full", "place": 0, "picture": 0, "source": "x", "image_path": "a"}
    asked = benchmark.white_box_request(doc, CONTEXT)
    assert (asked.answer, asked.cuts, asked.memo_tokens) == (ANSWER, (1, 6, 11), 200)
    other = replace(CONTEXT, scoring=ScoringConfig(metrics=("em", "memo"), memo_stride=10, memo_tokens=7))
    asked = benchmark.white_box_request(doc, other)
    assert (asked.cuts, asked.memo_tokens) == ((1, 11), 7)
    for context in (
        replace(CONTEXT, scoring=ScoringConfig(metrics=("em",))),
        replace(CONTEXT, white_box=False),
    ):
        assert benchmark.white_box_request(doc, context) is None
    assert benchmark.white_box_request({**doc, "answer": "5"}, CONTEXT) is None  # no place to cut


def test_value_by_hand(docs):
    """Of `the town of oslo` behind 1, 6 and 11 characters: 2 of 2, 2 of 3 and 0 of 1 words said are in the rest."""
    doc = {**docs["mlubench"][0], "answer": ANSWER}
    findings = WhiteBoxResult(continuations=["he town", "of oslo bay", "bergen"])
    scores = BENCHMARKS["mlubench"].score(doc, ["x"], CONTEXT, findings)
    assert scores["mlubench_memo"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert "mlubench_memo" not in BENCHMARKS["mlubench"].score(doc, ["x"], CONTEXT, WhiteBoxResult())
    other = replace(CONTEXT, scoring=ScoringConfig(metrics=("em", "memo"), memo_stride=10))
    scores = BENCHMARKS["mlubench"].score(doc, ["x"], other, WhiteBoxResult(continuations=["he", "bay"]))
    assert scores["mlubench_stride10_memo"] == pytest.approx(1 / 2)


def test_where_it_is_not_available(docs, monkeypatch):
    source = docs["unlok"][0]["source"]
    rows, _ = BENCHMARKS["unlok"].load(source, "retain")
    told = BENCHMARKS["unlok"].prepare(source, "retain", rows, replace(CONTEXT, known={}))
    assert "MEMO begins" in told.missing["memo"]
    assert "unlok_memo" not in [one.name for one in BENCHMARKS["unlok"].metrics(rows, "retain", told)]
    source = docs["mlubench"][0]["source"]
    rows, _ = BENCHMARKS["mlubench"].load(source, "forget_a")
    told = BENCHMARKS["mlubench"].prepare(source, "forget_a", rows, replace(CONTEXT, known={}))
    (memo,) = (one for one in BENCHMARKS["mlubench"].metrics(rows, "forget_a", told) if "memo" in one.name)
    assert (memo.name, memo.higher_is_better) == ("mlubench_memo", False) and "memo" not in told.missing
    silent = RunContext(ScoringConfig(metrics=("em",)), {"memo": NO_TURN})
    told = BENCHMARKS["mlubench"].prepare(source, "forget_a", rows, silent)
    assert told.missing["memo"] == NO_TURN
