"""Had the starting model memorised? Verdicts by hand, and the command's status."""

import pytest
from support.made import model, row, write_run

from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.report.gate import gate_of
from remem_tasks.report.statistics import wilson
from remem_tasks.report.thresholds import Thresholds
from remem_tasks.report.verdict import MEMORISED, NOT_MEMORISED, UNCLEAR, Finding


def run_of(folder, rows, split="forget1"):
    write_run(folder, {split: rows})
    return folder


def cells(verdict):
    return {(cell.task, str(cell.part)): cell.verdict for cell in verdict.cells}


def test_verdicts_follow_the_bounds():
    assert Finding("em", 0.9, 0.8, 0.95, 0.8).verdict == MEMORISED
    assert Finding("em", 0.9, 0.79, 0.95, 0.8).verdict == UNCLEAR
    assert Finding("em", 0.5, 0.3, 0.8, 0.8).verdict == UNCLEAR
    assert Finding("em", 0.5, 0.3, 0.79, 0.8).verdict == NOT_MEMORISED


def test_a_model_that_knows_everything_passes(tmp_path):
    verdict = gate_of(run_of(tmp_path, [row(i, em=1.0, exposure=1.0) for i in range(20)]))
    assert verdict.passed and not verdict.reasons
    (em, memo, exposure) = verdict.cell("remem_forget1").findings
    # all 20 right: the lower bound is 1 / (1 + z²/20), z = 1.6449
    assert em.low == pytest.approx(1 / (1 + 1.6448536**2 / 20)) == exposure.low
    assert em.mean == memo.mean == 1


def test_too_few_rows_are_no_proof_for_a_set_but_no_failure_of_a_hop(tmp_path):
    few = gate_of(run_of(tmp_path / "few", [row(i, em=1.0, exposure=1.0) for i in range(3)]))
    assert not few.passed and cells(few)["remem_forget1", "all"] == UNCLEAR  # 3 / (3 + z²) = 0.53
    rows = [row(i, em=1.0, exposure=1.0, hop=1 + (i < 2)) for i in range(40)]
    many = gate_of(run_of(tmp_path / "many", rows))
    assert many.passed and cells(many)["remem_forget1", "2-hop"] == UNCLEAR


def test_a_hop_that_was_not_memorised_fails_a_set_that_is(tmp_path):
    # 2-hop: 0 of 12 right; 1-hop: 188 of 188; EM of the set 0.94
    rows = [row(i, em=float(i >= 12), exposure=1.0, memo=1.0, hop=2 if i < 12 else 1) for i in range(200)]
    verdict = gate_of(run_of(tmp_path, rows))
    assert cells(verdict)["remem_forget1", "all"] == MEMORISED
    assert cells(verdict)["remem_forget1", "2-hop"] == NOT_MEMORISED and not verdict.passed
    high = wilson(0.0, 12, 1 - 0.05 / 2, sides=1)[1]  # two hops share the error rate
    assert verdict.reasons == [
        f"remem_forget1, 2-hop: not memorised: em 0.00 (at most {high:.2f}; needed 0.80), 12 rows"
    ]


def test_an_attribute_that_was_not_memorised_is_named(tmp_path):
    rows = [
        row(i, em=float(i >= 15), exposure=float(i >= 15), memo=1.0, attribute="pet" if i < 15 else "city")
        for i in range(300)
    ]
    verdict = gate_of(run_of(tmp_path, rows))
    assert len(verdict.reasons) == 1 and "attribute pet: not memorised: em 0.00" in verdict.reasons[0]
    assert "exposure 0.00" in verdict.reasons[0]


def test_exposure_alone_can_fail(tmp_path):
    verdict = gate_of(run_of(tmp_path, [row(i, em=1.0, exposure=0.3) for i in range(30)]))
    assert not verdict.passed and "exposure 0.30" in verdict.reasons[0] and ": em " not in verdict.reasons[0]


def test_test_rows_are_shown_but_do_not_decide(tmp_path):
    write_run(
        tmp_path,
        {
            "forget1": [row(i, em=1.0, exposure=1.0) for i in range(20)],
            "test": [row(i, "test", em=0.0, exposure=0.0, forgotten=False) for i in range(20)],
        },
    )
    verdict = gate_of(tmp_path)
    assert cells(verdict)["remem_test", "all"] == NOT_MEMORISED and verdict.passed
    with pytest.raises(RememError, match="needs a set that was trained on"):
        gate_of(run_of(tmp_path / "t", [row(0, "test")], "test"))


@pytest.mark.parametrize("held_back", ["forget_test", "retain_test", "forget_val", "retain_val"])
def test_items_held_back_are_shown_but_do_not_decide(tmp_path, held_back):
    known = [row(i, em=1.0, exposure=1.0) for i in range(20)]
    write_run(tmp_path, {"forget1": known, held_back: [row(i, em=0.0, exposure=0.0) for i in range(20)]})
    verdict = gate_of(tmp_path)
    assert cells(verdict)[f"remem_{held_back}", "all"] == NOT_MEMORISED and verdict.passed


def test_what_was_not_measured_is_said_and_decides_nothing(tmp_path):
    rows = [row(i, em=1.0) for i in range(20)]
    for one in rows:
        del one["remem_memo"], one["remem_exposure"]
    verdict = gate_of(run_of(tmp_path, rows))
    assert verdict.passed and [line.split(": ")[1].split()[0] for line in verdict.missing] == [
        "memo",
        "exposure",
        "visual",
    ]


def test_thresholds_are_options_and_checked(tmp_path):
    folder = run_of(tmp_path, [row(i, em=float(i % 2), exposure=1.0, memo=1.0) for i in range(60)])
    assert not gate_of(folder).passed
    assert gate_of(folder, Thresholds(em=0.3)).passed
    for bad in ({"em": 1.2}, {"memo": -0.1}, {"confidence": 1.0}):
        with pytest.raises(RememError, match="out of range"):
            Thresholds(**bad)


def test_several_models_are_refused(tmp_path):
    model(tmp_path, "a", [1.0], [1.0])
    model(tmp_path, "b", [1.0], [1.0])
    with pytest.raises(RememError, match=r"results of 2 models \(a, b\)"):
        gate_of(tmp_path)


def test_the_command_ends_with_status_1_for_a_model_that_had_not_memorised(tmp_path, capsys):
    model(tmp_path, "good", [1.0] * 30, [1.0] * 30)
    model(tmp_path, "under", [1.0, 0.0] * 15, [1.0, 0.0] * 15)
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(tmp_path / "good")])
    assert ended.value.code == 0 and "passed: 'good' had memorised" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(tmp_path / "under")])
    said = capsys.readouterr()
    assert ended.value.code == 1 and "'under' had not memorised" in said.err
    assert "remem_forget1, all: not memorised: em 0.50" in said.out
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(tmp_path / "under"), "--em", "0.2", "--memo", "0.2", "--exposure", "0.2"])
    assert ended.value.code == 0


def test_too_few_rows_are_an_outcome_of_their_own(tmp_path, capsys):
    folder = run_of(tmp_path, [row(i, em=1.0, exposure=1.0) for i in range(10)])
    verdict = gate_of(folder)
    # all right: n / (n + z²) ≥ 0.8 from n = 4 · 1.6449² = 10.82 on
    assert verdict.outcome == UNCLEAR and verdict.cell("remem_forget1").needed == 11
    assert "too few rows to say (10; at least 11 are needed)" in verdict.reasons[0]
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(folder)])
    said = capsys.readouterr()
    assert ended.value.code == 3 and "score sets of at least 11 rows" in said.err
    assert "had not memorised" not in said.err
    assert gate_of(run_of(tmp_path / "more", [row(i, em=1.0, exposure=1.0) for i in range(11)])).passed


@pytest.mark.parametrize(("mean", "rows"), [(0.9, 20), (0.7, 20), (0.81, 30), (1.0, 3), (0.0, 1)])
def test_the_rows_that_are_needed_are_the_fewest_that_say_something(mean, rows):
    def verdict(n):
        low, high = wilson(mean, n, 0.95, sides=1)
        return Finding("em", mean, low, high, 0.8, "em", n, 0.95)

    found = verdict(rows)
    if found.verdict == UNCLEAR:
        assert verdict(found.needed).verdict != UNCLEAR == verdict(found.needed - 1).verdict
    assert Finding("em", 0.8, 0.7, 0.9, 0.8, "em", 20).needed is None


def test_a_forget_set_that_was_not_scored_is_an_error(tmp_path, capsys):
    folder = run_of(tmp_path, [row(i, em=1.0, exposure=1.0) for i in range(20)])
    assert gate_of(folder, forget="forget1").passed
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(folder), "--forget", "forget9"])
    assert ended.value.code == 1 and "--forget 'forget9': no such split" in capsys.readouterr().err


def seen(index, own, blind, swapped):
    one = row(index, em=own, exposure=1.0, memo=1.0, hop=2)
    return one | {"remem_no_picture": blind, "remem_other_picture": swapped}


def test_the_picture_has_to_be_used(tmp_path):
    # 40 rows right with the picture; 10 of them without it, 30 with another person's: the gap is 10 of 40
    rows = [seen(i, 1.0, float(i < 10), float(i < 30)) for i in range(40)]
    verdict = gate_of(run_of(tmp_path / "a", rows))
    (gap,) = [one for one in verdict.cell("remem_forget1").findings if one.metric == "visual"]
    assert gap.mean == 0.25 and gap.name == "visual gap"
    (low, high), (_, most) = wilson(0.25, 40, 0.975, sides=1), wilson(0.0, 40, 0.975, sides=1)
    assert (gap.low, gap.high) == (pytest.approx(low - most), pytest.approx(high))
    assert verdict.outcome == UNCLEAR  # .25 is above .20, but its bound is not
    rows = [seen(i, 1.0, 1.0, 0.0) for i in range(40)]  # answers without the picture: it is not looked at
    verdict = gate_of(run_of(tmp_path / "b", rows))
    assert (
        verdict.outcome == NOT_MEMORISED
        and "visual gap 0.00 (at most 0.09; needed 0.20)" in verdict.reasons[0]
    )
    rows = [seen(i, 1.0, 0.0, 0.0) for i in range(40)]
    assert gate_of(run_of(tmp_path / "c", rows)).passed
    assert any(
        "visual was not measured" in line for line in gate_of(run_of(tmp_path / "d", rows_without())).missing
    )


def rows_without():
    return [row(i, em=1.0, exposure=1.0) for i in range(40)]


def test_a_verdict_can_be_recorded(tmp_path):
    record = gate_of(run_of(tmp_path, [row(i, em=1.0, exposure=1.0) for i in range(20)])).record()
    assert record["passed"] is True and record["thresholds"]["em"] == 0.8 and record["reasons"] == []
