"""The report in every form: terminal, Markdown, CSV, HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from rich.table import Table
from rich.text import Text

from remem_tasks.benchmarks.view import label_of
from remem_tasks.benchmarks.views import MAINS, OF_SET
from remem_tasks.files import write_whole
from remem_tasks.render.html import page_of
from remem_tasks.report.gate import NOT_MEMORISED
from remem_tasks.report.runs import Run
from remem_tasks.report.statistics import pareto
from remem_tasks.report.summary import EXPOSURES, Findings, Report, Score

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
    "remaining",
    "memorised_rows",
    "gate",
    "checkpoint",
    "fingerprint",
]


def _plain(text: str) -> str:
    """One line without control characters, for terminals and tables."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+", " ", text)


def _markdown(text: str) -> str:
    """Text of others that must stay text in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|#~!&])", r"\\\1", _plain(text))


def _columns(found: Findings) -> Iterator[tuple[str, str, str, str]]:
    """(task, part, metric, heading) of the table that fits a screen."""
    for task, sheets in found.group.sheets.items():
        names = dict.fromkeys(name for _, sheet in sheets for name in sheet.scores)
        first, exposure = sheets[0][1], next((name for name in EXPOSURES if name in names), None)
        name, main, word = "\n".join(wrap(label_of(task), 14)), first.main, first.reading.word
        split_by_target = found.score(sheets[0][0].name, task, main, "forgotten") is not None
        if split_by_target and not first.split.startswith("forget"):
            yield task, "forgotten", main, f"{name}\nforgotten\n{word}"
            if exposure:
                yield task, "forgotten", exposure, f"{name}\nforgotten\nexposure"
            yield task, "kept", main, f"{name}\nkept\n{word}"
            continue
        yield task, "all", main, f"{name}\n{word}"
        if first.split.startswith("forget"):
            if memo := next((one for one in names if one.startswith("memo")), None):
                yield task, "all", memo, f"{name}\nMEMO"
            if exposure:
                yield task, "all", exposure, f"{name}\nexposure"
        elif main == "em":
            yield task, "all", "rougel", f"{name}\nROUGE-L"
        for metric in dict.fromkeys(metric for _, sheet in sheets for metric in sheet.of_set):
            yield task, "all", metric, f"{name}\n{OF_SET.get(metric, metric)}"


def _distance(found: Findings, run: Run) -> str:
    task = next((task for task in found.distances.get(run.name, {}) if "forget" in task), None)
    if task is None:
        return "-"
    sheet = run.sheets[task]
    return f"{found.distances[run.name][task]['ks']:.2f}{_mark(found.score(run.name, task, sheet.main))}"


def _left(score: Score | None) -> str:
    return "-" if score is None or score.remaining is None else f"{score.remaining:.2f}{_mark(score)}"


def _mark(score: Score | None) -> str:
    """The sign of a score whose starting point had not memorised."""
    return " †" if score is not None and score.gate == NOT_MEMORISED else ""


def _forget_task(found: Findings) -> str | None:
    return next((task for task, (one, *_) in found.group.sheets.items() if "forget" in one[1].split), None)


def _table(found: Findings) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """(headings, rows of (value, interval)); the first column is the run's name."""
    columns = list(_columns(found))
    forget = _forget_task(found)
    heads = [heading for *_, heading in columns]
    if forget and found.start:
        sheets = found.group.sheets[forget]
        first = sheets[0][1]
        heads.append(f"{label_of(forget)}\n{first.reading.word} left")
        exposed = [name for name in EXPOSURES if any(name in sheet.scores for _, sheet in sheets)]
        if exposed:
            heads.append(f"{label_of(forget)}\nexposure left")
    if found.distances:
        heads.append("to gold\nKS")
    lines = []
    for run in found.group.runs:
        line = [(run.name + (f" ({role})" if (role := found.role(run)) and role != run.name else ""), "")]
        for task, part, metric, _ in columns:
            score = found.score(run.name, task, metric, part)
            if score is None:
                line.append(("-", ""))
                continue
            span = "" if score.low is None else f"{score.low:.2f}–{score.high:.2f}"
            line.append((f"{score.value:.2f}{_mark(score)}", span))
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


def _urgency(head: str) -> int:
    """What a column says: those that a narrow terminal has no room for go from the last."""
    words = head.replace("\n", " ")
    if words.endswith("ROUGE-L"):
        return 9
    if words.endswith(tuple(OF_SET.values())):
        return 1
    if words.startswith("retain"):
        return 2
    words = re.sub(rf"\b({'|'.join(MAINS.values())})\b", "EM", words)
    for place, end in (
        (4, "exposure left"),
        (8, "EM left"),
        (5, "KS"),
        (3, "kept EM"),
        (6, "forgotten exposure"),
    ):
        if words.endswith(end):
            return place
    return {"EM": 0 if "forgotten" not in words else 7, "exposure": 1}.get(words.split()[-1], 7)


def _fitting(heads: list[str], width: int) -> list[int]:
    """The places of the columns that fit, in their order."""
    left, kept = width - 22, []
    for place in sorted(range(len(heads)), key=lambda place: (_urgency(heads[place]), place)):
        left -= max(9, *map(len, heads[place].split("\n"))) + 3
        if left < 0:
            break
        kept.append(place)
    return sorted(kept)


def tables(report: Report, width: int = 200) -> Iterator[Table | Text]:
    """What `remem report` prints on a terminal of that many columns."""
    for number, found in enumerate(report.groups, start=1):
        apart = f", group {number} of {len(report.groups)}" if len(report.groups) > 1 else ""
        table = Table(title=f"Unlearning report{apart}", title_style="bold")
        heads, lines = _table(found)
        kept = _fitting(heads, width)
        table.add_column("model", max_width=24)
        for place in kept:
            table.add_column(heads[place], justify="right", no_wrap=True)
        for line in lines:
            cells = [Text(_plain(line[0][0]))]
            for value, interval in (line[1 + place] for place in kept):
                cell = Text(value, style="red" if "†" in value else "")
                cells.append(cell.append(f"\n{interval}", style="dim") if interval else cell)
            table.add_row(*cells)
        yield table
        yield Text(
            _plain(gate_line(found)), style="red" if found.verdict and not found.verdict.passed else ""
        )


def gate_line(found: Findings) -> str:
    """What the gate says, in one line."""
    if found.verdict is None:
        return "Gate: not asked, as no starting model is among these runs (--start RUN)"
    if found.verdict.passed:
        return f"Gate: passed. '{found.verdict.model}' had memorised what was to be forgotten"
    return (
        f"Gate: NOT passed (†): '{found.verdict.model}' had not memorised "
        + "; ".join(reason.split(": not")[0].split(": too")[0] for reason in found.verdict.reasons[:4])
        + (" …" if len(found.verdict.reasons) > 4 else "")
        + ". Scores so marked say nothing about forgetting"
    )


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
    for number, found in enumerate(report.groups, start=1):
        if len(report.groups) > 1:
            lines += [f"## Group {number}", ""] + (
                [_markdown(found.group.why), ""] if found.group.why else []
            )
        heads, rows = _table(found)
        cells = [
            [_markdown(line[0][0]), *(f"{value} ({span})" if span else value for value, span in line[1:])]
            for line in rows
        ]
        lines += _pipes(["model", *(head.replace("\n", " ") for head in heads)], cells)
        lines += ["", "Forget sets: lower is less remembered. In brackets: 95 % interval over rows.", ""]
        lines += [_markdown(gate_line(found)), ""]
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


def _front(found: Findings) -> str:
    """The models that no other beats in forgetting and keeping, as a sentence."""
    forget, sets = _forget_task(found), found.group.sheets
    keep = next((task for task, (one, *_) in sets.items() if one[1].split.startswith("retain")), None)
    if forget is None or keep is None:
        return ""
    points, kept = {}, sets[keep][0][1]
    word, across = ("exposure", EXPOSURES) if kept.main == "em" else (kept.reading.word, (kept.main,))
    for run in found.group.runs:
        x = next((one for name in across if (one := found.score(run.name, forget, name))), None)
        y = found.score(run.name, keep, kept.main)
        if x and y and not found.role(run):
            points[run.name] = (x.value, y.value)
    if not points:
        return ""
    names = ", ".join(_markdown(name) for name in pareto(points))
    return f"Pareto front ({word} of {label_of(forget)} against {kept.reading.word} of {label_of(keep)}): {names}"


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
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value[:1] else value


def csv_of(report: Report) -> str:
    """`results.csv`: one line for each run, task, part and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for number, found in enumerate(report.groups, start=1):
        runs = {run.name: run for run in found.group.runs}
        for score in found.scores:
            run = runs[score.run]
            values = (
                number,
                run.name,
                run.model,
                run.seed,
                run.method,
                run.step,
                found.role(run),
                score.task,
                score.part,
                score.metric,
                score.value,
                score.low,
                score.high,
                score.rows,
                score.remaining,
                score.subset,
                score.gate,
                run.checkpoint,
                run.sheets[score.task].fingerprint,
            )
            writer.writerow([_cell(value) for value in values])
    return buffer.getvalue()


def write_report(
    report: Report, out: str | Path, title: str = "Unlearning report", pictures: bool = True
) -> Path:
    """Write `report.html`, `report.md` and `results.csv` to a folder; returns the path of the page."""
    out = Path(out)
    files = {
        "results.csv": csv_of(report),
        "report.md": markdown_of(report, title),
        "report.html": page_of(report, title, pictures),
    }
    for name, text in files.items():
        write_whole(out / name, text, errors="replace")
    return out / "report.html"
