"""Pieces of work for processes that a test hands them to."""

import os
import signal
from pathlib import Path

import torch

from remem_tasks.errors import RememError


def double(number):
    if number < 0:
        raise RememError("a number below 0")
    return {"number": number, "twice": 2 * number}


def of_process(number, folder):
    """Its process, threads and environment; the first try of 0 is killed."""
    if number == 0 and not (killed := Path(folder) / "killed").exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    told = {"process": os.getpid(), "threads": torch.get_num_threads(), "word": os.environ.get("HANDED")}
    return {**told, "twice": 2 * number}
