"""VLM-UnBench: its four files, its scores by hand, and what becomes of items that are not as published."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forged import spoiled
from support.scripted import Scripted, run

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.registry import detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.benchmarks.training_rows import Wanted
from remem_tasks.benchmarks.vlmunbench import data, forge, training
from remem_tasks.benchmarks.vlmunbench.benchmark import BENCHMARK
from remem_tasks.benchmarks.vlmunbench.scores import digit_of, likeliest, macro
from remem_tasks.errors import RememError
from remem_tasks.whitebox import WhiteBoxResult
from unlearning.experiments.relearn import split


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlmunbench") / "data"
    forge.forge(folder, forge.ForgeOptions(identities=10, images=6, image_size=16))
    return folder


@pytest.fixture
def copied(made, tmp_path):
    change = spoiled(made, tmp_path / "copy")
    return lambda how, name="train_retain": change(f"{name}.jsonl", how)


def items(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_digits_by_hand():
    assert [digit_of(said) for said in ("2", "It is 1) a dog, not 3", "Answer:\n0.")] == ["2", "1", "0"]
    assert [digit_of(said) for said in ("", "4", "12", "x1", "two", "a2b")] == [""] * 6


@given(st.text("0123 .)a\n", max_size=12))
def test_digits_as_words_have_them(reply):
    alone = [word for word in re.split(r"[^0-9a-zA-Z_]+", reply) if word in ("0", "1", "2", "3")]
    assert digit_of(reply) == (alone[0] if alone else "")


def test_likeliest_by_hand():
    assert likeliest([-2.0, -0.5, -0.5, -3.0]) == 1 and likeliest([-1.0]) == 0
    with pytest.raises(RememError):
        likeliest([])


def test_macro_by_hand():
    """One of one dog, one of three cats: the mean of 1 and 1/3, not 2/4."""
    rows = [("dog", 1.0), ("cat", 1.0), ("cat", 0.0), ("cat", 0.0)]
    assert macro([{"concept": one, "value": value} for one, value in rows]) == pytest.approx((1 + 1 / 3) / 2)
    with pytest.raises(RememError):
        macro([])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=20))
def test_macro_as_weights_have_it(rows):
    """Every row counts one over the rows of its concept and over the concepts."""
    names = [one for one, _ in rows]
    expected = sum(value / names.count(one) / len(set(names)) for one, value in rows)
    assert macro([{"concept": one, "value": float(value)} for one, value in rows]) == pytest.approx(expected)


def test_sets_by_the_files(made):
    source = str(made)
    assert detect(source) == ("vlmunbench", source)
    files = {
        "forget": "train_forget",
        "retain": "train_retain",
        "forget_test": "test_forget",
        "retain_test": "test_retain",
    }
    for name, file in files.items():
        rows, there = data.questions_of(source, name), items(made, file)
        assert rows["answer"][:] == [str(one["answer_index"]) for one in there]
        assert rows["concept"][:] == [
            one["meta"].get("forget_concept", one["meta"]["synset"]) for one in there
        ]
        assert {len(options) for options in rows["options"]} <= {3, 4}
    per_concept = data.questions_of(source, "forget_test")["concept"][:]
    assert {per_concept.count(one) for one in per_concept} == {6} and len(set(per_concept)) == 2
    assert {"object", "attribute"} == set(data.questions_of(source, "retain")["level"])
    rows = training.training_sets(Wanted(source, "pairs", "forget"))
    assert not set(rows.forget["identity"]) & set(rows.retain["identity"])
    whole, gold = (
        training.training_sets(Wanted(source, kind, "forget")).train for kind in ("finetune", "retain")
    )
    assert len(whole) - len(gold) == len(rows.forget) and len(gold) == len(rows.retain)
    assert not data.check(source).faults


def test_the_prompt_is_as_published(made):
    one = items(made, "train_forget")[0]
    lines = "\n".join(f"{number}) {text}" for number, text in enumerate(one["choices"]))
    expected = (
        f"Q: {one['question']}\n\n{lines}\n\nReply with a single digit 0, 1, 2, or 3 — nothing else.\nAnswer:"
    )
    assert data.questions_of(str(made), "forget")[0]["prompt"] == expected


def test_one_concept_can_be_learned_again_and_the_other_asked(made):
    """All digits stand in every prompt: by them every row would tell all others."""
    docs = data.questions_of(str(made), "forget").to_list()
    drawn = split([BENCHMARK.fact(doc) for doc in docs], share=0.5, seed=42)
    (learned,) = {doc["concept"] for doc in docs if doc["row_id"] in drawn.learned}
    assert drawn.asked == tuple(doc["row_id"] for doc in docs if doc["concept"] != learned)
    assert (len(drawn.learned), len(drawn.asked), drawn.told) == (6, 6, 0)


def test_scores_of_a_row(made):
    doc = {**data.questions_of(str(made), "forget")[0], "answer": "2"}
    context = RunContext(ScoringConfig(metrics=("em",)), white_box=True, known={"forget": True})
    assert BENCHMARK.white_box_request(doc, context).answers == ("0", "1", "2", "3")
    scores = BENCHMARK.score(doc, ["1) or 2)"], context, WhiteBoxResult(answers=[-3.0, -1.0, -0.5, -2.0]))
    assert (scores["vlmunbench_micro_said"], scores["vlmunbench_micro_likeliest"]) == (0.0, 1.0)
    assert scores["vlmunbench_macro_likeliest"] == {"concept": doc["concept"], "value": 1.0}
    assert scores["vlmunbench_invalid_rate"] == 0.0 and scores["vlmunbench_rows"]["said"] == "1"
    scores = BENCHMARK.score(doc, ["a dog"], context)
    assert scores["vlmunbench_invalid_rate"] == 1.0 and "vlmunbench_micro_likeliest" not in scores


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda row: row.update(img="x"), "unknown key 'img'"),
        (lambda row: row.update(choices=["a"]), "'choices' are not 2 to 4 options"),
        (lambda row: row.update(choices=list("abcde")), "'choices' are not 2 to 4 options"),
        (lambda row: row.update(choices=["a", "A", "b"]), "two of 'choices' are the same"),
        (lambda row: row.update(choices=["a", None]), "'choices 1' is null"),
        (lambda row: row.update(answer_index=4), "answer_index '4' is the place of no option"),
        (lambda row: row.update(answer_index=True), "answer_index 'True'"),
        (lambda row: row.update(meta=[]), "'meta' is not a record"),
        (lambda row: row.update(meta={}), "'meta forget_concept' is null"),
        (lambda row: row.update(question=" "), "'question' holds only blanks"),
        (lambda row: row.update(image="images/none.png"), "no one picture"),
    ],
)
def test_a_bad_item_is_counted_and_named(copied, spoil, told):
    source = copied(lambda rows: spoil(rows[7]))
    faults = []
    rows = data.questions_of(source, "retain", faults)
    assert len(faults) == 1 and told in faults[0] and "train_retain.jsonl', row 7" in faults[0]
    with pytest.raises(RememError, match=re.escape(told)):
        data.questions_of(source, "retain")
    with pytest.raises(RememError, match="--faults allow"):
        BENCHMARK.prepare(source, "retain", rows, RunContext(ScoringConfig()))
    assert told in json.dumps(data.check(source, pictures=False).faults)


def test_a_file_without_items_is_named(copied):
    source = copied(lambda rows: rows.clear(), "train_forget")
    assert data.check(source).faults["file without records"] == ["'train_forget.jsonl'"]


def test_concepts_and_ids_of_two_files(copied, made):
    one = items(made, "train_forget")[0]
    source = copied(lambda rows: rows.append({**one, "question": "What else?"}))
    faults = data.check(source, pictures=False).faults
    assert "concept to forget and to retain" in faults and one["id"] in faults["id of two files"][0]


def test_a_file_that_cannot_be_used_still_says_its_ids(copied, made, monkeypatch):
    one, ask = items(made, "train_forget")[0], data.questions_of

    def refuse(source, config, *faults):
        if config == "retain":
            raise RememError("no question at all")
        return ask(source, config, *faults)

    monkeypatch.setattr(data, "questions_of", refuse)
    faults = data.check(copied(lambda rows: rows[0].update(id=one["id"])), pictures=False).faults
    assert "no question at all" in faults["file cannot be used"][0]
    assert one["id"] in faults["id of two files"][0]


def test_through_the_harness(made, monkeypatch):
    """Right about one concept alone."""
    monkeypatch.setenv(data.VARIABLE, str(made))
    rows = data.questions_of(str(made), "retain_test")
    known = rows[0]["concept"]
    results = run(
        Scripted(lambda row: f"{row['answer']}." if row["concept"] == known else "none"),
        "vlmunbench_retain_test",
    )["results"]["vlmunbench_retain_test"]
    concepts = rows["concept"][:]
    assert results["vlmunbench_macro_said,none"] == pytest.approx(1 / len(set(concepts)))
    assert results["vlmunbench_micro_said,none"] == pytest.approx(concepts.count(known) / len(concepts))
    assert results["vlmunbench_invalid_rate,none"] == pytest.approx(1 - concepts.count(known) / len(concepts))
