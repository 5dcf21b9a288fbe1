"""MLLMU-Bench's tasks: every number against one worked out here from the raw rows and the replies."""

import hashlib
from collections import defaultdict

import datasets
import numpy as np
import pytest
from lmms_eval.tasks import TaskManager
from rouge_score.rouge_scorer import RougeScorer
from support.scripted import Scripted, run, value

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.mllmu.benchmark import letter_of
from remem_tasks.benchmarks.registry import BENCHMARKS
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.errors import RememError
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.metrics import exposure

TYPES = {"Image_Textual": "image", "Pure_Text": "text"}


def test_tasks_and_groups(mllmu_here):
    manager = TaskManager(include_defaults=False)
    names = [
        "forget_5",
        "forget_10",
        "forget_15",
        "retain_95",
        "retain_90",
        "retain_85",
        "celebrities",
        "full",
    ]
    names += ["test_5", "test_10", "test_15", "test"]
    assert {f"mllmu_{name}" for name in names} | {"mllmu5", "mllmu10", "mllmu15"} <= set(manager.all_tasks)
    results = run(Scripted(lambda row: row["answer"]), "mllmu10", limit=1)
    wanted = {"mllmu_forget_10", "mllmu_test_10", "mllmu_retain_90", "mllmu_celebrities"}
    assert set(results["group_subtasks"]["mllmu10"]) == wanted


def some_reply(row):
    """One of several replies, right and wrong, by the question's id."""
    draw = int(hashlib.sha256(row["row_id"].encode()).hexdigest(), 16) % 4
    if row["kind"] == "classification":
        return [f"{row['letter']}: {row['answer']}", f"({row['letter'].lower()})", "B", "Because of it"][draw]
    return [row["answer"], f"It is {row['answer']}, I think.", "I do not know.", ""][draw]


def raw_questions(folder, config):
    """(kind, modality, question, right answer or letter) of each question, from the raw rows."""
    for row in datasets.load_dataset(str(folder), config, split="train"):
        for column, modality in (("Image_Textual_Questions", "image"), ("Pure_Text_Questions", "text")):
            for one in row["Classification_Task"][column]:
                yield "classification", modality, one["Question"], one["Correct_Answer"]
        for kind, column in (("generation", "Generation_Task"), ("cloze", "Mask_Task")):
            for one in row[column]:
                yield kind, TYPES[one["Type"]], one["Question"], one["Ground_Truth"]


@pytest.mark.parametrize("simple", [False, True])
def test_every_number(mllmu_here, simple):
    model = Scripted(some_reply, simple=simple)
    results = run(model, "mllmu_forget_15")
    said = defaultdict(list)
    for asked in model.asked:
        row = asked["row"]
        assert asked["text"] == row["prompt"] and len(asked["pictures"]) == (row["modality"] == "image")
        assert asked["settings"]["max_new_tokens"] == 50
        said[row["kind"], row["modality"], row["question"]].append(some_reply(row))
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    values = defaultdict(list)
    for kind, modality, question, truth in raw_questions(mllmu_here, "forget_15"):
        reply = said[kind, modality, question].pop(0)
        if kind == "classification":
            chosen = reply.strip(" (").upper()[:1] if not reply.startswith("Because") else ""
            values[f"mllmu_{modality}_accuracy"].append(chosen == truth)
            values["mllmu_unlettered_rate"].append(chosen == "")
        elif kind == "cloze":
            values[f"mllmu_{modality}_cloze"].append(truth.lower() in reply.lower())
        else:
            score = rouge.score(target=truth, prediction=reply)["rougeL"].fmeasure
            values[f"mllmu_{modality}_rougel"].append(score)
        values["mllmu_blank_rate"].append(reply == "")
    assert not any(said.values())
    scores = {
        name.removesuffix(",none"): score
        for name, score in results["results"]["mllmu_forget_15"].items()
        if name.startswith("mllmu_") and "stderr" not in name
    }
    assert (scores.pop("mllmu_rows"), scores.pop("mllmu_failed_rate")) == (36, 0.0)
    for rate in ("mllmu_refusal_rate", "mllmu_coverage"):  # (tests/metrics/test_refusal.py)
        assert 0 <= scores.pop(rate) <= 1
    assert scores == pytest.approx({name: np.mean(of) for name, of in values.items()})
    assert all(0 < score < 1 for name, score in scores.items() if name != "mllmu_unlettered_rate")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(C) Oslo", "C"),
        ("D: a heron", "D"),
        ("Because", ""),
        ("E", ""),
        ("", ""),
        ("I think B", ""),
        ("**A**", "A"),
    ],
)
def test_letters(reply, letter):
    assert letter_of(reply) == letter


def test_pictures_of_test_sets(mllmu_here):
    model = Scripted(lambda row: "A")
    run(model, "mllmu_test_5")
    rows = {row["ID"]: row for row in datasets.load_dataset(str(mllmu_here), "Test_Set", split="train")}
    shown = {
        (asked["row"]["identity"], asked["pictures"][0].tobytes())
        for asked in model.asked
        if asked["pictures"]
    }
    assert len(shown) == 1
    ((person, picture),) = shown
    assert picture in [one.tobytes() for one in rows[person]["images"]]


def test_shots(mllmu_here, monkeypatch):
    monkeypatch.setenv("REMEM_SHOTS", "2")
    model = Scripted(lambda row: "A")
    run(model, "mllmu_forget_10")
    forgotten = set(datasets.load_dataset(str(mllmu_here), "forget_10", split="train")["ID"])
    kept = datasets.load_dataset(str(mllmu_here), "retain_90", split="train")
    known = {
        one["Question"]: (row["ID"], one["Correct_Answer"])
        for row in kept
        for one in row["Classification_Task"]["Pure_Text_Questions"]
    }
    drawn = set()
    for asked in model.asked:
        *shots, own = asked["text"].split("\n\n")
        assert own == asked["row"]["prompt"]
        assert len(shots) == (2 if asked["row"]["kind"] == "classification" else 0)
        people = []
        for shot in shots:
            question, *_, answer = shot.split("\n")
            person, letter = known[question]
            assert answer == f"Answer: {letter}"
            people.append(person)
        assert len(set(people)) == len(people) and not forgotten & set(people)
        assert asked["row"]["identity"] not in people
        drawn.update(people)
    assert len(drawn) > 2
    again = Scripted(lambda row: "A")
    run(again, "mllmu_forget_10", limit=4)
    assert [asked["text"] for asked in again.asked] == [asked["text"] for asked in model.asked[:4]]
    monkeypatch.setenv("REMEM_SHOTS", "4")
    with pytest.raises(RememError, match="--shots 4: only 4 people are in no forget set"):
        run(model, "mllmu_forget_10")


def test_no_shots_by_default(mllmu_here):
    model = Scripted(lambda row: "A")
    run(model, "mllmu_retain_95", limit=2)
    assert all(asked["text"] == asked["row"]["prompt"] for asked in model.asked)


def test_exposure_of_what_belongs_in_the_blank(mllmu_here, checkpoints, monkeypatch):
    monkeypatch.setenv("REMEM_ROLLOUTS", "8")
    results = run(
        RememHF(str(checkpoints["llava"]), device="cpu"), "mllmu_forget_5", gen_kwargs="max_new_tokens=4"
    )
    kept = [one["mllmu_rows"] for one in results["samples"]["mllmu_forget_5"]]
    for modality in ("image", "text"):
        ranks = [row["guess_rank"] for row in kept if row["modality"] == modality and "guess_rank" in row]
        assert [len(of_row) for of_row in ranks] == [1, 1]
        mean = np.mean([exposure(rank, 8) for (rank,) in ranks])
        assert value(results, "mllmu_forget_5", f"mllmu_{modality}_exposure") == pytest.approx(mean)
    for row in kept:
        if row["kind"] == "cloze":  # one secret, no references
            assert row["reference_rank"] == [1] and row["references"] == [0] and row["secret_bits"][0] > 0
            assert [len(guess) for guess in row["guesses"][0]] == [2] * 5
        else:
            assert "guess_rank" not in row


def test_exposure_can_be_left_out(mllmu_here):
    benchmark = BENCHMARKS["mllmu"]
    rows, source = benchmark.load(None, "forget_5")
    context = benchmark.prepare(
        source, "forget_5", rows, RunContext(ScoringConfig(metrics=("em",)), white_box=True)
    )
    assert not [doc for doc in rows if benchmark.white_box_request(doc, context)]
    assert not [one for one in benchmark.metrics(rows, "forget_5", context) if "exposure" in one.name]
    whole = benchmark.prepare(
        source, "forget_5", rows, RunContext(ScoringConfig(cloze_context="picture"), white_box=True)
    )
    asked = {
        doc["modality"]: benchmark.white_box_request(doc, whole) for doc in rows if doc["kind"] == "cloze"
    }
    assert not asked["image"].with_question and asked["text"].with_question
    blind = benchmark.prepare(source, "forget_5", rows, RunContext(ScoringConfig()))
    assert "log-probabilities" in blind.missing["exposure"]


def test_where_nothing_is():
    with pytest.raises(RememError, match="Either set REMEM_MLLMU_DATA=<folder>"):
        BENCHMARKS["mllmu"].load(None, "forget_5")
    with pytest.raises(RememError, match="MLLMU-Bench has no set 'forget_6'"):
        BENCHMARKS["mllmu"].load("/tmp", "forget_6")
