"""The ledger of long experiments: what is done is skipped, what failed is tried again, what differs is refused."""

import json

import pytest

from remem_tasks.errors import RememError
from unlearning.experiments.ledger import Ledger


def test_work_is_done_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"value": (1, 2)}

    first = Ledger(tmp_path / "out", "sweep", {"seed": 0}).measured("a/b", make)
    again = Ledger(tmp_path / "out", "sweep", {"seed": 0}).measured("a/b", make)
    # both are as they are read back: JSON has lists and no tuples
    assert (first, again, len(calls)) == (({"value": [1, 2]}, False), ({"value": [1, 2]}, True), 1)


def test_what_failed_is_tried_again(tmp_path):
    outcomes = iter(["failed", "done"])
    ledger = Ledger(tmp_path, "sweep", {}, failed=lambda record: record["outcome"] == "failed")
    found = [ledger.measured("run", lambda: {"outcome": next(outcomes)}) for _ in range(3)]
    assert [(record["outcome"], before) for record, before in found] == [
        ("failed", False),
        ("done", False),
        ("done", True),
    ]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1, "rows": "x"}, "holds a sweep with seed 0, not 1"),
        ({"seed": 0}, "holds a sweep with rows 'x', not None"),
        ({"seed": 0, "rows": "x", "new": 2}, "holds a sweep with new None, not 2"),
    ],
)
def test_another_experiment_is_refused(tmp_path, other, said):
    Ledger(tmp_path, "sweep", {"seed": 0, "rows": "x"})
    with pytest.raises(RememError, match=said):
        Ledger(tmp_path, "sweep", other)
    assert json.loads((tmp_path / "sweep.json").read_text()) == {"seed": 0, "rows": "x"}


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RememError, match="is not empty and holds no study"):
        Ledger(tmp_path, "study", {})
    with pytest.raises(RememError, match="is not empty and holds no study"):
        Ledger(tmp_path / "notes.txt", "study", {})


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_a_cut_record_is_named(tmp_path, text):
    ledger = Ledger(tmp_path, "study", {})
    ledger.file("cell").write_text(text)
    with pytest.raises(RememError, match=r"cell\.json.*remove it, and its work is done again"):
        ledger.measured("cell", dict)
