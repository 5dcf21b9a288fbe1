"""Commands that this package starts: they end with it, and so does all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO

PATIENCE = 10.0
"""Seconds that a command has to end by itself once it was told to."""


def _running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end(process: subprocess.Popen) -> None:
    """Tell a process and all of its group to end; what has not within PATIENCE is killed."""
    deadline = time.monotonic() + PATIENCE
    try:
        os.killpg(process.pid, signal.SIGTERM)
        while _running(process.pid) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.05)
        if _running(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run(command: Sequence[str], environment: Mapping[str, str], output: IO[str] | None = None) -> int:
    """The exit status of a command (negative: the signal that ended it).

    It runs in a process group of its own. Whatever is raised here while it runs, Ctrl-C and SIGTERM too,
    first ends the whole group, so that no training goes on behind a launcher.

    Args:
        output: where stdout and stderr go; None: to ours.
    """
    process = subprocess.Popen(
        command, env=dict(environment), stdout=output, stderr=output, start_new_session=True
    )
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise
