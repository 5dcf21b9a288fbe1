"""The report in every form: terminal, Markdown, CSV, HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from textwrap import wrap

from rich.table import Table
from rich.text import Text

from remem_tasks.benchmarks.view import label_of
from remem_tasks.benchmarks.views import MAINS, NUMBERS, OF_SET
from remem_tasks.errors import RememError
from remem_tasks.files import locked, write_whole
from remem_tasks.render.html import page_of
from remem_tasks.report import across
from remem_tasks.report.conclusion import conclusion, percent, short_names
from remem_tasks.report.gate import TARGETS
from remem_tasks.report.model_run import Run
from remem_tasks.report.statistics import pareto
from remem_tasks.report.summary import EXPOSURES, Findings, Report, Score
from remem_tasks.report.verdict import NOT_MEMORISED, WHOLE, Kind, Part
from remem_tasks.terminal import clean

CSV_COLUMNS = [
    "group",
    "run",
    "model",
    "seed",
    "method",
    "step",
    "role",
    "task",
    "part",
    "metric",
    "value",
    "low",
    "high",
    "rows",
    "of_rows",
    "remaining",
    "memorised_rows",
    "gate",
    "checkpoint",
    "fingerprint",
]


def _markdown(text: str) -> str:
    """Text of others that must stay text in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|#~!&])", r"\\\1", clean(text))


class Priority(IntEnum):
    """What a column is for: those that a narrow terminal has no room for go from the last."""

    MAIN = 0
    EXPOSURE = 1
    OF_SET = 1
    RETAIN = 2
    KEPT = 3
    REFUSED = 3
    EXPOSURE_LEFT = 4
    TO_GOLD = 5
    FORGOTTEN_EXPOSURE = 6
    FORGOTTEN = 7
    MEMO = 7
    MAIN_LEFT = 8
    MORE = 9


FORGOTTEN, KEPT = (Part(Kind.TARGET, target) for target in TARGETS)


@dataclass(frozen=True)
class Column:
    """A column of the table: one score of a set or a part of it."""

    task: str
    part: Part
    metric: str
    heading: str
    priority: Priority


def _columns(found: Findings) -> Iterator[Column]:
    for task, task_results in found.group.task_results.items():
        names = dict.fromkeys(name for _, task_result in task_results for name in task_result.scores)
        first, exposure = task_results[0][1], next((name for name in EXPOSURES if name in names), None)
        name, main, word = "\n".join(wrap(label_of(task), 14)), first.main, first.benchmark_view.word
        forget, retain = first.split.startswith("forget"), first.split.startswith("retain")
        if found.score(task_results[0][0].name, task, main, FORGOTTEN) is not None and not forget:
            yield Column(task, FORGOTTEN, main, f"{name}\nforgotten\n{word}", Priority.FORGOTTEN)
            if exposure:
                heading = f"{name}\nforgotten\nexposure"
                yield Column(task, FORGOTTEN, exposure, heading, Priority.FORGOTTEN_EXPOSURE)
            yield Column(task, KEPT, main, f"{name}\nkept\n{word}", Priority.KEPT)
            continue
        yield Column(task, WHOLE, main, f"{name}\n{word}", Priority.RETAIN if retain else Priority.MAIN)
        if any((task_result.mean("refusal_rate") or 0) > 0 for _, task_result in task_results):
            yield Column(task, WHOLE, "refusal_rate", f"{name}\nrefused", Priority.REFUSED)
            yield Column(task, WHOLE, "coverage", f"{name}\ncoverage", Priority.MORE)
        if forget:
            if memo := next((one for one in names if one.startswith("memo")), None):
                yield Column(task, WHOLE, memo, f"{name}\nMEMO", Priority.MEMO)
            if exposure:
                yield Column(task, WHOLE, exposure, f"{name}\nexposure", Priority.EXPOSURE)
        elif main == "em":
            yield Column(task, WHOLE, "rougel", f"{name}\nROUGE-L", Priority.MORE)
        for metric in dict.fromkeys(
            metric for _, task_result in task_results for metric in task_result.tabled
        ):
            yield Column(task, WHOLE, metric, f"{name}\n{OF_SET.get(metric, metric)}", Priority.OF_SET)


def _distance(found: Findings, run: Run) -> str:
    task = next((task for task in found.distances.get(run.name, {}) if "forget" in task), None)
    if task is None:
        return "-"
    task_result = run.task_results[task]
    return (
        f"{found.distances[run.name][task]['ks']:.2f}{_mark(found.score(run.name, task, task_result.main))}"
    )


def _left(score: Score | None) -> str:
    return "-" if score is None or score.remaining is None else f"{percent(score.remaining)}{_mark(score)}"


def _mark(score: Score | None) -> str:
    """The sign of a score whose starting point had not memorised."""
    return " †" if score is not None and score.gate == NOT_MEMORISED else ""


def _forget_task(found: Findings) -> str | None:
    return next(
        (task for task, (one, *_) in found.group.task_results.items() if "forget" in one[1].split), None
    )


def _table(found: Findings) -> tuple[list[tuple[str, Priority]], list[list[tuple[str, str]]]]:
    """((heading, priority) of each column, rows of (value, interval)); the first of a row is the run's name."""
    columns = list(_columns(found))
    forget = _forget_task(found)
    heads = [(column.heading, column.priority) for column in columns]
    if forget and found.start:
        task_results = found.group.task_results[forget]
        first = task_results[0][1]
        heads.append((f"{label_of(forget)}\n{first.benchmark_view.word} left", Priority.MAIN_LEFT))
        exposed = [
            name for name in EXPOSURES if any(name in task_result.scores for _, task_result in task_results)
        ]
        if exposed:
            heads.append((f"{label_of(forget)}\nexposure left", Priority.EXPOSURE_LEFT))
    if found.distances:
        heads.append(("to gold\nKS", Priority.TO_GOLD))
    lines, names = [], short_names(run.name for run in found.group.runs)
    for run in found.group.runs:
        name, role = names[run.name], found.role(run)
        line = [(name + (f" ({role})" if role and role != name else ""), "")]
        for column in columns:
            score = found.score(run.name, column.task, column.metric, column.part)
            if score is None:
                line.append(("-", ""))
                continue
            span = "" if score.low is None else f"{percent(score.low)}–{percent(score.high)}"
            short = f"\n{score.short}" if score.short else ""
            value = f"{score.value:.2f}" if column.metric in NUMBERS else percent(score.value)
            line.append((f"{value}{_mark(score)}", span + short))
        if forget and found.start:
            line.append((_left(found.score(run.name, forget, first.main)), ""))
            if exposed:
                exposure = next(
                    (one for name in exposed if (one := found.score(run.name, forget, name))), None
                )
                line.append((_left(exposure), ""))
        if found.distances:
            line.append((_distance(found, run), ""))
        lines.append(line)
    return heads, lines


def _fitting(heads: list[tuple[str, Priority]], width: int) -> list[int]:
    """The places of the columns that fit, in their order."""
    left, kept = width - 22, []
    for place in sorted(range(len(heads)), key=lambda place: (heads[place][1], place)):
        left -= max(9, *map(len, heads[place][0].split("\n"))) + 3
        if left < 0:
            break
        kept.append(place)
    return sorted(kept)


def tables(report: Report, width: int = 200) -> Iterator[Table | Text]:
    """What `remem report` prints on a terminal of that many columns."""
    if rows := across.across(report):
        table = Table(title="Across benchmarks", title_style="bold", caption=across.NOTE)
        for place, head in enumerate(across.HEADS):
            table.add_column(head, justify="left" if place in (0, 1, 2, 9) else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(clean(cell), style="red" if "†" in cell else "") for cell in row))
        yield table
    for number, found in enumerate(report.groups, start=1):
        apart = f", group {number} of {len(report.groups)}" if len(report.groups) > 1 else ""
        table = Table(title=f"Unlearning report{apart}, in per cent", title_style="bold")
        heads, lines = _table(found)
        kept = _fitting(heads, width)
        table.add_column("model", max_width=24)
        for place in kept:
            table.add_column(clean(heads[place][0], lines=True), justify="right", no_wrap=True)
        for line in lines:
            cells = [Text(clean(line[0][0]))]
            for value, interval in (line[1 + place] for place in kept):
                cell = Text(value, style="red" if "†" in value else "")
                cells.append(cell.append(f"\n{interval}", style="dim") if interval else cell)
            table.add_row(*cells)
        yield table
        for place, line in enumerate(conclusion(found)):
            failed = not place and found.verdict is not None and not found.verdict.passed
            yield Text(clean(line), style="red" if failed else "")


def _pipes(heads: list[str], lines: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|---" + "|---:" * (len(heads) - 1) + "|",
        *("| " + " | ".join(line) + " |" for line in lines),
    ]


def markdown_of(report: Report, title: str) -> str:
    """`report.md`: the tables, the gate, the comparisons with gold and start, and all notes."""
    lines = [f"# {_markdown(title)}", ""]
    lines += [f"- {_markdown(note)}" for note in report.notes] + [""]
    if rows := across.across(report):
        lines += ["## Across benchmarks", "", across.NOTE, ""]
        lines += [*_pipes(list(across.HEADS), [[_markdown(cell) for cell in row] for row in rows]), ""]
    for number, found in enumerate(report.groups, start=1):
        if len(report.groups) > 1:
            lines += [f"## Group {number}", ""] + (
                [_markdown(found.group.why), ""] if found.group.why else []
            )
        lines += [f"- {_markdown(line)}" for line in conclusion(found)] + [""]
        heads, rows = _table(found)
        cells = [
            [
                _markdown(line[0][0]),
                *(
                    f"{value} ({'; '.join(filter(None, span.split(chr(10))))})" if span else value
                    for value, span in line[1:]
                ),
            ]
            for line in rows
        ]
        lines += _pipes(["model", *(clean(head) for head, _ in heads)], cells)
        lines += ["", "In per cent; KS is a distance from 0 to 1. Forget sets: lower is less remembered.", ""]
        lines += ["In brackets: 95 % interval over rows.", "", *_models(found), ""]
        if found.verdict and not found.verdict.passed:
            lines += [f"- {_markdown(reason)}" for reason in found.verdict.reasons] + [""]
        if plane := _front(found):
            lines += [plane, ""]
        for other, what in ((found.gold, "gold"), (found.start, "the start")):
            if other is not None and len(found.group.runs) > 1:
                lines += _against(found, other, what)
        if found.seeds:
            lines += ["### Seeds", ""]
            rows = [
                [
                    _markdown(model),
                    label_of(task),
                    metric,
                    f"{mean:.3f} ± {sd:.3f}" if sd is not None else f"{mean:.3f}",
                    str(n),
                ]
                for (model, task, metric), (mean, sd, n) in found.seeds.items()
            ]
            lines += [*_pipes(["model", "set", "score", "mean ± sd", "seeds"], rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _models(found: Findings) -> list[str]:
    """A Markdown table: each model's method, steps, seed and checkpoint."""
    names = short_names(run.name for run in found.group.runs)
    rows = [
        [_markdown(one) for one in (names[run.name], *(str(value) for value in _of_run(run)))]
        for run in found.group.runs
    ]
    return _pipes(["model", "method", "steps", "seed", "checkpoint"], rows)


def _of_run(run: Run) -> tuple[object, ...]:
    values = run.method, run.steps, run.seed, run.checkpoint
    return tuple("-" if value is None or value == "" else value for value in values)


def _front(found: Findings) -> str:
    """The models that no other beats in forgetting and keeping, as a sentence."""
    forget, sets = _forget_task(found), found.group.task_results
    keep = next((task for task, (one, *_) in sets.items() if one[1].split.startswith("retain")), None)
    if forget is None or keep is None:
        return ""
    points, kept = {}, sets[keep][0][1]
    word, across = ("exposure", EXPOSURES) if kept.main == "em" else (kept.benchmark_view.word, (kept.main,))
    for run in found.group.runs:
        x = next((one for name in across if (one := found.score(run.name, forget, name))), None)
        y = found.score(run.name, keep, kept.main)
        if x and y and not found.role(run):
            points[run.name] = (x.value, y.value)
    if not points:
        return ""
    names = ", ".join(_markdown(name) for name in pareto(points))
    return f"Pareto front ({word} of {label_of(forget)} against {kept.benchmark_view.word} of {label_of(keep)}): {names}"


def _against(found: Findings, other: Run, what: str) -> list[str]:
    """Paired differences to one model on each forget and retain set."""
    rows = []
    for pair in found.pairs:
        if other.name not in (pair.first, pair.second) or pair.metric not in (*MAINS, *EXPOSURES):
            continue
        sign = 1 if pair.second == other.name else -1
        model, d = pair.first if sign == 1 else pair.second, pair.difference
        low, high = sorted((sign * d.low, sign * d.high))
        p = "≤ 0.002" if d.p < 0.0025 else f"{d.p:.3f}"
        cells = [f"{sign * d.mean + 0.0:+.3f}", f"{low + 0.0:+.3f} to {high + 0.0:+.3f}", p, str(d.rows)]
        rows.append([_markdown(model), label_of(pair.task), pair.metric, *cells])
    if not rows:
        return []
    heads = ["model", "set", "score", "difference", "95 % interval", "p", "rows"]
    return [f"### Against {what}: {_markdown(other.name)} (paired bootstrap)", "", *_pipes(heads, rows), ""]


def _cell(value: object) -> object:
    """A text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text[:1] and text[:1] in "=+-@" else text


def score_lines(report: Report) -> Iterator[tuple[object, ...]]:
    """The values of CSV_COLUMNS for each run, task, part and metric; None where there is none."""
    for number, found in enumerate(report.groups, start=1):
        runs = {run.name: run for run in found.group.runs}
        for score in found.scores:
            run = runs[score.run]
            yield (
                number,
                run.name,
                run.model,
                run.seed,
                run.method,
                run.step,
                found.role(run),
                score.task,
                str(score.part),
                score.metric,
                score.value,
                score.low,
                score.high,
                score.rows,
                score.of,
                score.remaining,
                score.subset,
                score.gate,
                run.checkpoint,
                run.task_results[score.task].fingerprint,
            )


def csv_of(report: Report) -> str:
    """`results.csv`: one line for each run, task, part and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for values in score_lines(report):
        writer.writerow([_cell(value) for value in values])
    return buffer.getvalue()


@locked
def write_report(
    report: Report, out: str | Path, title: str = "Unlearning report", pictures: bool = True
) -> Path:
    """Write `report.html`, `report.md` and `results.csv` to a folder; returns the path of the page.

    Raises:
        RememError: one of them cannot be written.
    """
    out = Path(out)
    files = {
        "results.csv": csv_of(report),
        "report.md": markdown_of(report, title),
        "report.html": page_of(report, title, pictures),
    }
    for name, text in files.items():
        try:
            write_whole(out / name, text, errors="replace")
        except OSError as error:
            raise RememError(f"'{out / name}' cannot be written ({error.strerror})") from error
    return out / "report.html"
