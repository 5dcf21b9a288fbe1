"""Gate, report and training read CLEAR's and MLLMU-Bench's results: what a row is, what stands for EM."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from support.browser import CHROMIUM, Browser
from support.made import SUITE, row, write_run
from support.scripted import Scripted, run

from remem_tasks.benchmarks.clear import forge as clear_forge
from remem_tasks.benchmarks.mllmu import forge as mllmu_forge
from remem_tasks.benchmarks.view import RATES
from remem_tasks.benchmarks.views import VIEWS
from remem_tasks.errors import RememError
from remem_tasks.evaluate import save
from remem_tasks.render.gate import table_of
from remem_tasks.render.text import write_report
from remem_tasks.report.gate import gate_of
from remem_tasks.report.leaderboard import check_entry, entries_of
from remem_tasks.report.leaderboard import table_of as board_of
from remem_tasks.report.runs import read_runs
from remem_tasks.report.summary import report_of
from remem_tasks.report.verdict import MEMORISED, NOT_MEMORISED, Kind, Part
from unlearning import preflight as gate
from unlearning.data import load_rows

CLEAR = ["clear_forget10", "clear_retain90"]
MLLMU = ["mllmu_forget_5", "mllmu_test_5"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{benchmark: forged data}."""
    found = {name: tmp_path_factory.mktemp(name) / "data" for name in ("clear", "mllmu")}
    clear_forge.forge(
        found["clear"],
        clear_forge.ForgeOptions(identities=16, images=6, qa=2, real=2, world=2, image_size=32),
    )
    mllmu_forge.forge(
        found["mllmu"], mllmu_forge.ForgeOptions(identities=10, images=2, qa=6, real=2, image_size=32)
    )
    return found


@pytest.fixture
def scored(folders, tmp_path, monkeypatch):
    """(name, tasks, reply) → the folder that a scripted model's results are in."""
    monkeypatch.setenv("REMEM_CLEAR_DATA", str(folders["clear"]))
    monkeypatch.setenv("REMEM_MLLMU_DATA", str(folders["mllmu"]))

    def write(name, tasks, reply):
        save(run(Scripted(reply), tasks), tmp_path / "results" / name, f"models/{name}")
        return tmp_path / "results" / name

    return write


def knows(*kinds):
    """A reply that is right for questions of these kinds and says nothing of use to others."""

    def reply(row):
        if row["kind"] not in kinds:
            return "No."
        return row.get("letter") or row["answer"]

    return reply


def test_clear_is_read_by_kind(scored):
    (one,) = read_runs([str(scored("a", CLEAR, knows("caption")))])
    task_result = one.task_results["clear_forget10"]
    kinds = np.array([row.attribute for row in task_result.rows])
    assert task_result.main == "rouge" and set(kinds) == {"caption", "name"}
    assert (task_result.scores["rouge"] == (kinds == "caption")).all()
    assert task_result.mean("rouge", kinds == "caption") == task_result.means["clear_caption_rouge"] == 1
    assert (task_result.trained == (kinds == "caption")).all()
    assert all(row.forgotten and row.identity and row.hop == 0 for row in task_result.rows)
    assert not any(row.forgotten for row in one.task_results["clear_retain90"].rows)
    assert set(task_result.metrics) == {"rouge"} and set(task_result.scores) - {"rouge"} <= set(RATES)


def test_mllmu_is_read_by_kind_and_modality(scored):
    (one,) = read_runs([str(scored("a", MLLMU, knows("classification", "cloze")))])
    task_result = one.task_results["mllmu_forget_5"]
    kinds = np.array([row.attribute.split(", ")[0] for row in task_result.rows])
    assert {row.attribute.split(", ")[1] for row in task_result.rows} == {"image", "text"}
    right = np.isin(kinds, ["classification", "cloze"])
    assert task_result.main == "answered" and (task_result.scores["answered"][right] == 1).all()
    said = task_result.scores["rougel"][~right]
    assert (task_result.scores["answered"][~right] == said).all() and (said < 0.2).all()
    assert np.isnan(task_result.scores["accuracy"][kinds != "classification"]).all()
    assert all(
        row.forgotten for row in one.task_results["mllmu_test_5"].rows
    )  # other pictures of the same people


def test_the_gate_asks_what_training_asked(scored):
    """Captions are trained on and names are not; of MLLMU-Bench the questions for a sentence are."""
    verdict = gate_of(scored("knows", CLEAR, knows("caption")))
    assert verdict.passed and verdict.cell("clear_forget10").verdict == MEMORISED
    name = verdict.cell("clear_forget10", Part(Kind.ATTRIBUTE, "name"))
    assert name.verdict == NOT_MEMORISED and not name.counts
    assert all(" visual was not measured" in line for line in verdict.missing)
    assert "rouge ≥ 80" in str(table_of(verdict).columns[2].header)
    under = gate_of(scored("under", CLEAR, lambda row: row["answer"].split()[0]))
    assert not under.passed and under.reasons[0].startswith("clear_forget10, all: not memorised: rouge 0.")
    assert gate_of(scored("says", ["mllmu_retain_95"], knows("generation"))).passed
    other = gate_of(scored("fills", ["mllmu_retain_95"], knows("classification", "cloze")))
    assert not other.passed and "answered 0.0" in other.reasons[0]
    with pytest.raises(RememError, match="needs a set that was trained on"):
        gate_of(scored("test", ["mllmu_test_5"], knows("generation")))


def test_training_asks_the_gate_of_clear(scored, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "knows").mkdir(parents=True)
    rows = load_rows(str(folders["clear"]), "pairs", "forget10")
    results = str(scored("knows", CLEAR, knows("caption")))
    asked = gate.ask(results, "models/knows", "forget10", rows, go_on=False)
    assert asked["passed"] and not asked["overridden"]
    with pytest.raises(RememError, match="'forget05', which is to be forgotten, was not scored"):
        gate.ask(results, "models/knows", "forget05", rows, go_on=False)
    with pytest.raises(RememError, match="--tasks clear_forget10,clear_retain90 --log_samples"):
        gate.ask(None, "models/knows", "forget10", rows, go_on=False)
    mllmu = load_rows(str(folders["mllmu"]), "pairs", "forget_5")
    with pytest.raises(RememError, match="--tasks mllmu_forget_5,mllmu_retain_95 --log_samples"):
        gate.ask(None, "models/knows", "forget_5", mllmu, go_on=False)
    other = replace(rows, forget=rows.forget.map(lambda row: {"answer": row["answer"] + " Too."}))
    with pytest.raises(RememError, match="are of other data: row forget10:"):
        gate.ask(results, "models/knows", "forget10", other, go_on=False)


def test_a_report_over_all_three(scored, tmp_path):
    """Tables, CSV, pictures and page of a model that was scored on two benchmarks, beside its start."""
    tasks = [*CLEAR, *MLLMU]
    scored("start", tasks, knows("caption", "name", "generation", "cloze", "classification"))
    scored("after", tasks, knows("classification"))
    report = report_of([str(tmp_path / "results")], start="start")
    (found,) = report.groups
    cells = {cell.task: cell.verdict for cell in found.verdict.cells if str(cell.part) == "all"}
    assert found.verdict.passed and cells["clear_forget10"] == cells["mllmu_forget_5"] == MEMORISED
    page = write_report(report, tmp_path / "report")
    with (tmp_path / "report" / "results.csv").open() as file:
        lines = {(one["run"], one["task"], one["part"], one["metric"]): one for one in csv.DictReader(file)}
    left = lines["after", "mllmu_forget_5", "all", "answered"]
    assert left["remaining"] == left["value"]  # (the start was right everywhere)
    kept = lines["after", "mllmu_forget_5", "attribute classification, image", "answered"]
    assert kept["value"] == "1" and float(left["value"]) < 0.6
    assert lines["start", "clear_forget10", "attribute caption", "rouge"]["gate"] == MEMORISED
    assert not any("left out" in note for note in report.notes)
    text = page.read_text()
    assert 'id="pictures"' in text
    entries = [check_entry(one, "entry") for one in entries_of(report)]
    assert [entry["name"] for entry in entries] == ["after"]
    heads = [str(column.header) for column in board_of(entries).columns]
    assert "forget ROUGE-L recall" in heads


@pytest.mark.skipif(not CHROMIUM, reason="no browser here")
def test_the_page_of_clear_in_a_browser(scored, tmp_path):
    scored("start", CLEAR, knows("caption", "name"))
    scored("after", CLEAR, knows("name"))
    page = write_report(report_of([str(tmp_path / "results")], start="start"), tmp_path / "report")
    with Browser() as browser:
        browser.open(str(page))
        heads = browser.run("[...document.querySelectorAll('#summarytable th')].map(e => e.textContent)")
        assert "ROUGE-L recall" in heads and "EM" not in heads
        browser.run("document.getElementById('rows').scrollIntoView()")
        browser.until("document.querySelectorAll('#list tr.item').length > 0")
        marks = browser.run(
            "[...document.querySelectorAll('#list tr.item')[0].querySelectorAll('td.c')].map(e => e.textContent)"
        )
        assert marks == ["✓100", "✗0"]  # start, after: a caption
        browser.until("document.querySelectorAll('#list tr.item img').length > 0")
        assert not browser.run("document.body.textContent.includes('no hop ·')")


def test_what_no_reading_is_known_of_is_left_out_by_name(tmp_path):
    file = write_run(tmp_path, {"forget1": [row(0)]}, sealed=False)
    file.write_text(file.read_text().replace("remem_rows", "other_rows"))
    with pytest.raises(RememError, match="which are of no benchmark that reports read"):
        read_runs([str(tmp_path)])


def test_names_of_scores():
    clear, mllmu, remem = (VIEWS[name] for name in ("clear", "mllmu", "remem"))
    name = {"kind": "name"}
    assert clear.score_name("clear_name_prob", name) == "prob"
    assert clear.score_name("clear_blank_rate", name) == "blank_rate"
    assert clear.score_name("clear_rows", name) is clear.score_name("mllmu_x", name) is None
    blank = {"kind": "cloze", "modality": "image"}
    assert mllmu.score_name("mllmu_image_cloze", blank) == "cloze" and mllmu.kind_of(blank) == "cloze, image"
    assert remem.score_name("remem_2hop_em", {}) is None and remem.score_name("remem_em", {}) == "em"
    # One main score names the column of all rows; of several, each row has the first that it has.
    assert (remem.main, remem.column) == (("em",), "em")
    assert len(mllmu.main) > 1 and mllmu.column == "answered" and clear.column == "rouge"
    assert all(one.column in (*one.main, "answered") for one in VIEWS.values())
    assert "shots" not in SUITE  # results from before an option count as its default
