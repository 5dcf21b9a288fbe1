"""Runs: lmms-eval's results and samples files of any number of models, row by row and checked.

A half-written file, samples without row ids, a NaN or rows that are not those of the results file stop
the reading with one line. What may stand side by side but must not be compared is found by `compare.groups_of`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from remem_tasks.benchmarks.views import view_for
from remem_tasks.binding import bound_of, read_results, verify
from remem_tasks.errors import RememError
from remem_tasks.files import beside
from remem_tasks.metrics.refusal import Status
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.results import newest_results, read_scores
from remem_tasks.report.samples import ANONYMOUS, read_samples, shown
from remem_tasks.report.settings import generation_of, option_of
from remem_tasks.run_record import read_record, unfinished


def seen_from(checkpoint: Path, results: Path) -> Path:
    """A checkpoint's folder: a relative path was given in a folder above the results, and else is taken from here.

    (So that of two demos with folders of the same names each has its own, wherever a command is called.)
    """
    if checkpoint.is_absolute():
        return checkpoint
    return next(
        (found for above in results.resolve().parents if (found := above / checkpoint).is_dir()), checkpoint
    )


def _record_of(checkpoint: str, results: Path) -> tuple[dict, list[str]]:
    """The `run.json` of a checkpoint folder or of the training it is a step of, empty if there is none; what to note."""
    if not checkpoint:
        return {}, []
    folder = seen_from(Path(checkpoint), results)
    step = bool(re.fullmatch(r"checkpoint-\d+", folder.name))
    for place in (folder, folder.parent) if step else (folder,):
        try:
            record = read_record(place)
        except (RememError, OSError) as error:
            return {}, [f"the record of its training cannot be used: {error}"]
        if record:
            told = "" if step else unfinished(record)
            return record, [f"{told}; its weights may be those of an earlier run"] if told else []
    return {}, []


def read_run(file: str | Path, name: str, model: str | None = None) -> Run:
    """The run of one `*_results.json` and the samples files beside it.

    Raises:
        RememError: the results or samples are missing, half written, or do not belong together.
    """
    file = Path(file)
    means = read_scores(file)
    raw = read_results(file)
    configs, counts = raw.get("configs") or {}, raw.get("n-samples") or {}
    tasks = [task for task, values in means.items() if view_for(values) or task in counts]
    if not tasks:
        raise RememError(f"'{file}' holds no task's scores")
    stamp = file.name.removesuffix("results.json")
    task_results, notes = {}, []
    for task in tasks:
        samples = file.with_name(f"{stamp}samples_{task}.jsonl")
        benchmark_view = view_for(means[task])
        if benchmark_view is None:
            notes.append(f"task '{task}' is of no benchmark that reports read, and is left out")
            continue
        if not samples.is_file():
            raise RememError(f"'{samples}' is not there: score with --log_samples, which the report reads")
        config = configs.get(task) or {}
        rows = (counts.get(task) or {}).get("effective", means[task][benchmark_view.rows])
        if (
            isinstance(rows, bool)
            or not isinstance(rows, int | float)
            or not 1 <= rows < 2**53
            or rows != int(rows)
        ):
            raise RememError(f"'{file}': {task} has {shown(rows)} rows")
        task_result = read_samples(
            samples, task, benchmark_view, config, means[task], int(rows), generation_of(raw, task)
        )
        if unbound := verify(file, raw, task):
            notes.append(unbound)
        whole = (counts.get(task) or {}).get("original")
        if isinstance(whole, int) and whole > rows:
            notes.append(f"{task}: scored on {int(rows)} of its {whole} rows")
        notes += status_notes(task, task_result)
        if failed := task_result.means.get(f"{benchmark_view.name}_failed_rate"):
            notes.append(f"{task}: {failed:.1%} of the replies failed in the engine and score 0")
        if blank := task_result.means.get(f"{benchmark_view.name}_blank_rate"):
            notes.append(f"{task}: {blank:.1%} of the replies are blank")
        task_results[task] = task_result
    if not task_results:
        if any(name.endswith("_rows") for task in tasks for name in means[task]):
            raise RememError(
                f"'{file}' holds scores of {', '.join(tasks)}, which are of no benchmark that reports read "
                "(remem_tasks/benchmarks/*/view.py)"
            )
        raise RememError(f"'{file}': {ANONYMOUS}")
    settings = raw.get("config") or {}
    arguments = settings.get("model_args")
    checkpoint = str(
        option_of(arguments, "peft") or option_of(arguments, "pretrained") or raw.get("model_name") or ""
    )
    step = re.search(r"checkpoint-(\d+)", checkpoint) or re.search(r"checkpoint-(\d+)", name)
    if settings.get("limit"):
        notes.append(f"scored with --limit {shown(settings['limit'])}: not the whole sets")
    if settings.get("gen_kwargs"):
        notes.append(f"scored with --gen_kwargs {shown(settings['gen_kwargs'])}, not as the tasks ask")
    (record, more), weights = _record_of(checkpoint, file), bound_of(raw).get("weights")
    notes += more
    gate = record.get("gate")
    if isinstance(gate, Mapping) and gate.get("overridden"):
        notes.append(f"trained with --no_gate: {'; '.join(map(str, gate.get('reasons') or []))}")
    return Run(
        name=name,
        model=model or name,
        file=file,
        checkpoint=checkpoint,
        date=str(raw.get("date", "")),
        record=record,
        step=int(step.group(1)) if step else None,
        task_results=task_results,
        notes=tuple(dict.fromkeys(notes)),
        weights=weights if isinstance(weights, str) else None,
    )


MUCH = 0.1
"""From which share of refusals a task's numbers are not told without them."""


def status_notes(task: str, task_result: TaskResult) -> list[str]:
    """A line where many requests ended in a refusal."""
    refused = sum(status == Status.REFUSAL for status in task_result.statuses)
    if refused < MUCH * len(task_result.rows):
        return []
    return [f"{task}: {refused} of {len(task_result.rows)} replies are refusals, not other answers"]


def _by_numbers(folder: Path) -> list:
    """`checkpoint-40` before `checkpoint-120`."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", str(folder))]


def _found_in(path: Path) -> list[tuple[str, Path]]:
    """(name, newest results file) of each run below a path."""
    if path.is_file():
        return [(path.parent.parent.name or path.stem, path)]
    newest_results(path)  # raises where there is none
    folders = sorted({file.parent for file in path.rglob("*_results.json")}, key=_by_numbers)
    names = []
    for folder in folders:
        parts = folder.relative_to(path).parts
        # The last folder is the one that lmms-eval names after the checkpoint.
        own = "/".join(parts[:-1])
        names.append(own or (path.resolve().name if len(folders) == 1 else (parts or (path.name,))[-1]))
    return [(name, newest_results(folder)) for name, folder in zip(names, folders)]


def find_runs(paths: Sequence[str]) -> list[tuple[str, str, Path]]:
    """(name, model, results file) for each argument.

    Args:
        paths: a results file, an `--output_path`, a folder of several, or `NAME=` before one of these.
            A NAME given several times is one model's several seeds.

    Raises:
        RememError: nothing there.
    """
    found: list[tuple[str, Path]] = []
    for path in paths:
        label, equals, rest = path.partition("=")
        named = bool(equals) and not Path(path).exists()
        if not path or (named and not (label and rest)):  # (a path of nothing would be the folder we are in)
            raise RememError(f"'{path}' names no run: RUN, or NAME=RUN")
        place = Path(rest if named else path)
        if not place.exists():
            raise RememError(f"'{place}' is not there{beside(place)}")
        several = _found_in(place)
        for name, file in several:
            name = (label if len(several) == 1 else f"{label}/{name}") if named else name
            if file.resolve() not in [other.resolve() for _, other in found]:
                found.append((name, file))
    counted: dict[str, int] = {}
    runs = []
    for name, file in found:
        total = sum(other == name for other, _ in found)
        counted[name] = counted.get(name, 0) + 1
        runs.append((f"{name} #{counted[name]}" if total > 1 else name, name, file))
    return runs


def read_runs(paths: Sequence[str]) -> list[Run]:
    """All runs of the arguments; see `find_runs`."""
    if not paths:
        raise RememError("no runs given")
    return [read_run(file, name, model) for name, model, file in find_runs(paths)]
