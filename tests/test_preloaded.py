"""Commands in forks of a process that has loaded the libraries: output, environment, status, and their end."""

import os
import subprocess
import time

import pytest

from remem_tasks import preloaded
from remem_tasks.preloaded import Forked, takes
from remem_tasks.processes import Together
from remem_tasks.training import launched_here, program

REMEM, LMMS_EVAL = program("remem"), program("lmms_eval")


def test_which_commands_can():
    train = [*REMEM, "train"]
    assert takes([*train, "--accelerate", "cpu", "--method", "npo"])
    assert takes([*LMMS_EVAL, "--tasks", "remem"]) and takes([*REMEM, "attack", "models/npo"])
    for command in (
        [*train, "--method", "npo"],  # accelerate decides where it runs
        [*train, "--accelerate", "cpu2", "--method", "npo"],
        [*train, "--accelerate", "cpu", "--num_processes", "2"],
        [*REMEM, "forge"],
        ["sh", "-c", "true"],
        [],
    ):
        assert not takes(command)


def test_a_training_gets_what_the_launcher_gives(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    argv, environment = launched_here(["--accelerate", "cpu", "--method", "npo", "--seed", "4"])
    assert os.path.basename(argv[0]) == "train.py" and argv[1:] == ["--method", "npo", "--seed", "4"]
    wanted = {"ACCELERATE_USE_CPU": "True", "ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "3"}
    assert {name: environment[name] for name in wanted} == wanted


def _ended(group, patience=60.0):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := group.ended():
            return found[0]
        time.sleep(0.05)
    raise AssertionError("it did not end")


@pytest.fixture
def libraries(monkeypatch):
    """A process to fork from that has loaded none of the libraries."""
    monkeypatch.setattr(preloaded, "LIBRARIES", "remem_tasks.errors")
    with preloaded.libraries({**os.environ, "COLUMNS": "200"}):
        yield


def test_output_environment_and_status(libraries, tmp_path):
    """A command that fails at once: argparse's own status, and its words in the log, as wide as its own terminal."""
    command = [*REMEM, "attack", "--no-such-flag"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "COLUMNS": "70"}
    alone = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    with Together() as group, (tmp_path / "log").open("w") as log:
        group.add("a", Forked(command, environment, log))
        name, status, seconds = _ended(group)
    assert (name, status) == ("a", 2) == ("a", alone.returncode) and seconds > 0 and not group.running
    usage = alone.stderr[alone.stderr.index("usage: remem attack") :]
    assert usage.count("\n") > 5 and (tmp_path / "log").read_text().endswith(usage)


def test_leaving_the_block_ends_it(libraries, tmp_path):
    """A training whose data is a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "recipe.yaml")
    command = [*REMEM, "train", "--accelerate", "cpu", "--config", str(tmp_path / "recipe.yaml")]
    with Together() as group, (tmp_path / "log").open("w") as log:
        process = Forked(command, os.environ, log)
        group.add("a", process)
        while "starting" not in (tmp_path / "log").read_text():
            time.sleep(0.05)
        assert process.poll() is None
    assert process.poll() not in (None, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_with_nothing_to_fork_from_it_is_a_process_of_its_own(monkeypatch, tmp_path):
    def refuse(self):
        raise EOFError

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", refuse)
    with (tmp_path / "log").open("w") as log:
        process = Forked([*REMEM, "attack", "--no-such-flag"], os.environ, log)
        assert process.wait() == 2
    assert "usage: remem attack" in (tmp_path / "log").read_text() and process.poll() == 2
