"""Fixtures of the fault campaign, and the table of how its faults ended."""

from __future__ import annotations

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
from frame import ENDS, World, tally
from support.chats import TEXTS, lively

from remem_tasks.checkpoints import save
from remem_tasks.tiny.build import build


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A checkpoint (about 0.3 M parameters) that says something else of each row."""
    folder = tmp_path_factory.mktemp("sound")
    model, processor = build("llava", TEXTS, width=64, layers=2, vocab_size=400)
    save(lively(model), processor, folder)
    return folder


@pytest.fixture(scope="session")
def known():
    """The numbers of sound inputs, by command: measured once."""
    return {}


@pytest.fixture
def world(tmp_path, sound, data_dir, monkeypatch, capfd, known):
    return World(tmp_path, sound, data_dir, monkeypatch, capfd, known)


def pytest_terminal_summary(terminalreporter):
    """The campaign by kind: tried, right, one line, counted, silent."""
    if not tally:
        return
    write = terminalreporter.write_line
    terminalreporter.section("faults by kind")
    write(f"{'kind':<14}{'tried':>7}" + "".join(f"{end:>10}" for end in (*ENDS, "other")))
    rows = [*sorted(tally.items()), ("all", sum(tally.values(), start=type(next(iter(tally.values())))()))]
    for kind, ends in rows:
        tried = sum(ends.values())
        other = tried - sum(ends[end] for end in ENDS)
        write(f"{kind:<14}{tried:>7}" + "".join(f"{ends[end]:>10}" for end in ENDS) + f"{other:>10}")
