"""The record of a training, as others read it: a run whose process is gone is none that runs."""

import json
import multiprocessing
import os
import signal

import pytest

from remem_tasks.errors import RememError
from remem_tasks.files import is_held, lock
from remem_tasks.run_record import GONE, read_record, unfinished


def recorded(folder, **record):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_no_record(tmp_path):
    assert read_record(tmp_path) == read_record(tmp_path / "nowhere") == {}
    assert unfinished({}) == ""


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted", None, 3])
def test_a_run_at_its_end_is_told_as_it_stands(tmp_path, status):
    record = {"status": status, "stopped": "max_steps reached", "steps": 8}
    assert read_record(recorded(tmp_path / "run", **record)) == record


def test_a_run_at_work_is_running_and_one_that_is_gone_is_not(tmp_path):
    folder = recorded(tmp_path / "run", status="running", steps=3)
    with lock(folder):
        assert is_held(folder) and not is_held(folder, by_others=True)
        assert read_record(folder)["status"] == "running"
        assert unfinished(read_record(folder)) == "its training is running"
        # The same process, about to go on with it: what ran before is at an end.
        assert read_record(folder, ours=True)["status"] == "interrupted"
    assert not is_held(folder) and not list(tmp_path.glob(".*"))
    assert read_record(folder) == {"status": "interrupted", "stopped": GONE, "steps": 3}
    assert unfinished(read_record(folder)) == f"its training was interrupted ({GONE})"
    assert json.loads((folder / "run.json").read_text())["status"] == "running", "a reader writes nothing"


def _hold(folder, ready):
    with lock(folder):
        ready.set()
        signal.pause()


@pytest.mark.slow
def test_kill_minus_nine_is_noticed(tmp_path):
    folder = recorded(tmp_path / "run", status="running")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(folder, ready))
    process.start()
    assert ready.wait(60)
    assert read_record(folder)["status"] == read_record(folder, ours=True)["status"] == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / ".run.lock").exists(), "the file of the lock stays behind"
    assert read_record(folder)["stopped"] == GONE
    with lock(folder):  # and does not stand in the way
        pass


@pytest.mark.parametrize("name", ["identity", "arguments", "data", "gate"])
@pytest.mark.parametrize("value", [[], "x", 3, True])
def test_a_part_of_another_kind_is_refused(tmp_path, name, value):
    folder = recorded(tmp_path / "run", status="finished", **{name: value})
    with pytest.raises(RememError, match=f"run.json': '{name}' is a "):
        read_record(folder)
    assert read_record(recorded(folder, **{name: None})) == {name: None}
