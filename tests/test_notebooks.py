"""The notebooks run, cell by cell, at small size."""

import json
import os
from pathlib import Path

import pytest
from support.made import model

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"))


def code_of(book: Path) -> list[str]:
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(book: Path) -> dict:
    """Execute the code cells in one namespace; a cell that fails names itself."""
    space: dict = {}
    for number, code in enumerate(code_of(book)):
        exec(compile(code, f"{book.name}, cell {number}", "exec"), space)
    return space


def test_there_are_two_and_they_keep_no_outputs():
    assert [book.stem for book in BOOKS] == ["loop", "report"]
    for book in BOOKS:
        cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
        assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)
        assert cells[0]["cell_type"] == "markdown"


@pytest.mark.slow
def test_the_loop_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMEM_QUICK", "1")
    monkeypatch.setenv("REMEM_CACHE", "off")
    scores = run(FOLDER / "loop.ipynb")["scores"]
    assert set(scores.run) == {"memorised", "npo"} and set(scores.metric) == {"em", "exposure"}
    assert os.path.isfile("runs/notebook/npo/run.json")


def test_a_report_is_read(tmp_path, monkeypatch):
    for name, said, known in (("memorised", 1.0, 1.0), ("gold", 0.0, 0.0), ("idk", 0.0, 0.9)):
        model(tmp_path, name, [said] * 8, [1.0] * 8, exposure=[known] * 8)
    monkeypatch.setenv("REMEM_RESULTS", str(tmp_path))
    space = run(FOLDER / "report.ipynb")
    assert set(space["silent"].run) == {"idk"} and len(space["silent"]) == 8
