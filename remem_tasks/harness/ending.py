"""How a scoring ends: one table of few columns, where its files are, and what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from remem_tasks.benchmarks.view import BenchmarkView, label_of
from remem_tasks.benchmarks.views import view_for

PARTS = ("", "forgotten_", "kept_")
"""What a split of forgotten people and others is told in; the first: the whole of it."""
COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("MEMO", ("memo",)),
    ("Exposure", ("exposure", "prompted_exposure")),
    ("refused", ("refusal_rate",)),
    ("failed", ("failed_rate",)),
)
"""After the main score: heading, and the first of these scores that a task has."""
Samples = Mapping[str, Sequence[Mapping[str, Any]]]
"""task → what is kept of each row, as lmms-eval gives it with `--log_samples`."""
ALARM = len(COLUMNS) + 3
"""The place of the column that is shown only where it is not 0."""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _plain(values: Mapping[str, object]) -> dict[str, float]:
    """Scores by their names without the harness's filter; no standard errors, aliases or what is not measured."""
    found = {}
    for key, value in values.items():
        name, _, filtered = key.partition(",")
        if filtered and _number(value) and not name.endswith("_stderr"):
            found[name] = float(value)
    return found


def _kinds(view: BenchmarkView, scores: Mapping[str, float]) -> list[str]:
    """What stands between a benchmark's name and its main score: of ReMem "", of CLEAR `caption_`."""
    if not view.kinds:
        return [part for part in PARTS if f"{view.name}_{part}{view.column}" in scores]
    before = f"{view.name}_"
    ends = tuple(f"_{main}" for main in view.main)
    return [
        next(name.removeprefix(before)[: -len(end) + 1] for end in ends if name.endswith(end))
        for name in scores
        if name.startswith(before) and name.endswith(ends)
    ]


def lines_of(
    results: Mapping[str, Mapping[str, object]], samples: Samples | None = None
) -> Iterator[tuple[str, ...]]:
    """(task, part, rows, main score, MEMO, …) of each of our tasks, scores in per cent; "-" where there is none.

    Args:
        samples: of which the rows of a part are counted; without them a part has "-".
    """
    for task, values in results.items():
        scores = _plain(values)
        view = view_for(scores)
        if view is None:
            continue
        rows = scores[view.rows]
        kinds = _kinds(view, scores)
        if kinds[1:] and not view.kinds:
            kinds = kinds[1:]  # forgotten and kept people say it; their mean says nothing
        for kind in dict.fromkeys(kinds):
            before = f"{view.name}_{kind}"
            name = next(before + one for one in view.main if before + one in scores)
            if not kind:
                count = f"{rows:g}"
            elif samples and task in samples:
                count = f"{sum(_number(sample.get(name)) for sample in samples[task])}"
            else:
                count = "-"
            more = [
                next((scores[before + one] for one in names if before + one in scores), None)
                for _, names in COLUMNS
            ]
            cells = [
                f"{100 * scores[name]:.1f}",
                *("-" if one is None else f"{100 * one:.1f}" for one in more),
            ]
            yield (label_of(task), kind.replace("_", " ").strip(), count, *cells)


def words_of(results: Mapping[str, Mapping[str, object]]) -> str:
    """What the main score is called: `EM`, or `EM / ROUGE-L` of several benchmarks."""
    views = (view_for(_plain(values)) for values in results.values())
    return " / ".join(dict.fromkeys(view.word for view in views if view is not None))


def table_of(results: Mapping[str, Mapping[str, object]], samples: Samples | None = None) -> str:
    """The compact table as text; empty where no task is ours."""
    lines = list(lines_of(results, samples))
    if not lines:
        return ""
    heads = ("task", "part", "rows", words_of(results), *(name for name, _ in COLUMNS))
    used = [
        place
        for place in range(len(heads))
        if place == 3
        or any(line[place] not in ("", "-") and (place != ALARM or line[place] != "0.0") for line in lines)
    ]
    wide = {place: max(len(heads[place]), *(len(line[place]) for line in lines)) for place in used}
    return "\n".join(
        "  ".join(
            line[place].ljust(wide[place]) if place < 2 else line[place].rjust(wide[place]) for place in used
        ).rstrip()
        for line in (heads, *lines)
    )


def next_steps(output_path: str | None, logged: bool) -> list[str]:
    """Where the files of a run are, and the command that makes a report of them."""
    if not output_path:
        return ["nothing was kept: --output_path results/NAME --log_samples keeps what `remem report` reads"]
    folder = Path(output_path)
    where = f"results{' and every reply' if logged else ''}: {folder}"
    if not logged:
        return [where, "for a report, score with --log_samples too"]
    given = shlex.quote(str(folder))
    return [
        where,
        f"report: remem report {given} --out report   (name other models' folders too; --gold and --start mark the references)",
    ]


def ending(
    results: Mapping[str, object], output_path: str | None, logged: bool, samples: Samples | None = None
) -> str:
    """What is printed in place of the harness's table; empty where no task is ours."""
    scores = results.get("results")
    table = table_of(scores, samples) if isinstance(scores, Mapping) else ""
    if not table:
        return ""
    steps = next_steps(output_path, logged)
    return "\n".join(["", "Scores in per cent", table, "", *steps, "all scores: --long_table"])
