"""Fixtures of the fault campaign, and the table of how its faults ended."""

from __future__ import annotations

from collections import Counter

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
from frame import ENDS, World, examples, seconds, tally
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
    """The campaign by kind: tried, right, one line, counted, other, seconds; and how many examples were made at random."""
    write = terminalreporter.write_line
    if tally:
        terminalreporter.section("faults by kind")
        write(f"{'kind':<14}{'tried':>7}" + "".join(f"{end:>10}" for end in (*ENDS, "other", "seconds")))
        for kind, ends in [*sorted(tally.items()), ("all", sum(tally.values(), start=Counter()))]:
            tried = sum(ends.values())
            told = [*(ends[end] for end in ENDS), tried - sum(ends[end] for end in ENDS)]
            took = sum(seconds.values()) if kind == "all" else seconds[kind]
            write(f"{kind:<14}{tried:>7}" + "".join(f"{number:>10}" for number in told) + f"{took:>10.1f}")
    if examples:
        terminalreporter.section("examples made at random")
        for name, number in [*sorted(examples.items()), ("all", sum(examples.values()))]:
            write(f"{name:<24}{number:>7}")
