"""Stage 1's gate: was there anything to forget?

Unlearning scores mean nothing where the model had not memorised. For each set, and in it for each hop and
attribute (or kind of question), EM (or what stands for it), MEMO and exposure of the starting model are
held against thresholds with confidence bounds. Questions of a kind that training never asks decide nothing.
A set passes when it is *shown* to be above (the lower bound is); one of its hops or attributes fails the
gate when it is *shown* to be below (the upper bound is). Between the two a cell has too few rows to say.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from remem_tasks.errors import RememError
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.runs import read_runs
from remem_tasks.report.thresholds import METRICS, Thresholds
from remem_tasks.report.verdict import (
    WHOLE,
    Cell,
    Finding,
    Kind,
    Part,
    Verdict,
    bounds_of,
)

HELD_BACK = ("_test", "_val")
"""Ends of the names of sets that ask about the same concepts by items that training never shows."""


def trained_on(split: str) -> bool:
    """Whether a set has to be memorised: what was trained on; the real world and items held back to test were not.

    >>> [split for split in ("forget", "forget_test", "retain_val", "test", "finetune") if trained_on(split)]
    ['forget', 'finetune']
    """
    if split.endswith(HELD_BACK):
        return False
    return split.startswith(("forget", "retain", "full")) or split == "finetune"


TARGETS = ("forgotten", "kept")


def parts_of(task_result: TaskResult) -> dict[Part, np.ndarray]:
    """The parts of a sheet by hop, attribute and target: part → (N,) booleans."""
    parts: dict[Part, np.ndarray] = {}
    for kind, values in (
        (Kind.HOP, [row.hop for row in task_result.rows]),
        (Kind.ATTRIBUTE, [row.attribute for row in task_result.rows]),
        (Kind.TARGET, [TARGETS[not row.forgotten] for row in task_result.rows]),
    ):
        found = sorted(set(values))
        if kind == Kind.TARGET and len(found) < 2:
            continue
        for value in found:
            if kind != Kind.HOP or value:
                parts[Part(kind, str(value))] = np.array([one == value for one in values])
    return parts


def _values_of(task_result: TaskResult, metric: str) -> tuple[str, np.ndarray | None]:
    """(what a metric of the gate is called in a sheet, (N,) its values or None)."""
    if metric == "visual":
        return "visual gap", visual_gaps(task_result)
    name = task_result.main if metric == "em" else metric
    return name, task_result.scores.get(name)


def visual_gaps(task_result: TaskResult, keep: np.ndarray | None = None) -> np.ndarray | None:
    """(N,) main score with the picture less that without, or with another's: whichever is better on the rows.

    NaN on rows that need no picture.

    Args:
        keep: (N,) booleans, the rows on which it is the better.
    """
    others = [
        task_result.scores[name] for name in ("no_picture", "other_picture") if name in task_result.scores
    ]
    if not others:
        return None
    rows = np.ones(len(task_result.rows), dtype=bool) if keep is None else keep
    best = max(others, key=lambda values: -1.0 if np.isnan(values[rows]).all() else np.nanmean(values[rows]))
    return task_result.scores[task_result.main] - best


def _cell(
    task_result: TaskResult,
    part: Part,
    keep: np.ndarray | None,
    limits: Thresholds,
    counted: bool,
    m: int = 1,
) -> Cell | None:
    """`m`: how many such parts are judged at once; the error rate is shared among them (Bonferroni)."""
    confidence = 1 - (1 - limits.confidence) / m
    findings, rows = [], 0
    for metric in METRICS:
        score, values = _values_of(task_result, metric)
        if metric == "visual" and part.kind == Kind.ATTRIBUTE:
            continue  # whether pictures are looked at is not a property of an attribute
        if metric == "visual" and values is not None:
            values = visual_gaps(task_result, keep)
        if values is None:
            continue
        known = ~np.isnan(values) if keep is None else keep & ~np.isnan(values)
        if not known.any():
            continue
        rows, mean = max(rows, int(known.sum())), float(values[known].mean())
        losses = float(np.maximum(-values[known], 0).mean()) if metric == "visual" else None
        stand = int(known.sum()), confidence, losses
        findings.append(
            Finding(metric, mean, *bounds_of(mean, *stand), getattr(limits, metric), score, *stand)
        )
    return Cell(task_result.task, part, rows, tuple(findings), counted) if findings else None


def judge(run: Run, thresholds: Thresholds | None = None) -> Verdict:
    """The gate's verdict of a run, set by set.

    Raises:
        RememError: the run holds no set that has to be memorised.
    """
    limits = thresholds or Thresholds()
    judged = {
        task: trained_on(one.split) and bool(one.trained.any()) for task, one in run.task_results.items()
    }
    if not any(judged.values()):
        raise RememError(
            f"'{run.name}' was scored on {', '.join(run.task_results)} only: the gate needs a set that was trained "
            "on (remem_forget1, remem_retain, clear_forget10 …)"
        )
    cells, missing = [], []
    for task, task_result in run.task_results.items():
        counted = judged[task]
        for metric in task_result.benchmark_view.judged:
            if _values_of(task_result, metric)[1] is None:
                hint = ": --metrics em,memo,exposure,visual" if metric == "visual" else ""
                why = task_result.missing.get(metric, f"not asked for{hint}")
                missing.append(
                    f"{task_result.task}: {metric} was not measured ({why}), so it decides nothing"
                )
        cells.append(_cell(task_result, WHOLE, task_result.trained if counted else None, limits, counted))
        parts = parts_of(task_result)
        for kind in (Kind.HOP, Kind.ATTRIBUTE, Kind.TARGET):
            own = {part: keep for part, keep in parts.items() if part.kind == kind}
            asked = {part: counted and bool(task_result.trained[keep].any()) for part, keep in own.items()}
            tests = sum(asked.values()) or len(own)
            cells += [
                _cell(task_result, part, keep, limits, asked[part], tests) for part, keep in own.items()
            ]
    return Verdict(
        run.name, limits, tuple(cell for cell in cells if cell is not None), tuple(missing), run.notes
    )


def gate_of(
    results: str | Path | Run, thresholds: Thresholds | None = None, forget: str | None = None
) -> Verdict:
    """The gate's verdict of a starting model.

    Args:
        results: a run, its results file, or the `--output_path` it was scored to.
        forget: the split that is to be forgotten.

    Raises:
        RememError: no results, results of several models, nothing that has to be memorised, or `forget` is
            not among what was scored.
    """
    if not isinstance(results, Run):
        runs = read_runs([str(results)])
        if len(runs) > 1:
            raise RememError(
                f"'{results}' holds the results of {len(runs)} models ({', '.join(run.name for run in runs)}); "
                "the gate is asked of one"
            )
        results = runs[0]
    if forget is not None:
        known = sorted(
            {name for task_result in results.task_results.values() for name in forget_names(task_result)}
        )
        if forget not in known:
            raise RememError(
                f"--forget '{forget}': no such split among the results of '{results.name}', which has "
                f"{', '.join(known) or 'no forget set'}"
            )
    return judge(results, thresholds)


def forget_names(task_result: TaskResult) -> list[str]:
    """The names by which a sheet's split may be asked for as the set to forget."""
    return [task_result.split, task_result.task] if task_result.split.startswith("forget") else []
