"""Fixtures of the harness side: data, tiny models, the command line in this process."""

from __future__ import annotations

import os

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pytest
from support.tasks_alone import own_tasks_alone

from remem_tasks.harness import command
from remem_tasks.harness.remem_hf import RememHF


@pytest.fixture
def remem_data(data_dir, monkeypatch):
    """REMEM_DATA set to the small data set; begun answers go on for 16 tokens, as a model at random never ends one."""
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    if "REMEM_MEMO_TOKENS" not in os.environ:
        monkeypatch.setenv("REMEM_MEMO_TOKENS", "16")
    return data_dir


@pytest.fixture
def tiny(checkpoints):
    """tiny(arch, **arguments) -> a RememHF on the CPU. (The harness deletes a model's weights after a run.)"""
    return lambda arch="llava", **arguments: RememHF(str(checkpoints[arch]), device="cpu", **arguments)


@pytest.fixture
def command_line(monkeypatch, capfd):
    """command_line("--model x …") -> (status, stdout, stderr) of our script, in this process."""

    def call(line: str):
        monkeypatch.setattr("sys.argv", ["lmms_eval", *line.split()])
        capfd.readouterr()
        status = command.run_lmms_eval()
        said = capfd.readouterr()
        return status, said.out, said.err

    with own_tasks_alone():
        yield call
