"""Commands end with what started them, and a command ends on SIGTERM as on Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest

from remem_tasks import processes
from remem_tasks.cli import models
from remem_tasks.errors import RememError, Terminated, exit_on_error


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{number}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


def test_the_status_of_a_command(tmp_path):
    assert processes.run(["sh", "-c", "exit 7"], os.environ) == 7
    with (tmp_path / "log").open("w") as log:
        assert processes.run(["sh", "-c", "echo $WORD"], {"WORD": "heron"}, log) == 0
    assert (tmp_path / "log").read_text() == "heron\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
@pytest.mark.parametrize("way", ["run", "remem train"])
def test_what_a_launcher_started_ends_too(way, tmp_path, monkeypatch):
    """A shell that starts a sleeper and waits, as a launcher does; the wait is interrupted."""
    command = ["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"]
    monkeypatch.setattr(processes, "PATIENCE", 5.0)

    def interrupted(self, timeout=None):
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
        monkeypatch.undo()
        raise Terminated

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(Terminated), pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "launch_command", lambda argv: command)
        processes.run(command, os.environ) if way == "run" else models.train([])
    deadline = time.time() + 5
    sleeper = int((tmp_path / "pid").read_text())
    while _alive(sleeper) and time.time() < deadline:
        time.sleep(0.01)
    assert not _alive(sleeper)


def _raises(error: BaseException):
    def main():
        raise error

    return main


def test_statuses(capsys):
    before = signal.getsignal(signal.SIGTERM)

    def told() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return 0

    for main, status, line in (
        (lambda: None, 0, ""),
        (lambda: 4, 4, ""),
        (_raises(RememError("row 3")), 1, "p: error: row 3\n"),
        (_raises(KeyboardInterrupt()), 130, "p: interrupted\n"),
        (told, 143, "p: terminated\n"),
    ):
        assert exit_on_error(main, "p") == status
        assert capsys.readouterr().err == line
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_sigterm_of_a_command(tmp_path):
    """One line and status 143, and nothing under the output's own name."""
    out = tmp_path / "data"
    argv = [sys.executable, "-c", "from remem_tasks.cli import main; main()", "forge", "--out", str(out)]
    argv += ["--identities", "40", "--qa", "100", "--images", "100"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.time() + 120
    while not list(tmp_path.glob("data.partial/parts/*")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err.splitlines()[-1] == "remem forge: terminated"
    assert "Traceback" not in err and not out.exists()
