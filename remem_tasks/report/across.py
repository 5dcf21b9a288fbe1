"""One table across benchmarks: each unlearned model on each forget set, beside its own start and gold.

Scores of two benchmarks are other questions about other people: what is comparable is a model beside the references of
its own row, not rows with one another.
"""

from __future__ import annotations

from collections.abc import Iterator

from remem_tasks.benchmarks.view import label_of
from remem_tasks.report.conclusion import percent, short_names
from remem_tasks.report.model_run import Run
from remem_tasks.report.summary import EXPOSURES, Findings, Report
from remem_tasks.report.verdict import NOT_MEMORISED

HEADS = (
    "forget set",
    "model",
    "score",
    "start",
    "gold",
    "model's",
    "exposure: start",
    "gold",
    "model's",
    "retain set",
    "start",
    "gold",
    "model's",
)
NOTE = "In per cent. A row is read against its own start and gold; rows of other sets are other questions."


def across(report: Report) -> list[list[str]]:
    """The rows of the table under HEADS; none where the runs are all of one benchmark."""
    benchmarks = {
        task_results[0][1].benchmark_view.name
        for found in report.groups
        for task_results in found.group.task_results.values()
    }
    return [] if len(benchmarks) < 2 else [row for found in report.groups for row in _rows(found)]


def _rows(found: Findings) -> Iterator[list[str]]:
    sets, names = found.group.task_results, short_names(run.name for run in found.group.runs)
    for task, task_results in sets.items():
        first = task_results[0][1]
        if not first.split.startswith("forget"):
            continue
        exposure = next(
            (name for name in EXPOSURES if any(name in result.scores for _, result in task_results)), None
        )
        kept = next(
            (
                other
                for other, (one, *_) in sets.items()
                if one[1].split.startswith("retain") and one[1].benchmark_view is first.benchmark_view
            ),
            None,
        )

        def shown(run: Run | None, task: str | None, metric: str | None) -> str:
            score = found.score(run.name, task, metric) if run and task and metric else None
            if score is None:
                return "-"
            return percent(score.value) + (" †" if score.gate == NOT_MEMORISED else "")

        for run, _ in task_results:
            if found.role(run):
                continue
            order = (found.start, found.gold, run)
            yield [
                label_of(task),
                names[run.name],
                first.benchmark_view.word,
                *(shown(one, task, first.main) for one in order),
                *(shown(one, task, exposure) for one in order),
                label_of(kept) if kept else "-",
                *(shown(one, kept, sets[kept][0][1].main if kept else None) for one in order),
            ]
