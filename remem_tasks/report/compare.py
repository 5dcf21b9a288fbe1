"""Which runs may stand side by side, and which is meant by a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from remem_tasks.errors import RememError
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.runs import find_runs
from remem_tasks.report.settings import unlike


@dataclass
class Group:
    """Runs that may be compared, and why they stand apart from the first group."""

    runs: list[Run] = field(default_factory=list)
    why: str = ""

    @cached_property
    def task_results(self) -> dict[str, list[tuple[Run, TaskResult]]]:
        """task → the runs that have it."""
        tasks = dict.fromkeys(task for run in self.runs for task in run.task_results)
        return {
            task: [(run, run.task_results[task]) for run in self.runs if task in run.task_results]
            for task in sorted(tasks, key=_task_order)
        }


def _task_order(task: str) -> tuple:
    kinds = ("forget", "retain", "test", "finetune")
    place = next((place for place, kind in enumerate(kinds) if kind in task), len(kinds))
    return place, task


def difference(first: TaskResult, second: TaskResult) -> str:
    """Why two sheets of one task must not be compared; empty if they may be."""
    if first.fingerprint != second.fingerprint:
        return f"other data (fingerprint {second.fingerprint or 'none'}, not {first.fingerprint or 'none'})"
    shared = first.scores.keys() & second.scores.keys()
    if why := unlike((first.suite, second.suite), (first.generation, second.generation), shared):
        return why
    if first.ids != second.ids:
        return f"other rows ({len(second.ids)}, not {len(first.ids)})"
    return ""


def _apart(group: Group, run: Run) -> str:
    shared = False
    for other in group.runs:
        for task in (name for name in other.task_results if name in run.task_results):
            shared = True
            if why := difference(other.task_results[task], run.task_results[task]):
                return f"'{run.name}' differs from '{other.name}' in {task}: {why}"
    names = ", ".join(run.task_results)
    return "" if shared else f"'{run.name}' has no task in common with '{group.runs[0].name}' ({names})"


def groups_of(runs: Iterable[Run]) -> list[Group]:
    """The runs in groups within which every shared task has the same data, rows and settings."""
    groups: list[Group] = []
    for run in runs:
        why = ""
        for group in groups:
            if not (reason := _apart(group, run)):
                group.runs.append(run)
                break
            why = why or reason
        else:
            groups.append(Group([run], why))
    return groups


def select_run(runs: Sequence[Run], wanted: str | None, role: str) -> Run | None:
    """The run that was named, or the only one whose record has the method of that role (`gold`, `sft`).

    Args:
        wanted: a run's name, or the path it was read from.

    Raises:
        RememError: no run has that name.
    """
    if wanted is None:
        fitting = [run for run in runs if run.method == role and run.step is None]
        return fitting[0] if len(fitting) == 1 else None
    paths = {file for _, _, file in find_runs([wanted])} if Path(wanted).exists() else set()
    for run in runs:
        if wanted == run.name or run.file in paths:
            return run
    raise RememError(f"'{wanted}' is none of the runs: {', '.join(run.name for run in runs)}")
