"""lmms-eval's samples files, row by row and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from remem_tasks.benchmarks.view import RIGHT, BenchmarkView
from remem_tasks.errors import RememError
from remem_tasks.metrics.refusal import Status, rates_of, status_of
from remem_tasks.reading import parse_json
from remem_tasks.report.model_run import Row, RowReply, TaskResult

MOST_HOPS = 100
MOST_DIGITS = 18  # of a row's number
ANONYMOUS = "no row ids, so nothing can be told by person, hop or attribute; score again with these tasks"


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


def _row_of(
    sample: Mapping, benchmark_view: BenchmarkView, forgotten: bool, where: str
) -> tuple[Row, RowReply]:
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
        reply = RowReply(
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


def _check_ranks(reply: RowReply, values: Mapping, rollouts: int, where: str) -> None:
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
    found: dict[str, tuple[Row, RowReply, dict[str, float], Status]] = {}
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


def _status(reply: RowReply, scores: Mapping[str, float], benchmark_view: BenchmarkView) -> Status:
    """How a row's request ended, from its reply and scores, so of results of any version."""
    failed = scores.get("failed_rate", 0.0) > 0
    return status_of(None if failed else reply.text, scores[benchmark_view.column] >= RIGHT)


def _natural(row_id: str) -> tuple:
    split, _, index = row_id.rpartition(":")
    return (split, int(index), "") if index.isdecimal() and len(index) <= MOST_DIGITS else (split, -1, index)
