"""What a report says: numbers worked out by hand, gate marks, terminal, Markdown and CSV."""

import csv
import io
import json

import pytest
from rich.console import Console
from support.made import SUITE, model, row, write_run

from remem_tasks.binding import KEY
from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.render.text import FORGOTTEN, KEPT, csv_of, markdown_of, tables
from remem_tasks.report.summary import report_of
from remem_tasks.report.verdict import WHOLE


@pytest.fixture
def runs(tmp_path):
    """start (4 of 5 forget rows right), gold, and a refuser that says nothing and knows half."""
    more = [1.0] * 30
    model(tmp_path, "start", [1.0, 1.0, 1.0, 1.0, 0.0], more, exposure=[1.0, 1.0, 0.5, 0.5, 0.2])
    model(tmp_path, "gold", [0.0] * 5, more, exposure=[0.0, 0.0, 0.1, 0.0, 0.0])
    model(tmp_path, "idk", [0.0] * 5, [1.0] * 27 + [0.0] * 3, exposure=[1.0, 0.5, 0.0, 0.0, 0.9])
    return tmp_path


def test_scores_and_what_is_left_by_hand(runs):
    found = report_of([str(runs)], gold="gold", start="start").groups[0]
    score = found.score("idk", "remem_forget1", "exposure")
    assert score.value == pytest.approx(2.4 / 5) and score.rows == 5
    # memorised subset: the first four rows; (1 + .5 + 0 + 0) / (1 + 1 + .5 + .5)
    assert score.remaining == pytest.approx(0.5) and score.subset == 4
    assert found.score("start", "remem_forget1", "em").remaining == 1
    assert found.score("idk", "remem_retain", "em").value == pytest.approx(0.9)
    # exposures of idk against gold's (0, 0, .1, 0, 0): the widest gap is at .1, 2/5 against 1
    assert found.distances["idk"]["remem_forget1"]["ks"] == pytest.approx(0.6)
    assert found.distances["gold"]["remem_forget1"]["ks"] == 0
    pair = next(
        p
        for p in found.pairs
        if {p.first, p.second} == {"idk", "start"} and p.metric == "em" and "retain" in p.task
    )
    assert abs(pair.difference.mean) == pytest.approx(0.1) and pair.difference.rows == 30
    assert [run.name for run in found.group.runs] == ["start", "gold", "idk"]


def test_intervals_hold_the_value(runs):
    for score in report_of([str(runs)], start="start").groups[0].scores:
        assert 0 <= score.low <= score.value <= score.high <= 1, score


def test_the_gate_marks_every_score_of_a_set_that_was_not_memorised(runs):
    report = report_of([str(runs)], gold="gold", start="start")
    found = report.groups[0]
    assert found.verdict is not None and not found.verdict.passed
    assert {score.gate for score in found.scores if "retain" in score.task and score.part == WHOLE} == {
        "memorised"
    }
    assert found.score("idk", "remem_forget1", "em").gate == "too few rows to say"
    model(runs, "bad", [0.0] * 20 + [1.0] * 5, [1.0] * 30)
    model(runs, "after", [0.0] * 25, [1.0] * 30)
    report = report_of([str(runs / "bad"), str(runs / "after")], start="bad")
    assert report.groups[0].score("after", "remem_forget1", "em").gate == "not memorised"
    text = markdown_of(report, "t")
    assert "| after | 0.0 † (0.0" in text and "Gate: NOT passed" in text
    console = Console(width=160, file=io.StringIO())
    for table in tables(report, 160):
        console.print(table)
    assert "0.0 †" in console.file.getvalue() and "NOT passed" in console.file.getvalue()


def test_without_a_start_nothing_is_left_over_and_the_report_says_so(runs):
    report = report_of([str(runs / "idk")])
    score = report.groups[0].score("idk", "remem_forget1", "em")
    assert score.remaining is None and score.gate == "not asked"
    assert report.notes[:2] == [
        "No gold model among the runs: no distances to it",
        "No starting model among the runs: the gate was not asked",
    ]


def test_gold_and_start_may_be_given_as_paths_beside_the_runs(runs):
    report = report_of([str(runs / "idk")], gold=str(runs / "gold"), start=str(runs / "start"))
    found = report.groups[0]
    assert (found.gold.name, found.start.name, len(found.group.runs)) == ("gold", "start", 3)


def test_seeds_are_mean_and_sd(tmp_path):
    for name, em in (("a", [1.0, 0.0, 0.0, 0.0]), ("b", [1.0, 1.0, 1.0, 0.0])):
        model(tmp_path, name, em, [1.0])
    found = report_of([f"npo={tmp_path / 'a'}", f"npo={tmp_path / 'b'}"]).groups[0]
    mean, sd, seeds = found.seeds["npo", "remem_forget1", "em"]
    assert (mean, seeds) == (0.5, 2) and sd == pytest.approx(0.125**0.5)  # (0.25² + 0.25²) / 1
    assert "| npo | forget1 | em | 0.500 ± 0.354 | 2 |" in markdown_of(
        report_of([f"npo={tmp_path / 'a'}", f"npo={tmp_path / 'b'}"]), "t"
    )


def test_other_settings_are_shown_apart_and_said(runs):
    model(runs, "other", [0.0] * 5, [1.0] * 30, suite={**SUITE, "rollouts": 128})
    report = report_of([str(runs)], gold="gold", start="start")
    assert [len(found.group.runs) for found in report.groups] == [3, 1]
    assert any(
        "Shown apart as group 2 (other)" in note and "rollouts 128, not 64" in note for note in report.notes
    )
    assert not any("other" in (pair.first, pair.second) for found in report.groups for pair in found.pairs)
    assert "## Group 2" in markdown_of(report, "t")


def test_csv_has_every_score_once_and_no_formula(runs):
    model(runs, "=cmd()", [0.0] * 5, [1.0] * 30)
    report = report_of([str(runs)], gold="gold", start="start")
    lines = list(csv.DictReader(io.StringIO(csv_of(report))))
    assert len(lines) == len(report.groups[0].scores)
    keys = [(line["run"], line["task"], line["part"], line["metric"]) for line in lines]
    assert len(set(keys)) == len(keys)
    assert {line["run"] for line in lines} == {"start", "gold", "idk", "'=cmd()"}
    line = lines[keys.index(("idk", "remem_forget1", "all", "exposure"))]
    assert float(line["value"]) == 0.48 and float(line["remaining"]) == 0.5 and line["memorised_rows"] == "4"
    assert {line["part"] for line in lines} >= {"all", "1-hop", "attribute city"}


def test_markdown_keeps_names_as_text(tmp_path):
    model(tmp_path, "<img src=x>|a|_b_", [0.0], [1.0])
    text = markdown_of(report_of([str(tmp_path)]), "<b>title</b>")
    assert "\\<img src=x\\>\\|a\\|\\_b\\_" in text and "<b>" not in text


def test_test_rows_are_told_by_target(tmp_path):
    rows = [row(i, "test", em=float(i < 3), exposure=0.5, forgotten=i < 2) for i in range(6)]
    write_run(tmp_path / "a", {"test": rows})
    found = report_of([str(tmp_path)]).groups[0]
    assert found.score("a", "remem_test", "em", FORGOTTEN).value == 1
    assert found.score("a", "remem_test", "em", KEPT).value == 0.25


def test_bits_of_a_part_have_an_interval_that_holds_them(tmp_path):
    """They are no shares: Wilson's interval ends at 1."""
    bits = [2.0, 5.0, 26.0, 3.0, 3.0, 3.0]
    rows = [
        row(i, "test", em=0.5, bits=value, forgotten=i < 3) | {"remem_secret_bits": value}
        for i, value in enumerate(bits)
    ]
    write_run(tmp_path / "a", {"test": rows})
    found = report_of([str(tmp_path)]).groups[0]
    told = [score for score in found.scores if score.metric == "secret_bits"]
    parts = {score.part: score for score in told}
    assert parts[FORGOTTEN].value == pytest.approx(11.0) and parts[FORGOTTEN].low < 11 < parts[FORGOTTEN].high
    assert (parts[KEPT].low, parts[KEPT].value, parts[KEPT].high) == (3.0, 3.0, 3.0)


def test_the_command_writes_all_four_and_names_the_page(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "report"
    with pytest.raises(SystemExit) as ended:
        main(["report", str(runs), "--out", str(out), "--gold", "gold", "--start", "start"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and f"the report: {out / 'report.html'}" in said
    assert sorted(file.name for file in out.iterdir()) == ["report.html", "report.md", "results.csv"]
    assert "forget1" in said and "idk" in said and "…" not in said.split("Gate")[0]
    with pytest.raises(SystemExit) as ended:
        main(["report", str(runs), "--out", str(out), "--gold", "nobody"])
    assert ended.value.code == 1 and "'nobody' is none of the runs" in capsys.readouterr().err


def test_only_what_cannot_be_read_is_refused(runs):
    file = next((runs / "idk").rglob("*_results.json"))
    raw = json.loads(file.read_text())
    raw["n-samples"]["remem_retain"]["effective"] = 31
    file.write_text(json.dumps(raw))
    with pytest.raises(RememError, match="its numbers are not those that the run wrote"):
        report_of([str(runs)])
    del raw[KEY]  # as of an earlier version
    file.write_text(json.dumps(raw))
    with pytest.raises(RememError, match="holds 30 rows, the results file 31"):
        report_of([str(runs)])


def test_every_column_of_a_set_that_was_not_memorised_is_marked(tmp_path):
    for name, em in (("start", 0.0), ("after", 0.0), ("gold", 0.0)):
        tasks = {
            "forget1": [row(i, em=float(i == 0 and name == "start"), exposure=em) for i in range(30)],
            "test": [
                row(i, "test", em=float(i >= 15), exposure=float(i >= 15), forgotten=i < 15)
                for i in range(30)
            ],
        }
        write_run(tmp_path / name, tasks, name)
    report = report_of([str(tmp_path)], gold="gold", start="start")
    found = report.groups[0]
    assert found.score("after", "remem_test", "em", FORGOTTEN).gate == "not memorised"
    assert found.score("after", "remem_test", "em", KEPT).gate != "not memorised"
    line = next(line for line in markdown_of(report, "t").splitlines() if line.startswith("| after |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # forget1 EM, refused, coverage, MEMO, exposure; test forgotten EM, exposure; test kept EM; EM left, exposure left (none); KS
    assert ["†" in cell for cell in cells[1:]] == [True] * 7 + [False, True, False, True]
    assert cells[9] == "0.0 †" and cells[10] == "-"


def test_a_fall_that_is_refusals_is_told_so(tmp_path):
    for name, replies in (
        ("start", ["Oslo Bay"] * 30),
        ("idk", ["I don't know."] * 28 + ["Bergen", "Oslo Bay"]),
        ("half", ["I don't know."] * 20 + ["Bergen"] * 10),
        ("npo", ["Bergen"] * 30),
    ):
        rows = [
            row(i, em=float(reply == "Oslo Bay"), exposure=1.0, reply=reply)
            for i, reply in enumerate(replies)
        ]
        write_run(tmp_path / name, {"forget1": rows}, name)
    report = report_of([str(tmp_path)], start="start")
    told = [note for note in report.notes if "refus" in note]
    assert (
        "idk, remem_forget1: the fall of EM is refusals (28 of the 29 rows that are no longer answered)"
        in "".join(told)
    )
    assert any(
        "half, remem_forget1: 20 of the 30 rows that are no longer answered are refused" in note
        for note in told
    )
    assert not any(note.startswith("npo") for note in told)
    text = markdown_of(report, "t")
    assert "forget1 refused" in text and "forget1 coverage" in text
    found = report.groups[0]
    assert found.score("idk", "remem_forget1", "refusal_rate").value == pytest.approx(28 / 30)
    assert found.score("idk", "remem_forget1", "coverage").value == pytest.approx(2 / 30)


def test_a_mean_over_fewer_rows_says_so_beside_the_number(tmp_path):
    rows = [row(i, exposure=0.5) for i in range(20)]
    for one in rows[12:]:
        del one["remem_exposure"]
    write_run(tmp_path / "a", {"forget1": rows})
    report = report_of([str(tmp_path)])
    score = report.groups[0].score("a", "remem_forget1", "exposure")
    assert (score.rows, score.of, score.short) == (12, 20, "12 of 20 rows")
    assert "12 of 20 rows" in markdown_of(report, "t")
    assert report.groups[0].score("a", "remem_forget1", "em").short == ""
