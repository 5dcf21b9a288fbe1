"""Had the starting model memorised? Verdicts by hand, and the command's status."""

import pytest
from support.made import model, row, write_run

from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.report.gate import MEMORISED, NOT_MEMORISED, UNCLEAR, Finding, Thresholds, gate_of
from remem_tasks.report.statistics import wilson


def run_of(folder, rows, split="forget1"):
    write_run(folder, {split: rows})
    return folder


def cells(verdict):
    return {(cell.task, cell.part): cell.verdict for cell in verdict.cells}


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


def test_what_was_not_measured_is_said_and_decides_nothing(tmp_path):
    rows = [row(i, em=1.0) for i in range(20)]
    for one in rows:
        del one["remem_memo"], one["remem_exposure"]
    verdict = gate_of(run_of(tmp_path, rows))
    assert verdict.passed and [line.split(": ")[1].split()[0] for line in verdict.missing] == [
        "memo",
        "exposure",
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


def test_a_verdict_can_be_recorded(tmp_path):
    record = gate_of(run_of(tmp_path, [row(i, em=1.0, exposure=1.0) for i in range(20)])).record()
    assert record["passed"] is True and record["thresholds"]["em"] == 0.8 and record["reasons"] == []
