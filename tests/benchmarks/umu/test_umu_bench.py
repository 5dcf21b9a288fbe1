"""UMU-Bench: literals that are parsed and not run, what counts as right, and the numbers over both questions of a fact."""

import shutil

import datasets
import pytest
from support.forged import changed
from support.slow import one_in

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.registry import detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.benchmarks.umu import data, forge
from remem_tasks.benchmarks.umu.benchmark import BENCHMARK, nearest
from remem_tasks.errors import RememError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("umu") / "data"
    forge.forge(folder, forge.ForgeOptions(identities=20, qa=3, real=2, image_size=16))
    return folder


def context(split):
    return RunContext(ScoringConfig(metrics=("em",)), known={"forget": split.startswith("forget")})


def scored(rows, split, reply):
    """Metric → its number over all rows, as a run has it."""
    setting = context(split)
    metrics = BENCHMARK.metrics(rows, split, setting)
    values = [BENCHMARK.score(doc, [reply(doc)], setting) for doc in rows]
    return {
        metric.name: metric.aggregate([one[metric.name] for one in values if metric.name in one])
        for metric in metrics
    }


def test_literals_are_not_run(tmp_path):
    assert data.literal("{'a': 1}", "x") == {"a": 1} == data.literal('{"a": 1}', "x")
    assert data.literal('{"a": null}', "x") == {"a": None}
    target = tmp_path / "made"
    for text in (
        f"__import__('pathlib').Path({str(target)!r}).touch()",
        f"{{'a': open({str(target)!r}, 'w')}}",
        "{'a': 1",
        "[1]",
        "1" * 10_000,
        "{" * 5000,
        "[" * 100_000,
        "{'a': " * 500 + "1" + "}" * 500,
        "",
        "x" * 1_000_001,
    ):
        with pytest.raises(RememError, match="row 3"):
            data.literal(text, "row 3")
    assert not target.exists()


def test_both_hub_ids_and_a_copy_without_its_card(made, tmp_path):
    assert detect("chengyewang/UMU-bench")[0] == detect("linbojunzi/UMU-bench")[0] == "umu"
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    (copy / "README.md").unlink()
    assert detect(str(copy)) == ("umu", str(copy))
    (copy / "Real_Person_Set").rename(copy / "real_person")
    assert len(data.questions_of(str(copy), "real")) == len(data.questions_of(str(made), "real"))


def test_what_is_right():
    def right(kind, answer, reply, config="forget_5", options=()):
        doc = {"kind": kind, "answer": answer, "config": config, "options": options}
        return BENCHMARK.correct(doc, reply)

    options = ["Oslo", "Bergen", "Turku", "Riga"]
    assert right("choice", "Oslo", " Oslo\n") == 1 and right("choice", "Oslo", "Oslo.", options=options) == 0
    assert right("choice", "Oslo", "It is Oslo.", "Real_Person_Set", options) == 1
    assert right("choice", "Oslo", "Berge", "real_person", options) == 0
    assert nearest("zzz", options) == "Oslo"  # the first of equals
    assert right("cloze", "Oslo", "in OSLO, yes") == 1 and right("cloze", "Oslo", "Osl") == 0
    # LCS of "the town of oslo" and "the town oslo": 3 words; precision 1, recall 3/4
    assert right("generation", "the town of oslo", "the town oslo") == pytest.approx(6 / 7)


def test_numbers_over_facts_by_hand(made):
    """The text question of every fact right, the one with the picture wrong; of sentences half the words."""
    rows = data.questions_of(str(made), "forget_5")

    def reply(doc):
        if doc["kind"] == "generation":
            words = doc["answer"].split()
            return doc["answer"] if doc["modality"] == "text" else " ".join(words[: len(words) // 2])
        return doc["answer"] if doc["modality"] == "text" else "nothing"

    found = scored(rows, "forget_5", reply)
    assert found["umu_choice_text_right"] == found["umu_cloze_text_right"] == 1
    assert found["umu_choice_image_right"] == found["umu_cloze_image_right"] == 0
    assert found["umu_accf_choice"] == found["umu_accf_cloze"] == 0
    halves = [
        BENCHMARK.correct(doc, reply(doc))
        for doc in rows
        if doc["kind"] == "generation" and doc["picture"] == 0
    ]
    assert found["umu_rlf"] == pytest.approx(sum((1 + half**2) / (1 + half) for half in halves) / len(halves))
    kept = scored(data.questions_of(str(made), "retain_95").select(range(30)), "retain_95", reply)
    assert kept["umu_accr_choice"] == kept["umu_accr_cloze"] == 0 and 0 < kept["umu_rlr"] < 1
    wrong = scored(rows, "forget_5", lambda doc: "nothing")
    assert wrong["umu_accf_choice"] == wrong["umu_accf_cloze"] == 1 and wrong["umu_rlf"] == 0


def test_mean_over_questions_is_not_the_number_of_means():
    """Two facts (1, 0) and (0, 1): RLF per question is 1; of the means ½ and ½ it would be ½."""
    metric = next(
        metric
        for metric in BENCHMARK.names(
            datasets.Dataset.from_list([{"kind": "generation", "modality": "text"}]),
            "forget_5",
            context("forget_5"),
        )
        if metric.name == "umu_rlf"
    )
    items = [
        {"fact": fact, "modality": modality, "value": value}
        for fact, modality, value in (
            ("a", "text", 1.0),
            ("a", "image", 0.0),
            ("b", "image", 1.0),
            ("b", "text", 0.0),
        )
    ]
    assert metric.aggregate(items) == 1.0
    assert metric.aggregate([*items, {"fact": "c", "modality": "text", "value": 1.0}]) == 1.0
    with pytest.raises(RememError, match="--limit"):
        metric.aggregate(items[:1])


def test_training_rows(made):
    rows = data.training_rows(str(made), "forget_10")
    assert len(rows) == 2 * 3 * 2 and sum(rows["text_only"]) == 6
    assert len(data.training_rows(str(made), "forget_10", "image")) == 6
    scored_rows = data.questions_of(str(made), "forget_10")
    qa = {(doc["prompt"], doc["answer"]) for doc in scored_rows if doc["kind"] == "qa"}
    assert qa == set(zip(rows["question"], rows["answer"]))


@pytest.mark.parametrize(
    ("column", "old", "new", "told"),
    one_in(
        2,
        [
            ("Classify", "muitimodal", "mutlimodal", "unknown key 'mutlimodal'"),
            ("Classify", "'options'", "'optionz'", "unknown key 'optionz'"),
            ("Cloze", "{'unimodal'", "{unimodal", "no literal"),
            ("MM_QA", "'answer'", "'anwser'", "unknown key 'anwser'"),
            ("Cloze", "'answer': '", "'answer': '.", "begins with a full stop"),
            ("Classify", "'answer': 'A", "'answer': 'E", "is none of A, B, C, D"),
        ],
    ),
)
def test_a_bad_cell_is_named(made, tmp_path, column, old, new, told):
    def change(rows):
        place = next(place for place, row in enumerate(rows) if old in row[column])
        rows[place][column] = rows[place][column].replace(old, new)

    source = changed(made, tmp_path / "copy", "retain_95", change)
    faults = []
    rows = data.questions_of(source, "retain_95", faults)
    assert faults and all(told in fault and "row " in fault and column in fault for fault in faults)
    assert len(rows) + len(faults) <= 19 * 24
    assert told in str(data.check(source).faults)
    with pytest.raises(RememError):
        data.questions_of(source, "retain_95")


def test_the_right_spelling_is_read_too(made, tmp_path):
    def change(rows):
        for row in rows:
            row["Cloze"] = row["Cloze"].replace("muitimodal", "multimodal")

    source = changed(made, tmp_path / "copy", "forget_5", change)
    assert len(data.questions_of(source, "forget_5")) == len(data.questions_of(str(made), "forget_5"))


def test_pictures_sizes_and_people(made, tmp_path):
    source = changed(made, tmp_path / "a", "forget_5", lambda rows: [{**rows[0], "image": None}])
    faults = []
    data.questions_of(source, "forget_5", faults)
    assert len(faults) == 12 and "no picture" in faults[0] and "row 0" in faults[0]
    source = changed(made, tmp_path / "b", "retain_90", lambda rows: rows[:9])
    with pytest.raises(RememError, match="'retain_90': 9 rows, where 18 of the 20"):
        data.questions_of(source, "retain_90")
    source = changed(made, tmp_path / "c", "forget_5", lambda rows: [{**rows[0], "ID": "019"}])
    with pytest.raises(RememError, match="in 'forget_5' and in 'retain_95'"):
        data.check_people(source, "forget_5")
    assert "people of a forget set" in data.check(source).faults
