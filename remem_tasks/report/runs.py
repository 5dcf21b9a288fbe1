"""Runs: lmms-eval's results and samples files of any number of models, row by row and checked.

A half-written file, samples without row ids, a NaN or rows that are not those of the results file stop
the reading with one line. What may stand side by side but must not be compared is found by `groups_of`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from remem_tasks.benchmarks.view import RATES, RIGHT, BenchmarkView
from remem_tasks.benchmarks.views import SPREADS, view_for
from remem_tasks.binding import bound_of, read_results, verify
from remem_tasks.errors import RememError
from remem_tasks.files import beside
from remem_tasks.metrics.refusal import Status, rates_of, status_of
from remem_tasks.reading import parse_json
from remem_tasks.report.results import newest_results, read_scores
from remem_tasks.report.settings import generation_of, option_of, unlike
from remem_tasks.run_record import read_record, unfinished

MOST_HOPS = 100
MOST_DIGITS = 18  # of a row's number
ANONYMOUS = "no row ids, so nothing can be told by person, hop or attribute; score again with these tasks"


@dataclass(frozen=True, slots=True)
class Row:
    """What was asked; the same for every model.

    Attributes:
        hop: 0 where the benchmark has none.
        attribute: of ReMem's rows; else the kind of question.
        trained: whether training asks this kind of question.
    """

    row_id: str
    identity: str
    hop: int
    attribute: str
    category: str
    forgotten: bool
    question: str
    answer: str
    picture: str
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """What one model said to one row.

    Attributes:
        text: the greedy reply.
        ranks: Ĝ of each secret; empty where exposure was not measured.
        bits: −log2 P of each secret, None where the model cannot say it at all.
        guesses: for each secret the likeliest guesses as (text, ln p).
    """

    text: str
    ranks: tuple[int, ...] = ()
    bits: tuple[float | None, ...] = ()
    guesses: tuple[tuple[tuple[str, float], ...], ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """One task of one run.

    Attributes:
        benchmark_view: of its benchmark.
        rows, replies: N of each, in the order of row ids.
        scores: metric without the benchmark's name → (N,) values; NaN = not measured on that row.
        of_set: scores that only a whole set has, such as CLEAR's forget quality.
        means: the results file's own numbers, by their full names.
        missing: why a score is not available.
        generation: how replies were made; see `settings.generation_of`.
        statuses: (N,) how each row's request ended.
    """

    task: str
    benchmark_view: BenchmarkView
    split: str
    data: str
    fingerprint: str
    suite: Mapping
    missing: Mapping[str, str]
    rows: tuple[Row, ...]
    replies: tuple[Reply, ...]
    scores: Mapping[str, np.ndarray]
    of_set: Mapping[str, float]
    means: Mapping[str, float]
    generation: Mapping = field(default_factory=dict)
    statuses: tuple[Status, ...] = ()

    @property
    def main(self) -> str:
        """The score that says whether the answer was given; every row has it."""
        return self.benchmark_view.column

    @property
    def metrics(self) -> list[str]:
        """The scores that say what the model knows, the main one first."""
        return sorted((name for name in self.scores if name not in RATES), key=lambda name: name != self.main)

    @property
    def tabled(self) -> list[str]:
        """The names in `of_set` that tables have a column for."""
        return [name for name in self.of_set if name not in SPREADS]

    @cached_property
    def trained(self) -> np.ndarray:
        """(N,) booleans: rows of a kind that training asks."""
        return np.array([row.trained for row in self.rows])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(row.row_id for row in self.rows)

    @property
    def rollouts(self) -> int:
        return int(self.suite.get("rollouts", 64))

    def mean(self, metric: str, keep: np.ndarray | None = None) -> float | None:
        """Mean over the rows that have the metric; None if none has.

        Args:
            keep: (N,) booleans, the rows to take.
        """
        values = self.scores.get(metric)
        if values is None:
            return None
        values = values[~np.isnan(values)] if keep is None else values[keep & ~np.isnan(values)]
        return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class Run:
    """All tasks of one model.

    Attributes:
        name: unique among the runs read together.
        model: what several seeds share; else the name.
        checkpoint: as the harness was given it.
        record: the checkpoint's `run.json`, if it is on this machine; else empty.
        weights: digest of the weights that were scored; None where the results name none.
        step: of a checkpoint in the course of a training, by its folder's name; None for a final one.
    """

    name: str
    model: str
    file: Path
    checkpoint: str
    date: str
    record: Mapping
    step: int | None
    task_results: Mapping[str, TaskResult]
    notes: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def method(self) -> str | None:
        method = self.record.get("method")
        return method if isinstance(method, str) else None

    @property
    def steps(self) -> int | None:
        """How many steps it was trained: of a checkpoint in the course of a training, up to it."""
        steps = self.step if self.step is not None else self.record.get("steps")
        return steps if isinstance(steps, int) else None

    @property
    def stopped(self) -> str | None:
        """Why its training ended, in the words of its record."""
        stopped = self.record.get("stopped")
        return stopped if isinstance(stopped, str) and self.step is None else None

    @property
    def seed(self) -> int | None:
        seed = self.record.get("seed")
        return seed if isinstance(seed, int) else None


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


def _number(value: object, where: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RememError(f"{where} is {shown(value)}, not a finite number")
    return float(value)


def shown(value: object) -> str:
    """A value of others in a message: short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _reply_text(sample: Mapping) -> str:
    """The greedy reply: the first thing under the filters, which may be a list of repeats."""
    value = sample.get("filtered_resps", sample.get("resps", ""))
    while isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value)


def _row_of(sample: Mapping, benchmark_view: BenchmarkView, forgotten: bool, where: str) -> tuple[Row, Reply]:
    values = sample.get(benchmark_view.rows)
    if not isinstance(values, Mapping) or not isinstance(values.get("row_id"), str):
        raise RememError(f"{where}: {ANONYMOUS}")
    try:
        media = sample.get("input_media") or []
        row = Row(
            row_id=values["row_id"],
            identity=str(values["identity"] or "(nobody)"),
            hop=int((values["hop"] if benchmark_view.hops else values.get("hop")) or 0),
            attribute=str(values.get("attribute") or benchmark_view.kind_of(values) or "(none)"),
            category=str(values.get("qa_category") or "(none)"),
            forgotten=bool(values.get("forgotten", forgotten)),
            question=str(sample.get("input", "")),
            answer=str(sample.get("target", "")),
            picture=str(values["picture"] if "picture" in values else media[0] if media else ""),
            trained=not benchmark_view.trained or values.get("kind") in benchmark_view.trained,
        )
        reply = Reply(
            text=_reply_text(sample),
            ranks=tuple(values.get("guess_rank") or ()),
            bits=tuple(values.get("secret_bits") or ()),
            guesses=tuple(
                tuple((str(text), float(value)) for text, value in guesses)
                for guesses in values.get("guesses") or ()
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RememError(f"{where}: '{benchmark_view.rows}' cannot be read ({error!r})") from error
    if not 0 <= row.hop <= MOST_HOPS:
        raise RememError(f"{where}: hop {shown(row.hop)} is out of range: 0 to {MOST_HOPS}")
    return row, reply


def _check_ranks(reply: Reply, values: Mapping, rollouts: int, where: str) -> None:
    """Raises RememError for a rank that M guesses cannot give, or bits that no probability has."""
    for rank in reply.ranks:
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= rollouts + 1:
            raise RememError(f"{where}: guess rank {shown(rank)} is out of range: 1 to {rollouts + 1}")
    for bit in reply.bits:
        if bit is not None and _number(bit, f"{where}: secret_bits") < -1e-6:
            raise RememError(f"{where}: secret_bits {bit} is below 0")
    among, others = values.get("reference_rank") or [], values.get("references") or []
    if not isinstance(among, list) or not isinstance(others, list) or len(among) != len(others):
        raise RememError(f"{where}: reference ranks {shown(among)} of {shown(others)} references")
    for rank, most in zip(among, others):
        if (
            isinstance(rank, bool)
            or not isinstance(rank, int)
            or not isinstance(most, int)
            or not 1 <= rank <= most + 1
        ):
            raise RememError(f"{where}: reference rank {shown(rank)} is out of range: 1 to {shown(most)} + 1")


def _scores_of(
    sample: Mapping, benchmark_view: BenchmarkView, where: str
) -> tuple[dict[str, float], dict[str, str], set[str]]:
    """(a sample's scores by their short names, their full names, the names of those of a whole set)."""
    scores, full_names, of_set = {}, {}, set()
    for key, value in sample.items():
        name = benchmark_view.score_name(key, sample[benchmark_view.rows])
        if name is None:
            continue
        if isinstance(value, Mapping):
            of_set.add(name)
            continue
        scores[name], full_names[name] = _number(value, f"{where}: {key}"), key
        if not name.endswith("bits") and not -1e-9 <= scores[name] <= 1 + 1e-9:
            raise RememError(f"{where}: {key} is {shown(value)}, outside [0, 1]")
    main = next((name for name in benchmark_view.main if name in scores), None)
    if main is None or math.isnan(scores[main]):
        raise RememError(f"{where}: a row without {benchmark_view.name}'s {' or '.join(benchmark_view.main)}")
    return {benchmark_view.column: scores[main], **scores}, full_names, of_set


def read_samples(
    file: Path,
    task: str,
    benchmark_view: BenchmarkView,
    config: Mapping,
    means: Mapping[str, float],
    rows: int,
    generation: Mapping | None = None,
) -> TaskResult:
    """The rows of one samples file, in the order of row ids.

    Args:
        means, rows: the task's numbers in the results file, and how many rows it counts.

    Raises:
        RememError: a line that is not JSON (half written), no row id, a row twice, a score that is null, NaN or
            outside [0, 1], a rank that cannot be, or a file that is not that of these results.
    """
    metadata = config.get("metadata") or {}
    if not isinstance(metadata, Mapping) or not all(
        isinstance(metadata.get(name) or {}, Mapping) for name in ("suite", "not_available")
    ):
        raise RememError(f"the results of {task} beside '{file}': their metadata cannot be read")
    suite = dict(metadata.get("suite") or {})
    rollouts = suite.get("rollouts", 64)
    if isinstance(rollouts, bool) or not isinstance(rollouts, int) or rollouts < 1:
        raise RememError(f"the results of {task} beside '{file}': rollouts {shown(rollouts)}")
    split = str(config.get("test_split", ""))
    forgotten = split.startswith("forget")
    found: dict[str, tuple[Row, Reply, dict[str, float], Status]] = {}
    of_set: set[str] = set()
    sums: dict[str, list[float]] = {}
    number = 0
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"'{file}', line {number}"
                sample = parse_json(line, where)
                if not isinstance(sample, dict):
                    raise RememError(f"{where}: not a sample of lmms-eval")
                row, reply = _row_of(sample, benchmark_view, forgotten, where)
                if row.row_id in found:
                    raise RememError(f"{where}: row '{row.row_id}' for the second time")
                _check_ranks(reply, sample[benchmark_view.rows], rollouts, where)
                scores, full_names, more = _scores_of(sample, benchmark_view, where)
                status = _status(reply, scores, benchmark_view)
                found[row.row_id] = row, reply, {**scores, **rates_of(status)}, status
                for name, full in full_names.items():
                    sums.setdefault(full, []).append(scores[name])
                of_set |= more
    except OSError as error:
        raise RememError(f"'{file}' cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RememError(f"'{file}', after line {number}: no UTF-8") from error
    if not found:
        raise RememError(f"'{file}' holds no samples")
    if len(found) != rows:
        raise RememError(f"'{file}' holds {len(found)} rows, the results file {rows}")
    for full, values in sums.items():
        if full in means and abs(float(np.mean(values)) - means[full]) > 1e-6:
            raise RememError(
                f"'{file}' is not the samples file of the results beside it: their {full} differs "
                f"({np.mean(values):.6g}, in the results {means[full]:.6g})"
            )
    order = sorted(found, key=_natural)
    names = dict.fromkeys(name for key in order for name in found[key][2])
    return TaskResult(
        task=task,
        benchmark_view=benchmark_view,
        split=split,
        data=str(metadata.get("data", "")),
        fingerprint=str(metadata.get("fingerprint", "")),
        suite=suite,
        missing=dict(metadata.get("not_available") or {}),
        rows=tuple(found[key][0] for key in order),
        replies=tuple(found[key][1] for key in order),
        scores={name: np.array([found[key][2].get(name, math.nan) for key in order]) for name in names},
        of_set={
            name: means[full] for name in sorted(of_set) if (full := f"{benchmark_view.name}_{name}") in means
        },
        means=means,
        generation=generation or {},
        statuses=tuple(found[key][3] for key in order),
    )


def _status(reply: Reply, scores: Mapping[str, float], benchmark_view: BenchmarkView) -> Status:
    """How a row's request ended, from its reply and scores, so of results of any version."""
    failed = scores.get("failed_rate", 0.0) > 0
    return status_of(None if failed else reply.text, scores[benchmark_view.column] >= RIGHT)


def _natural(row_id: str) -> tuple:
    split, _, index = row_id.rpartition(":")
    return (split, int(index), "") if index.isdecimal() and len(index) <= MOST_DIGITS else (split, -1, index)


def _seen_from(checkpoint: Path, results: Path) -> Path:
    """A checkpoint's folder, also where its relative path was given from another folder, above its results."""
    if checkpoint.is_absolute() or checkpoint.is_dir():
        return checkpoint
    return next(
        (found for above in results.resolve().parents if (found := above / checkpoint).is_dir()), checkpoint
    )


def _record_of(checkpoint: str, results: Path) -> tuple[dict, list[str]]:
    """The `run.json` of a checkpoint folder or of the training it is a step of, empty if there is none; what to note."""
    if not checkpoint:
        return {}, []
    folder = _seen_from(Path(checkpoint), results)
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
