"""What the latest run of lmms-eval in this process asked for and loaded."""

from __future__ import annotations

asked: list[str] = []
"""The names of tasks that it was asked for, of the command line's run alone; [] where nobody said."""
tasks: list = []
"""The tasks of ours that it loaded."""
unknown: dict[str, list[str]] = {}
"""The names among its tasks that no task has, with those that are like them."""


def forget() -> None:
    """Begin another run."""
    asked.clear()
    tasks.clear()
    unknown.clear()


def last_tasks() -> list:
    """The tasks of ours that the latest run in this process loaded."""
    return list(tasks)


def our_tasks(tasks: dict) -> list:
    """Those of a task dictionary, groups and all, that are this package's."""
    from remem_tasks.harness.task import BenchmarkTask

    found = []
    for task in tasks.values():
        if isinstance(task, dict):
            found += our_tasks(task)
        elif isinstance(task, BenchmarkTask):
            found.append(task)
    return found
