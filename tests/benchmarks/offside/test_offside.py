"""OFFSIDE: its sets and settings, letters and BLEU by hand, and what becomes of records that are not as published."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forged import spoiled

from remem_tasks.benchmarks.base import RunContext
from remem_tasks.benchmarks.offside import data, forge, training
from remem_tasks.benchmarks.offside.benchmark import BENCHMARK
from remem_tasks.benchmarks.offside.scores import bleu, letter_of
from remem_tasks.benchmarks.registry import detect
from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.benchmarks.training_rows import Wanted
from remem_tasks.errors import RememError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offside") / "data"
    forge.forge(folder, forge.ForgeOptions(identities=9, qa=12, image_size=16))
    return folder


@pytest.fixture
def copied(made, tmp_path):
    return spoiled(made, tmp_path / "copy")


def test_letters():
    said = {
        "The answer is B.": "B",
        "the answer is C": "C",
        " D\n": "D",
        "D.": "",
        "(A)": "",
        "E": "",
        "Because": "",
    }
    assert {reply: letter_of(reply) for reply in said} == said


def test_bleu_by_hand():
    assert bleu("the red car stands here", "the red car stands here") == pytest.approx(1)
    # 5 words, 4 of them right: p1 4/5, p2 "the red" and "red car" 2/4, p3 "the red car" 1/3, p4 0.1/2; no brevity
    expected = (4 / 5 * 2 / 4 * 1 / 3 * 0.1 / 2) ** 0.25
    assert bleu("the red car is here", "the red car stands here") == pytest.approx(expected)
    # 2 words of 5: p1 2/2, p2 1/1, the orders it has none of 0.1/1; brevity exp(1 − 5/2)
    assert bleu("the red", "the red car stands here") == pytest.approx(math.exp(-1.5) * (0.1 * 0.1) ** 0.25)
    # clipped: two of "the" where the answer has one
    assert bleu("the the", "the car") == pytest.approx((1 / 2 * 0.1 / 1 * 0.1 * 0.1) ** 0.25)
    assert bleu("", "x") == bleu("y", "x") == 0
    with pytest.raises(RememError):
        bleu("x", "!")


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_bleu_is_a_share(said, wanted):
    assert 0 <= bleu(" ".join(said), " ".join(wanted)) <= 1 + 1e-12
    assert bleu(" ".join(wanted * 4), " ".join(wanted * 4)) == pytest.approx(1)


def test_sets_and_settings(made):
    assert detect(str(made)) == ("offside", str(made))
    paths = {
        name: data.questions_of(str(made), name)["image_path"] for name in ("forget", "retain", "relearn")
    }
    assert {name: {data.number_of(path) % 5 for path in found} for name, found in paths.items()} == {
        "forget": {4},
        "retain": {1, 2, 3},
        "relearn": {0},
    }
    whole, private = (data.questions_of(str(made), name) for name in ("forget", "forget_private"))
    assert len(private) == len(whole) / 2  # 12 facts of a picture, half of them private
    kept = data.questions_of(str(made), "retain_private")
    assert len(kept) == len(data.questions_of(str(made), "retain")) + len(whole) - len(private)
    assert not {row["row_id"].split("/")[1] for row in private} & {
        row["row_id"].split("/")[1] for row in kept if row["config"] == "forget"
    }


@pytest.mark.parametrize("forget", ["forget", "forget_private"])
def test_training_sets(made, forget):
    pairs = training.training_sets(Wanted(str(made), "pairs", forget))
    assert len(pairs.forget) and len(pairs.retain)
    full = training.training_sets(Wanted(str(made), "finetune", forget)).train
    assert len(full) == len(data.questions_of(str(made), "full"))
    text = training.training_sets(Wanted(str(made), "pairs", forget, modality="text"))
    assert all(text.forget["text_only"]) and not any(pairs.forget["text_only"])
    relearn = training.training_sets(Wanted(str(made), "finetune", forget, finetune="relearn")).train
    assert set(relearn["image_path"]) == set(data.questions_of(str(made), "relearn")["image_path"])


def test_scores_by_hand(made):
    context = RunContext(ScoringConfig(metrics=("em",)), known={"forget": True})
    told, choice = (data.questions_of(str(made), name)[0] for name in ("forget", "forget_choice"))
    scores = BENCHMARK.score({**told, "answer": "the town of oslo"}, ["the town oslo"], context)
    # 1-grams 3 of 3 and of 4; 2-grams 1 of 2 and of 3; longest common run of words 3
    assert scores["offside_generation_rouge1"] == scores["offside_generation_rougel"] == pytest.approx(6 / 7)
    assert scores["offside_generation_rouge2"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    expected = math.exp(1 - 4 / 3) * (1 * 1 / 2 * 0.1 / 1 * 0.1) ** 0.25
    assert scores["offside_generation_bleu"] == pytest.approx(expected)
    for reply, right, unlettered in (
        (f"The answer is {choice['letter']}", 1, 0),
        (choice["letter"], 1, 0),
        ("Z", 0, 1),
    ):
        scores = BENCHMARK.score(choice, [reply], context)
        assert (scores["offside_choice_right"], scores["offside_unlettered_rate"]) == (right, unlettered)


@pytest.mark.parametrize(
    ("file", "spoil", "told"),
    [
        ("retain_set.json", lambda row: row.update(mesages=[]), "unknown key 'mesages'"),
        ("retain_set.json", lambda row: row["messages"].reverse(), "one of a user and one of an assistant"),
        ("retain_set.json", lambda row: row["messages"][1].update(content=""), "content of assistant"),
        ("retain_set.json", lambda row: row.update(images="images/nobody.png"), "no one picture"),
        ("retain_set.json", lambda row: row.update(images="../../etc/x.png"), "no one picture"),
        ("classification_retain_set.json", lambda row: row.update(Correct_Answer="E"), "is not an option"),
        ("classification_retain_set.json", lambda row: row.update(Options=["x"]), "not by the letters"),
        (
            "classification_retain_set.json",
            lambda row: row["Options"].pop("B"),
            "'Options' lack B, and have D",
        ),
    ],
)
def test_a_bad_record_is_counted_and_named(copied, file, spoil, told):
    source = copied(file, lambda rows: spoil(rows[5]))
    name = "retain_choice" if file.startswith("class") else "retain"
    faults = []
    rows = data.questions_of(source, name, faults)
    assert len(rows) == 9 * 3 * 12 - 1 and len(faults) == 1
    assert told in faults[0] and f"{file}', row 5" in faults[0]
    context = BENCHMARK.prepare(source, name, rows, RunContext(ScoringConfig()))
    assert told in context.missing["questions"]
    source = copied(file, lambda rows: [spoil(row) for row in rows[6:12]])
    with pytest.raises(RememError, match="--faults allow"):
        BENCHMARK.prepare(source, name, rows, RunContext(ScoringConfig()))


def test_a_picture_of_another_set_is_found(copied):
    def change(rows):
        wrong = rows[0]["images"].replace("/4.png", "/3.png")
        for row in rows[:12]:
            row["images"] = wrong

    report = data.check(copied("forget_set.json", change))
    assert "picture of another set, by its number mod 5" in report.faults
    assert "retain shows forgotten pictures" in report.faults


@pytest.mark.parametrize(
    ("path", "person"),
    [
        ("images/ada_birch/4.png", "ada_birch"),
        ("images/Ada Birch_04.jpg", "ada_birch"),
        ("Ada-Birch/12.png", "ada_birch"),
        ("images/12.png", "12"),
    ],
)
def test_who_is_shown(path, person):
    assert data.person_of(path) == person


def test_a_record_that_comes_twice_is_asked_once(copied):
    source = copied("retain_set.json", lambda rows: rows.append(rows[5]))
    faults = []
    rows = data.questions_of(source, "retain", faults)
    assert len(rows) == 9 * 3 * 12 and len(faults) == 1
    assert "the same question about the same picture as row 5" in faults[0]
