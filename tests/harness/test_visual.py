"""Is the picture used? The same question without it, and with another person's, through the harness."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmms_eval.api.instance import GenerationResult, TokenCounts
from support.scripted import Scripted, run, value

from remem_tasks.benchmarks.base import FailedReply
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.benchmarks.visual import (
    Shown,
    VisualReply,
    derangement,
    donors_of,
    scores_of,
    visual_gap,
)
from remem_tasks.engine.cache import hash_of
from remem_tasks.errors import RememError


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40))
def test_a_derangement_gives_everybody_the_picture_of_another_person(people):
    donors = derangement(people)
    most = max(people.count(one) for one in people)
    assert (donors is None) == (2 * most > len(people))
    if donors is not None:
        assert sorted(donors) == list(range(len(people)))
        assert all(people[donor] != person for person, donor in zip(people, donors))


def test_one_persons_set_takes_others_from_other_rows():
    rows = [{"row_id": f"f:{i}", "identity": "ada"} for i in range(2)]
    others = [
        {"row_id": f"r:{i}", "identity": one} for i, one in enumerate(["ada", "ben", "cy", "ada", "di", "ed"])
    ]
    assert {row: donor["row_id"] for row, donor in donors_of(rows, [[], others]).items()} == {
        "f:0": "r:1",
        "f:1": "r:4",
    }
    with pytest.raises(RememError, match="no other person's picture"):
        donors_of(rows, [others[:1]])


def test_the_gap_is_against_the_better_of_the_two():
    items = [{"own": 1.0, "no_picture": float(i < 1), "other_picture": float(i < 3)} for i in range(4)]
    assert visual_gap(items) == 1 - 3 / 4
    assert visual_gap([{"own": 0.0, "no_picture": 1.0, "other_picture": 0.0}]) == -1


def test_a_failed_reply_gives_no_gap():
    remem, doc = BENCHMARKS["remem"], {"keywords": '["Oslo"]', "row_id": "f:0"}
    others = [VisualReply(Shown.NONE, FailedReply()), VisualReply(Shown.OTHER, "Oslo")]
    assert scores_of(remem, doc, "Oslo", others) == {}
    assert scores_of(remem, doc, FailedReply(), []) == {}


class Looking(Scripted):
    """Knows the answer where it sees one of the pictures of its own person, and else says nothing useful."""

    def generate_until(self, requests):
        super().generate_until(requests)
        answers = []
        for asked in self.asked[-len(requests) :]:
            own = hash_of(self.task.doc_to_visual(asked["row"])) if self.task else None
            right = self.blind or (asked["pictures"] and hash_of(asked["pictures"]) == own)
            text = asked["row"]["answer"] if right else "Bergen"
            answers.append(GenerationResult(text, TokenCounts(output_tokens=3)))
        return answers


@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("blind", [False, True])
def test_the_family_is_scored_on_any_backend(remem_data, monkeypatch, simple, blind):
    from remem_tasks.harness.task import BenchmarkTask

    monkeypatch.setenv("REMEM_METRICS", "em,visual")
    model = Looking(lambda row: "", simple=simple)
    model.blind, model.task = blind, None
    build = BenchmarkTask.build_all_requests

    def remember(self, **kwargs):
        model.task = self
        build(self, **kwargs)

    monkeypatch.setattr(BenchmarkTask, "build_all_requests", remember)
    results = run(model, "remem_forget1", log_samples=True)
    rows = results["samples"]["remem_forget1"]
    needing = [one for one in rows if one["remem_rows"]["hop"] != 1]
    assert 0 < len(needing) < len(rows)
    assert len(model.asked) == len(rows) + 2 * len(needing)
    assert value(results, "remem_forget1", "remem_em") == 1
    assert value(results, "remem_forget1", "remem_no_picture") == float(blind)
    assert value(results, "remem_forget1", "remem_other_picture") == float(blind)
    assert value(results, "remem_forget1", "remem_visual_gap") == float(not blind)
    for one in rows:
        donor = one["remem_rows"].get("donor")
        assert (donor is None) == (one["remem_rows"]["hop"] == 1)
        assert donor is None or not donor.startswith("forget1:")  # forget1 is one person
    assert json.dumps(rows[0]["remem_rows"])


def test_a_forget_set_that_does_not_exist_is_an_error(remem_data, monkeypatch):
    monkeypatch.setenv("REMEM_FORGET", "forget9")
    with pytest.raises(RememError, match="--forget forget9: .* has no such split; it has "):
        run(Scripted(lambda row: row["answer"]), "remem_retain")
