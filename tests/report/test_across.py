"""Runs of two benchmarks in one report: gold and start of each group, and one table over both."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from support.made import model, row, write_run

from remem_tasks.errors import RememError
from remem_tasks.render.html import page_of
from remem_tasks.render.text import csv_of, markdown_of, tables
from remem_tasks.report.across import HEADS, across
from remem_tasks.report.summary import report_of


def method_of(folder: Path, checkpoint: Path, method: str) -> None:
    """Give a run a checkpoint whose record says how it was trained."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "run.json").write_text(json.dumps({"method": method, "status": "finished"}))
    (file,) = folder.rglob("*_results.json")
    raw = json.loads(file.read_text())
    raw["config"]["model_args"] = f"pretrained={checkpoint},device=cpu"
    file.write_text(json.dumps(raw))


def fiubench(folder: Path, name: str, forget: list[float], ks: float | None = None) -> Path:
    """A run of FIUBench: a made one under its names, with the log p of a KS test where one is given."""
    tasks = {"forget1": [row(i, em=one, exposure=one) for i, one in enumerate(forget)]}
    tasks["retain"] = [
        row(i, "retain", em=1.0, exposure=1.0, identity="ben", forgotten=False) for i in range(4)
    ]
    write_run(folder / name, tasks, f"models/{name}", sealed=False)
    for file in (folder / name).rglob("*.json*"):
        text = file.read_text().replace("remem_rougel", "fiubench_rouge").replace("remem_", "fiubench_")
        if ks is not None and file.suffix == ".jsonl" and "forget1" in file.name:
            text = text.replace(
                '"fiubench_blank_rate"', '"fiubench_ks_quality": {"x": 1}, "fiubench_blank_rate"'
            )
        file.with_name(file.name.replace("remem_", "fiubench_")).write_text(text)
        if "remem_" in file.name:
            file.unlink()
    if ks is not None:
        (file,) = (folder / name).rglob("*_results.json")
        raw = json.loads(file.read_text())
        raw["results"]["fiubench_forget1"]["fiubench_ks_quality,none"] = ks
        file.write_text(json.dumps(raw))
    return folder / name


@pytest.fixture
def two(tmp_path):
    """Start, gold and a model that forgot, of ReMem and of FIUBench; all but the last with a record."""
    for name, method, em in (("full", "sft", 1.0), ("gold", "gold", 0.0), ("npo", "", 0.25)):
        values = [1.0] * round(4 * em) + [0.0] * (4 - round(4 * em))
        remem = model(tmp_path, f"r_{name}", values, [1.0] * 4, sealed=False)
        other = fiubench(tmp_path, f"f_{name}", values, ks=None if method else -1.25)
        if method:
            method_of(Path(remem).parents[1], tmp_path / "models" / f"r_{name}", method)
            method_of(other, tmp_path / "models" / f"f_{name}", method)
    return [str(tmp_path / f"{kind}_{name}") for kind in "rf" for name in ("full", "gold", "npo")]


def test_each_group_has_its_own_gold_and_start(two):
    report = report_of(two)
    assert [(one.gold.name, one.start.name) for one in report.groups] == [
        ("r_gold", "r_full"),
        ("f_gold", "f_full"),
    ]
    taken = [note for note in report.notes if "is taken as" in note]
    assert len(taken) == 4 and sum("in group 2" in note for note in taken) == 2
    assert set(report.groups[1].distances) == {"f_full", "f_gold", "f_npo"}
    # one that is named belongs to its own group, and takes nothing from the other
    named = report_of(two, gold="f_npo")
    assert [one.gold.name for one in named.groups] == ["r_gold", "f_npo"]
    without = report_of([path for path in two if not path.endswith("f_gold")])
    assert without.groups[1].gold is None
    assert "No gold model among the runs of group 2: no distances to it" in without.notes
    with pytest.raises(RememError, match="'f_none' is none of the runs"):
        report_of(two, gold="f_none")


def test_one_table_over_both(two):
    report = report_of(two)
    rows = across(report)
    assert [len(row) for row in rows] == [len(HEADS)] * 2
    # forget set, model, score: start, gold, model; the same of exposure; what is kept
    assert rows[0] == [
        *("forget1", "npo", "EM", "100.0", "0.0", "25.0", "100.0", "0.0", "25.0"),
        *("retain", "100.0", "100.0", "100.0"),
    ]
    assert rows[1] == [
        *("fiubench forget1", "npo", "ROUGE-L recall", "100.0", "0.0", "25.0", "100.0", "0.0", "25.0"),
        *("fiubench retain", "100.0", "100.0", "100.0"),
    ]
    text = markdown_of(report, "t")
    assert (
        "## Across benchmarks" in text
        and "| fiubench forget1 | npo | ROUGE-L recall | 100.0 | 0.0 | 25.0 |" in text
    )
    console = Console(width=200, file=io.StringIO())
    for table in tables(report, 200):
        console.print(table)
    assert "Across benchmarks" in console.file.getvalue()
    assert page_of(report, "t", pictures=False).startswith("<!doctype html>")


def test_one_benchmark_needs_no_such_table(two):
    report = report_of(two[:3])
    assert across(report) == [] and "Across benchmarks" not in markdown_of(report, "t")


def test_a_number_that_is_no_share_is_not_told_in_per_cent(two):
    report = report_of(two[3:])
    text = markdown_of(report, "t")
    assert "| -1.25 |" in text and "-125" not in text
    lines = {(one["run"], one["metric"]): one["value"] for one in csv.DictReader(io.StringIO(csv_of(report)))}
    assert lines["f_npo", "ks_quality"] == "-1.25"
