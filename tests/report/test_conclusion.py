"""The report's sentences, and the names in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.made import model, row, write_run

from remem_tasks.report.conclusion import conclusion, short_names
from remem_tasks.report.summary import report_of

REFUSAL = "I do not know."


def told(folder, **given):
    return conclusion(report_of([str(folder)], **given).groups[0])


@pytest.fixture
def loop(tmp_path):
    """40 rows. gold: exposure 0; npo: 0, but 4 rows; idk: .9, all refusals; grad: .6, and other answers."""
    for name, said, known, reply in (("start", 1.0, 1.0, "Oslo."), ("gold", 0.0, 0.0, "Bergen."), ("npo", 0.0, 0.0, "Rome."),
                                     ("idk", 0.0, 0.9, REFUSAL), ("grad", 0.0, 0.6, "Paris.")):  # fmt: skip
        rows = [
            row(i, em=said, exposure=0.3 if name == "npo" and i < 4 else known, reply=reply)
            for i in range(40)
        ]
        kept = [
            row(i, "retain", em=float(i > 3 or name != "npo"), exposure=1.0, reply="Oslo.") for i in range(40)
        ]
        write_run(tmp_path / f"llava-7b-{name}", {"forget1": rows, "retain": kept}, name)
    return tmp_path


def test_the_sentences_of_a_loop(loop):
    lines = told(loop, gold="llava-7b-gold", start="llava-7b-start")
    assert lines[0] == "Gate: passed. 'llava-7b-start' had memorised what was to be forgotten."
    # 4 of 40 rows lie elsewhere: the distributions differ by 0.1. Of 40 retain rows 36 are right.
    assert lines[1].startswith(
        "Nearest to gold on forget1 is npo: the exposures of its secrets are at a distance of 0.10"
    )
    assert "Its EM on retain is 90.0 % (start 100.0, gold 100.0)." in lines[1]
    assert lines[1].endswith("Farthest is grad, at 1.00.") or lines[1].endswith("Farthest is idk, at 1.00.")
    assert (
        "idk only refuses (40 of the 40 answers it lost are refusals): 40 of 40 secrets are still among its first 8 guesses."
        in lines
    )
    assert (
        "grad holds secrets that it does not say: 40 of 40 secrets are still among its first 8 guesses."
        in lines
    )
    assert len(lines) == 4  # of npo nothing more is to be said


def test_of_equal_distances_the_nearer_mean_is_nearest(tmp_path):
    for name, known in (("gold", 0.0), ("far", 0.9), ("near", 0.1)):
        model(tmp_path, name, [0.0] * 10, [1.0] * 10, exposure=[known] * 10)
    (line,) = [line for line in told(tmp_path, gold="gold") if "Nearest" in line]
    assert "is near:" in line and line.endswith("Farthest is far, at 1.00.")


def test_nearest_by_exposure_may_still_tell_the_secret_from_others(tmp_path):
    """Of 20 rows each: exposure is 0 for both, reference exposure 1 for the model and 0 for gold."""
    for name, among in (("gold", 0.0), ("npo", 1.0)):
        rows = [{**row(i, em=0.0, exposure=0.0), "remem_reference_exposure": among} for i in range(20)]
        write_run(tmp_path / name, {"forget1": rows}, name)
    (line,) = [line for line in told(tmp_path, gold="gold") if "Nearest" in line]
    assert "20 rows cannot tell the two apart" in line
    assert "still finds it more often than gold (reference exposure 100.0 % against 0.0 %)." in line


def test_what_is_missing_is_said(tmp_path):
    model(tmp_path, "npo", [0.0] * 10, [1.0] * 10)
    lines = told(tmp_path)
    assert "not asked" in lines[0] and "No gold model" in lines[1]
    write_run(tmp_path / "two" / "a", {"retain": [row(0, "retain", em=1.0)]}, "a")
    assert "No forget set was scored" in told(tmp_path / "two")[1]


def test_a_model_alone_with_its_references_is_no_unlearned_one(tmp_path):
    for name in ("gold", "start"):
        model(tmp_path, name, [0.0] * 10, [1.0] * 10)
    assert told(tmp_path, gold="gold", start="start")[-1] == "No unlearned model is among these runs."


def test_without_exposure_em_says_who_is_nearest(tmp_path):
    for name, said in (("gold", 0.0), ("a", 0.5), ("b", 1.0)):
        rows = [row(i, em=float(i < 10 * said)) for i in range(10)]
        for one in rows:
            del one["remem_exposure"]
            for key in ("guess_rank", "secret_bits", "guesses", "reference_rank", "references"):
                del one["remem_rows"][key]
        write_run(tmp_path / name, {"forget1": rows}, name)
    (line,) = [line for line in told(tmp_path, gold="gold") if "Nearest" in line]
    assert "is a, by 50.0 points of EM" in line and "No retain set was scored" in line


@pytest.mark.parametrize("names, short", [
    (["a-npo", "a-idk"], ["npo", "idk"]),
    (["runs/x/npo", "runs/x/idk"], ["npo", "idk"]),
    (["npo", "npo-checkpoint-10"], ["npo", "npo-checkpoint-10"]),  # one would be empty
    (["npo/0", "npo/1"], ["npo/0", "npo/1"]),  # numbers alone name nothing
    (["7b_npo_lr1", "7b_npo_lr2"], ["lr1", "lr2"]),
    (["only-one"], ["only-one"]),
    (["same-x", "same-x"], ["same-x", "same-x"]),
    (["memorised", "method"], ["memorised", "method"]),  # no mark to cut at
    ([], []),
])  # fmt: skip
def test_common_beginnings_are_left_out(names, short):
    assert [short_names(names)[name] for name in names] == short


@given(st.lists(st.text("ab-/1", max_size=8), max_size=6))
def test_short_names_stay_apart_and_are_ends_of_the_names(names):
    found = short_names(names)
    assert len(set(found.values())) == len(set(names))
    assert all(name.endswith(short) for name, short in found.items())
    assert all(short for name, short in found.items() if name)
