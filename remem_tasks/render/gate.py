"""The gate's verdict as a table for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from remem_tasks.report.thresholds import METRICS
from remem_tasks.report.verdict import MEMORISED, NOT_MEMORISED, UNCLEAR, WHOLE, Cell, Kind, Verdict
from remem_tasks.terminal import clean


def _more(cell: Cell) -> str:
    return "-" if cell.needed is None else f"≥ {cell.needed}"


def table_of(verdict: Verdict, attributes: bool = False) -> Table:
    """Sets and hops, and the attributes that fail in a set that passes (or all of them), in per cent."""
    table = Table(
        title=Text(f"Gate: had '{verdict.model}' memorised? Per cent, with bounds"),
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.title_style = "bold"
    table.add_column("set and part", overflow="fold")
    table.add_column("rows", justify="right", no_wrap=True)
    names: dict[str, dict[str, None]] = {}  # of each threshold, the scores it was asked of
    for one in (one for cell in verdict.cells for one in cell.findings):
        names.setdefault(one.metric, {})[one.name] = None
    metrics = [metric for metric in METRICS if metric in names]
    for metric in metrics:
        needed = getattr(verdict.thresholds, metric)
        heading = f"{', '.join(names[metric])} ≥ {100 * needed:.0f}"
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    words = {
        MEMORISED: ("green", "memorised"),
        NOT_MEMORISED: ("red", "not memorised"),
        UNCLEAR: ("yellow", "too few rows"),
    }
    failed = {cell.task for cell in verdict.cells if cell.fails and cell.part == WHOLE}
    asked = {cell.task for cell in verdict.cells if cell.counts and cell.part == WHOLE}
    for cell in verdict.cells:
        told = cell.fails and cell.task not in failed  # where the set fails, so do most of its attributes
        if cell.part.kind == Kind.ATTRIBUTE and not (attributes or told):
            continue
        found = {one.metric: one for one in cell.findings}
        shown = [
            f"{100 * found[metric].mean:.0f} [dim]{100 * found[metric].low:.0f}–{100 * found[metric].high:.0f}[/]"
            if metric in found
            else "-"
            for metric in metrics
        ]
        whole = cell.part == WHOLE
        part = cell.part.value if cell.part.kind == Kind.ATTRIBUTE else str(cell.part)
        name = f"[bold]{escape(clean(cell.task))}[/]" if whole else f"  {escape(clean(part))}"
        style, word = words[cell.verdict]
        style = "red" if cell.fails else style if cell.counts else "dim"
        table.add_row(
            name + (" *" if not cell.counts and (whole or cell.task in asked) else ""),
            str(cell.rows),
            *shown,
            f"[{style}]{word}[/]" + (f" [dim]({_more(cell)})[/]" if cell.verdict == UNCLEAR else ""),
        )
    notes = ["too few rows: neither shown to be above nor below; in brackets how many would say"]
    if any(not cell.counts for cell in verdict.cells):
        notes.append("*: was not trained on, so it need not be memorised")
    table.caption, table.caption_justify = "\n".join(notes), "left"
    return table
