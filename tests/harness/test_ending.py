"""The end of a run: one compact table in per cent, where the files are, and the next command."""

import pytest

from remem_tasks.harness.ending import ending, next_steps, table_of

REMEM = {
    "remem_forget1": {"alias": "x", "remem_em,none": 0.125, "remem_em_stderr,none": 0.5, "remem_memo,none": 0.25,
        "remem_exposure,none": 0.98765, "remem_refusal_rate,none": 0.0, "remem_1hop_em,none": 0.9, "remem_rows,none": 40},
    "remem_test": {"remem_em,none": 0.5, "remem_forgotten_em,none": 0.0, "remem_kept_em,none": 0.75, "remem_rows,none": 28},
}  # fmt: skip


def cells(text):
    return [line.split() for line in text.splitlines()]


def test_scores_are_in_per_cent_and_forgotten_stands_apart_from_kept():
    samples = {
        "remem_test": [{"remem_forgotten_em": 0.0}, *[{"remem_kept_em": 1.0}] * 2, {"remem_kept_em": None}]
    }
    head, forget, forgotten, kept = cells(table_of(REMEM, samples))
    assert head == ["task", "part", "rows", "EM", "MEMO", "Exposure", "refused"]
    assert forget == ["forget1", "40", "12.5", "25.0", "98.8", "0.0"]
    assert forgotten == ["test", "forgotten", "1", "0.0", "-", "-", "-"]
    assert kept == ["test", "kept", "2", "75.0", "-", "-", "-"]


def test_of_how_many_rows_a_part_is_nobody_guesses():
    """Without samples a part has no count: that of the whole set would be wrong."""
    assert [line[2] for line in cells(table_of(REMEM))[2:]] == ["-", "-"]


def test_columns_that_no_task_has_are_left_out():
    (head, line) = cells(table_of({"remem_retain": {"remem_em,none": 1.0, "remem_rows,none": 3}}))
    assert (head, line) == (["task", "rows", "EM"], ["retain", "3", "100.0"])


@pytest.mark.parametrize("value", ["N/A", None, float("nan"), True])
def test_what_is_no_number_is_no_score(value):
    scores = {"remem_retain": {"remem_em,none": 1.0, "remem_exposure,none": value, "remem_rows,none": 3}}
    assert "Exposure" not in table_of(scores)


def test_a_benchmark_with_kinds_has_a_line_of_each():
    scores = {
        "clear_forget05": {
            "clear_caption_rouge,none": 0.5,
            "clear_name_rouge,none": 0.25,
            "clear_rows,none": 8,
        }
    }
    samples = {
        "clear_forget05": [{"clear_caption_rouge": 0.5, "clear_name_rouge": 0.5}, {"clear_name_rouge": 0.0}]
    }
    head, *lines = cells(table_of(scores, samples))
    assert head == ["task", "part", "rows", "ROUGE-L", "recall"]
    assert [line[-3:] for line in lines] == [["caption", "1", "50.0"], ["name", "2", "25.0"]]


def test_failed_replies_are_in_sight():
    scores = {"remem_retain": {"remem_em,none": 1.0, "remem_failed_rate,none": 0.5, "remem_rows,none": 4}}
    assert cells(table_of(scores)) == [["task", "rows", "EM", "failed"], ["retain", "4", "100.0", "50.0"]]
    scores["remem_retain"]["remem_failed_rate,none"] = 0.0
    assert "failed" not in table_of(scores)


def test_tasks_of_others_are_left_to_the_harness():
    assert table_of({"mme": {"mme_score,none": 3.0}}) == ""
    assert ending({"results": {"mme": {"mme_score,none": 3.0}}}, "out", True) == ""
    assert ending({}, None, False) == ""


def test_the_next_command_can_be_pasted(tmp_path):
    told = ending({"results": REMEM}, "my results/a", True)
    assert "remem report 'my results/a' --out report" in told and "Scores in per cent" in told
    assert "--log_samples" in " ".join(next_steps("out", False))
    assert "--output_path" in " ".join(next_steps(None, False))
