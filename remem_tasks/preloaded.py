"""Our commands in forks of one process that has loaded the libraries: what takes each of them 10 to 25 seconds is done once.

An experiment that runs a dozen trainings and scorings spends a fifth of its time on imports. A command that `takes` says
yes to runs here with the environment, the output and the status that it has as a process of its own.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import forkserver
from typing import IO

from remem_tasks.processes import Process, start
from remem_tasks.training import find_ours, launched_here, words_of

LIBRARIES = "remem_tasks.libraries"
"""The module that loads them."""


def takes(command: Sequence[str]) -> bool:
    """Whether a command can run in a fork: a scoring, an attack, a training in one process on a CPU.

    >>> from remem_tasks.training import program
    >>> takes([*program("remem"), "train", "--accelerate", "cpu", "--method", "npo"])
    True
    >>> takes([*program("remem"), "train", "--accelerate", "fsdp2"]), takes([*program("remem"), "forge"]), takes(["sh"])
    (False, False, False)
    """
    if sys.platform != "linux" or (found := words_of(command)) is None:
        return False
    name, words = found
    if words[:1] == ["train"]:
        return words[1:3] == ["--accelerate", "cpu"] and "--num_processes" not in words
    return name == "lmms_eval" or words[:1] == ["attack"]


@contextmanager
def libraries(environment: Mapping[str, str]) -> Iterator[None]:
    """`load`, and `unload` when the block is left."""
    load(environment)
    try:
        yield
    finally:
        unload()


def load(environment: Mapping[str, str]) -> None:
    """Begin to load the libraries, in a process that ends with this one. Idempotent.

    Args:
        environment: what libraries read when they are loaded is read from this one.
    """
    forkserver.set_forkserver_preload([LIBRARIES])
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(
        {**environment, "PYTHONSAFEPATH": "1"}
    )  # what lies in this folder is none of the libraries
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def unload() -> None:
    """End the process that loaded them; forks that run are not asked."""
    with suppress(AttributeError):  # (Python has no public way)
        forkserver._forkserver._stop()  # type: ignore[attr-defined]


def _run(command: Sequence[str], environment: Mapping[str, str], output: str) -> None:
    """In the fork: become the command."""
    os.setsid()
    atexit._clear()  # type: ignore[attr-defined]  # what is to be done when the process that loaded ends
    with open(output, "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    name, words = words_of(command) or ("", [])
    sys.argv = [name, *words]
    find_ours()
    main: Callable[[], int | None]
    if words[:1] == ["train"]:
        sys.argv, set_by_launcher = launched_here(words[1:])
        os.environ.update(set_by_launcher)
        main = import_module("unlearning.train").main
    else:
        main = getattr(import_module("remem_tasks.cli"), {"remem": "main"}.get(name, name))
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
        import torch

        torch.set_num_threads(int(threads))  # the variable was read before the fork
    try:
        sys.exit(main())
    finally:
        atexit._run_exitfuncs()  # type: ignore[attr-defined]  # (a fork of multiprocessing ends without)


class Forked:
    """A command in a fork, with what `processes` asks a `subprocess.Popen` for.

    Its start waits until the libraries are loaded, aside; where there is nothing to fork from, a process of its own is
    started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], output: IO[str]) -> None:
        self._arguments = list(command), dict(environment), output.name
        self._process: multiprocessing.process.BaseProcess | subprocess.Popen | None = None
        self._starting = threading.Thread(target=self._start, daemon=True)
        self._starting.start()

    def _start(self) -> None:
        command, environment, output = self._arguments
        process = multiprocessing.get_context("forkserver").Process(target=_run, args=self._arguments)
        try:
            process.start()
            self._process = process
        except (OSError, EOFError):
            with open(output, "a", encoding="utf-8") as log:
                self._process = start(command, environment, log)

    @property
    def pid(self) -> int:
        """Of the process and its group; waits until there is one."""
        self._starting.join()
        if self._process is None or self._process.pid is None:
            raise ProcessLookupError
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self._starting.is_alive():
            return None
        if self._process is None:
            return 1
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def wait(self) -> int:
        self._starting.join()
        if isinstance(self._process, subprocess.Popen):
            return self._process.wait()
        if self._process is None:
            return 1
        self._process.join()
        return self._process.exitcode or 0


def begin(command: Sequence[str], environment: Mapping[str, str], output: IO[str]) -> Process:
    """Start a command: in a fork where `takes` says so, else as a process of its own; `output` as in `processes.run`."""
    return (Forked if takes(command) else start)(command, environment, output)
