"""Stage 2 asks the gate: a model that had not memorised has nothing to forget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from remem_tasks.benchmarks.registry import data_of
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import RememError, TooFewRows
from remem_tasks.report.gate import gate_of
from remem_tasks.report.model_run import Run
from remem_tasks.report.runs import read_runs, seen_from
from remem_tasks.report.verdict import UNCLEAR


def _same(checkpoint: str, results: Path, model: str) -> bool:
    """Whether a checkpoint, as its results name it, and a model are one folder, or one repository of the Hub."""
    scored, start = seen_from(Path(checkpoint), results), Path(model)
    if not checkpoint or not start.is_dir():
        return checkpoint == model
    if scored.is_dir():
        return scored.resolve() == start.resolve()
    # As it was called where it was scored, which may be another folder than this.
    parts = scored.parts
    return bool(parts) and not scored.is_absolute() and start.resolve().parts[-len(parts) :] == parts


def _run_of(results: str, model: str) -> Run:
    runs = [run for run in read_runs([results]) if _same(run.checkpoint, run.file, model)]
    if len(runs) != 1:
        raise RememError(
            f"--gate_results '{results}' holds {'several' if runs else 'no'} results of '{model}', which is to forget"
        )
    return runs[0]


def _tasks(rows: TrainingRows, forget: str) -> str:
    """The tasks by which the gate can tell."""
    return f"{rows.benchmark}_{forget},{rows.benchmark}_{data_of(rows.benchmark).retain_of(forget)}"


def ask(results: str | None, model: str, forget: str, rows: TrainingRows, go_on: bool) -> dict[str, Any]:
    """The gate's verdict of the starting model, for the run's record.

    Args:
        results: of the starting model, as for `remem gate`; None if there are none.
        model: the starting model, as the run loads it.
        forget: the split to forget.
        rows: of the run.
        go_on: whether to continue anyway.

    Returns:
        `passed` (None: not asked), `overridden`, `reasons`, and what `Verdict.record` holds.

    Raises:
        RememError: it had not memorised, or was not scored, and `go_on` is not set; results of another
            model or of other rows.
    """
    if results is None:
        if go_on:
            return {"passed": None, "overridden": True, "reasons": ["the starting model was not scored"]}
        raise RememError(
            f"no scores of '{model}' were given, so the gate cannot pass. Score it (lmms_eval --model "
            f"remem_hf --model_args pretrained={model} --tasks {_tasks(rows, forget)} --log_samples "
            "--output_path RESULTS) and give --gate_results RESULTS; --no_gate continues without"
        )
    run = _run_of(results, model)
    splits = data_of(rows.benchmark).scored_as(forget)
    task_results = [
        task_result
        for task_result in run.task_results.values()
        if task_result.benchmark_view.name == rows.benchmark and task_result.split in splits
    ]
    if not task_results:
        raise RememError(f"--gate_results '{results}': '{forget}', which is to be forgotten, was not scored")
    if rows.forget is not None:
        known = set(rows.forget["answer"][:])
        asked = [row for task_result in task_results for row in task_result.rows if row.trained]
        if strange := next((row for row in asked if row.answer not in known), None):
            raise RememError(
                f"--gate_results '{results}' are of other data: row {strange.row_id} is not among those to forget"
            )
    verdict = gate_of(run)
    if not verdict.passed and not go_on:
        first, *others = verdict.reasons
        if verdict.outcome == UNCLEAR:
            raise TooFewRows(
                f"too few rows to say whether '{model}' had memorised what it is to forget: {first}: {verdict.advice()}. "
                "--no_gate continues anyway"
            )
        more = f" (and {len(others)} more: remem gate {results})" if others else ""
        raise RememError(
            f"'{model}' had not memorised what it is to forget, so that unlearning would measure nothing: "
            f"{first}{more}. --no_gate continues anyway"
        )
    return {**verdict.record(), "overridden": not verdict.passed, "results": results}


def told(asked: dict[str, Any]) -> str:
    """The verdict in a line."""
    if not asked["overridden"]:
        return f"gate: passed, '{asked['model']}' had memorised"
    return f"gate: NOT passed, continued anyway (--no_gate): {'; '.join(asked['reasons'])}"
