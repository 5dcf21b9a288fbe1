"""Real servers in environments of their own: started for a test, waited for, and ended with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

ENGINES = Path(os.environ.get("REMEM_ENGINES") or Path(__file__).resolve().parents[2] / ".engines")
LONGEST_START = 300.0
"""Seconds."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def serving(command: list[str], port: int, log: Path, **environment: str):
    """(base address, process) of a server that is started, waited for, and ended with all that it started."""
    told = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=told, start_new_session=True)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1", process
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
            return


def _wait(process: subprocess.Popen, address: str, log: Path) -> None:
    until = time.monotonic() + LONGEST_START
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def show(capfd, what: str, lines: list[str]) -> None:
    """Print what the docs show of a run, past pytest's capture."""
    with capfd.disabled():
        print(f"\n{what}", *(f"  {line}" for line in lines), sep="\n")


def scores_side_by_side(names, value) -> list[str]:
    """A line a score: its name, and what `value(side, name)` gives of remem_hf (side 0) and of the engine (1)."""
    return [f"{name:24} {value(0, name):.8g}  {value(1, name):.8g}" for name in names]
