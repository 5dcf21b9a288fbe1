"""Commands that this package starts: they end with it, and so does all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Protocol, Self


class Process(Protocol):
    """What is asked of a process here: as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...


PATIENCE = 10.0
"""Seconds that a command has to end by itself once it was told to."""


def _signal(process: Process, sign: int) -> bool:
    """Send a signal (0: none) to a process and its group; whether any of them runs."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, sign)
        return True
    if process.poll() is not None:
        return False
    with suppress(ProcessLookupError):  # (a fork has its group a moment after its start)
        os.kill(process.pid, sign)
    return True


def _end(processes: Sequence[Process]) -> None:
    """Tell processes and all of their groups to end; what has not within PATIENCE is killed."""
    deadline = time.monotonic() + PATIENCE
    for sign, until in ((signal.SIGTERM, deadline), (signal.SIGKILL, deadline + PATIENCE)):
        for process in processes:
            _signal(process, sign)
        while time.monotonic() < until:
            for process in processes:
                process.poll()
            if not any(_signal(process, 0) for process in processes):
                break
            time.sleep(0.05)
    for process in processes:
        process.wait()


def start(command: Sequence[str], environment: Mapping[str, str], output: IO[str] | None) -> subprocess.Popen:
    return subprocess.Popen(
        command, env=dict(environment), stdout=output, stderr=output, start_new_session=True
    )


def run(command: Sequence[str], environment: Mapping[str, str], output: IO[str] | None = None) -> int:
    """The exit status of a command (negative: the signal that ended it).

    It runs in a process group of its own. Whatever is raised here while it runs, Ctrl-C and SIGTERM too,
    first ends the whole group, so that no training goes on behind a launcher.

    Args:
        output: where stdout and stderr go; None: to ours.
    """
    process = start(command, environment, output)
    try:
        return process.wait()
    except BaseException:
        _end([process])
        raise


class Together:
    """Commands that run side by side, as `run` runs one; leaving the block ends those that still run."""

    def __init__(self) -> None:
        self._processes: dict[str, tuple[Process, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._processes:
            _end([process for process, _ in self._processes.values()])

    @property
    def running(self) -> list[str]:
        """The names of those that `ended` has not told yet."""
        return list(self._processes)

    def add(self, name: str, process: Process) -> None:
        """A process that was started, by `start` or otherwise, in a group of its own."""
        self._processes[name] = process, time.monotonic()

    def seconds(self, name: str) -> float:
        """Since its start."""
        return time.monotonic() - self._processes[name][1]

    def ended(self) -> list[tuple[str, int, float]]:
        """Name, exit status and seconds of those that ended since this was last asked."""
        gone = [
            (name, status, self.seconds(name))
            for name, (process, _) in self._processes.items()
            if (status := process.poll()) is not None
        ]
        for name, _, _ in gone:
            del self._processes[name]
        return gone
