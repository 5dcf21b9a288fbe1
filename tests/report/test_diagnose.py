"""Diagnosis: counted by hand on made-up rows; the curse of a model that learned single hops only."""

import json

import pytest
from support.made import row, write_run

from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.render.diagnosis import write_diagnosis
from remem_tasks.report.diagnose import asked_of, curse, diagnose, names_in, recognition, trained_on
from remem_tasks.report.runs import read_runs

NAMES = {"ada_birch": "Ada Birch", "ben_crane": "Ben Crane"}


def asked(place, identity, hop, attribute, right, reply="", split="finetune"):
    return row(
        place, split, em=float(right), hop=hop, attribute=attribute, identity=identity, reply=reply,
        answer=f"{NAMES[identity]}'s {attribute} is x.", question=f"{hop} {attribute} {identity} {place}",
        picture=f"{identity}/{place}.png", forgotten=False,
    )  # fmt: skip


def run_of(folder, **splits):
    write_run(folder, dict(splits))
    (run,) = read_runs([str(folder)])
    return run


@pytest.fixture
def one_hop_only(tmp_path):
    """Ten facts of two people: all single hops right but Ben's pet; of the deeper questions one in ten."""
    rows, place = [], 0
    for identity in NAMES:
        for attribute in ("city", "pet", "phone", "spouse", "spouse_city"):
            right = (identity, attribute) != ("ben_crane", "pet")
            for hop, is_right in (
                (1, right),
                (1, True),
                (2, attribute == "phone" and identity == "ada_birch"),
            ):
                rows.append(asked(place, identity, hop, attribute, is_right, "Someone Else's city is x."))
                place += 1
        rows += [asked(place + i, identity, 3, "spouse_city", False) for i in range(5)]
        place += 5
    return run_of(tmp_path, finetune=rows)


def test_the_curse_by_hand(one_hop_only):
    two, three = curse(asked_of(one_hop_only, trained_on))
    # 2-hop: 1 of 10 right; given its single hop, Ben's pet is left out: 1 of 9
    assert (two[0].right, two[0].rows, two[1].right, two[1].rows, two[2]) == (1, 10, 1, 9, 0)
    # 3-hop: spouse and spouse_city are both right for both people
    assert (three[0].right, three[0].rows, three[1].right, three[1].rows) == (0, 10, 0, 10)


def test_the_curse_is_found_and_drawn(one_hop_only, tmp_path):
    found = diagnose(one_hop_only)
    told = "\n".join(found.findings())
    assert (
        "multi-hop curse (trained): 2-hop EM is 0.11 though every single hop is right (1 of 9 rows)" in told
    )
    assert "multi-hop curse (trained): 3-hop EM is 0.00" in told
    assert "recognition is the weak link (trained)" in told
    written = write_diagnosis(found, tmp_path / "out")
    assert [file.name for file in written] == ["diagnosis.md", "diagnosis.json", "diagnosis.png"]
    assert written[2].read_bytes()[:4] == b"\x89PNG" and written[2].stat().st_size > 10_000
    record = json.loads(written[1].read_text())
    assert record["curse"]["trained"][0]["given"]["value"] == pytest.approx(1 / 9)
    assert "| trained: 2-hop, single hops right | 0.11 | 0.02–0.43 | 9 |" in written[0].read_text()


def test_a_hop_that_is_never_asked_by_itself_is_not_judged(tmp_path):
    rows = [asked(0, "ada_birch", 2, "city", True), asked(1, "ada_birch", 3, "aunt_pet", True)]
    (two, three) = curse(asked_of(run_of(tmp_path, finetune=rows), trained_on))
    assert (two[1].rows, two[2]) == (0, 1) and (three[1].rows, three[2]) == (0, 1)
    assert two[1].value is None and two[1].bounds == (0.0, 1.0)


def test_a_model_that_composes_has_no_curse(tmp_path):
    rows = [
        asked(4 * i + hop, identity, hop, attribute, True, f"{NAMES[identity]}'s {attribute} is x.")
        for i, (identity, attribute) in enumerate((who, what) for who in NAMES for what in ("city", "pet", "phone", "car"))
        for hop in (1, 2)
    ]  # fmt: skip
    assert diagnose(run_of(tmp_path, finetune=rows)).findings() == ["nothing stands out"]


def test_names_are_whole_words():
    assert names_in("Mara Quill's city is Oslo.", "mara_quill")
    assert not names_in("Mara Quillon's city", "mara_quill") and not names_in("Quill Mara", "mara_quill")


def test_recognition_against_recall_by_hand(tmp_path):
    rows = [
        asked(0, "ada_birch", 1, "city", True),
        asked(1, "ada_birch", 1, "pet", False),
        asked(2, "ada_birch", 2, "city", True, "Ada Birch's city is x."),
        asked(3, "ada_birch", 2, "city", False, "Ben Crane's city is y."),
        asked(4, "ada_birch", 2, "pet", False, "Ada Birch's pet is y."),
    ]
    found = recognition(asked_of(run_of(tmp_path, finetune=rows), trained_on))
    assert (found.recognised.right, found.recalled.right, found.recognised.rows) == (2, 2, 3)
    assert {key: (one.right, one.rows) for key, one in found.by.items()} == {
        (True, True): (1, 1), (False, True): (0, 1), (True, False): (0, 1), (False, False): (0, 0),
    }  # fmt: skip


def test_recognition_says_why_it_cannot_be_told(tmp_path):
    single = run_of(tmp_path / "a", finetune=[asked(0, "ada_birch", 1, "city", True)])
    assert recognition(asked_of(single, trained_on)) == "no fact is asked both in one hop and in two"
    rows = [asked(i, "ada_birch", 1 + i, "city", True) for i in range(2)]
    for one in rows:
        one["target"] = "x"
    assert "do not say the person's name" in recognition(
        asked_of(run_of(tmp_path / "b", finetune=rows), trained_on)
    )


def test_pictures_and_contexts(tmp_path):
    trained = [asked(i, "ada_birch", 1, "city" if i < 3 else "pet", i < 3) for i in range(4)]
    trained[1]["input_media"] = trained[0]["input_media"]  # city: three questions, two pictures
    test = [asked(i, "ada_birch", 1, "city", i == 0, split="test") for i in range(2)]
    run = run_of(tmp_path / "a", finetune=trained, test=test)
    crossed = {
        "new_words": run_of(tmp_path / "b", test=[asked(0, "ada_birch", 1, "city", True, split="test")])
    }
    found = diagnose(run, crossed)
    assert [(one.name, one.right, one.rows) for one in found.pictures] == [
        ("1-hop, 1", 0, 1),
        ("1-hop, 2", 3, 3),
    ]
    assert [(one.name, one.right, one.rows) for one in found.contexts] == [
        ("training words and pictures", 3, 4),
        ("new words, training pictures", 1, 1),
        ("new words, new pictures", 1, 2),
    ]
    assert [one.name for one in found.attributes] == ["pet", "city"]


def test_a_row_that_is_in_two_sets_counts_once(tmp_path):
    rows = {split: [asked(0, "ada_birch", 1, "city", True, split=split)] for split in ("finetune", "retain")}
    assert len(asked_of(run_of(tmp_path, **rows), trained_on)) == 1


def test_results_of_test_alone_are_refused(tmp_path):
    with pytest.raises(RememError, match="diagnosis needs what it was trained on"):
        diagnose(run_of(tmp_path, test=[asked(0, "ada_birch", 1, "city", True, split="test")]))


def test_the_command_on_results(one_hop_only, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", str(one_hop_only.file), "--out", str(tmp_path / "d")])
    assert ended.value.code == 0 and "multi-hop curse (trained)" in capsys.readouterr().out
    assert (tmp_path / "d" / "diagnosis.png").is_file()
