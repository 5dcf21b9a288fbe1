"""Stage 1's gate: was there anything to forget?

Unlearning scores mean nothing where the model had not memorised. For each set, and in it for each hop and
attribute (or kind of question), EM (or what stands for it), MEMO and exposure of the starting model are
held against thresholds with confidence bounds. Questions of a kind that training never asks decide nothing.
A set passes when it is *shown* to be above (the lower bound is); one of its hops or attributes fails the
gate when it is *shown* to be below (the upper bound is). Between the two a cell has too few rows to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from remem_tasks.errors import RememError
from remem_tasks.report.runs import Run, Sheet, read_runs
from remem_tasks.report.statistics import wilson
from remem_tasks.report.thresholds import METRICS, Thresholds

MEMORISED, NOT_MEMORISED, UNCLEAR = "memorised", "not memorised", "too few rows to say"


@dataclass(frozen=True)
class Finding:
    """One metric of a cell: its mean, one-sided bounds, threshold and what they say.

    Attributes:
        metric: whose threshold it is.
        score: what it is called where that is not EM (`rouge`, `answered`).
    """

    metric: str
    mean: float
    low: float
    high: float
    threshold: float
    score: str = ""

    @property
    def name(self) -> str:
        return self.score or self.metric

    @property
    def verdict(self) -> str:
        if self.low >= self.threshold:
            return MEMORISED
        return NOT_MEMORISED if self.high < self.threshold else UNCLEAR


@dataclass(frozen=True)
class Cell:
    """One set (`part` "all"), or one hop or attribute of it.

    Attributes:
        counts: whether the verdict of the gate depends on it.
    """

    task: str
    part: str
    rows: int
    findings: tuple[Finding, ...]
    counts: bool = True

    @property
    def verdict(self) -> str:
        found = [finding.verdict for finding in self.findings]
        if NOT_MEMORISED in found:
            return NOT_MEMORISED
        return UNCLEAR if UNCLEAR in found else MEMORISED

    @property
    def fails(self) -> bool:
        """A set has to be shown to be memorised; a part of one must not be shown not to be."""
        return self.counts and (
            self.verdict != MEMORISED if self.part == "all" else self.verdict == NOT_MEMORISED
        )

    def why(self) -> str:
        """One line: the metrics that decided."""
        decided = [one for one in self.findings if one.verdict == self.verdict]
        bound = {MEMORISED: "at least", NOT_MEMORISED: "at most", UNCLEAR: "between"}
        told = []
        for one in decided:
            edge = {
                MEMORISED: f"{one.low:.2f}",
                NOT_MEMORISED: f"{one.high:.2f}",
                UNCLEAR: f"{one.low:.2f} and {one.high:.2f}",
            }[one.verdict]
            told.append(
                f"{one.name} {one.mean:.2f} ({bound[one.verdict]} {edge}; needed {one.threshold:.2f})"
            )
        return f"{self.task}, {self.part}: {self.verdict}: {', '.join(told)}, {self.rows} rows"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a model.

    Attributes:
        cells: every set, hop and attribute.
        missing: what could not be judged, and why.
    """

    model: str
    thresholds: Thresholds
    cells: tuple[Cell, ...]
    missing: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not any(cell.fails for cell in self.cells)

    @property
    def reasons(self) -> list[str]:
        """A line for each set or hop that fails, and for each attribute where its set does not."""
        failed = {cell.task for cell in self.cells if cell.fails and cell.part == "all"}
        return [
            cell.why()
            for cell in self.cells
            if cell.fails and not (cell.task in failed and cell.part.startswith("attribute"))
        ]

    def cell(self, task: str, part: str = "all") -> Cell | None:
        return next((cell for cell in self.cells if (cell.task, cell.part) == (task, part)), None)

    def record(self) -> dict:
        """What a run record or a report keeps."""
        return {
            "model": self.model,
            "passed": self.passed,
            "reasons": self.reasons,
            "missing": list(self.missing),
            "thresholds": vars(self.thresholds).copy(),
        }


def trained_on(split: str) -> bool:
    """Whether a set has to be memorised: what was trained on; `test` and the real world were not."""
    return split.startswith(("forget", "retain", "full")) or split == "finetune"


TARGETS = ("forgotten", "kept")


def parts_of(sheet: Sheet) -> dict[str, np.ndarray]:
    """The parts of a sheet by hop, attribute and target: name → (N,) booleans."""
    parts: dict[str, np.ndarray] = {}
    for kind, values in (
        ("hop", [row.hop for row in sheet.rows]),
        ("attribute", [row.attribute for row in sheet.rows]),
        ("target", [TARGETS[not row.forgotten] for row in sheet.rows]),
    ):
        found = sorted(set(values))
        if kind == "target" and len(found) < 2:
            continue
        for value in found:
            if kind == "hop" and not value:
                continue
            name = f"{value}-hop" if kind == "hop" else f"attribute {value}" if kind == "attribute" else value
            parts[name] = np.array([one == value for one in values])
    return parts


def _kind(part: str) -> str:
    if part.startswith("attribute "):
        return "attribute"
    return "target" if part in TARGETS else "hop"


def _cell(
    sheet: Sheet, part: str, keep: np.ndarray | None, limits: Thresholds, counted: bool, m: int = 1
) -> Cell | None:
    """`m`: how many such parts are judged at once; the error rate is shared among them (Bonferroni)."""
    confidence = 1 - (1 - limits.confidence) / m
    findings, rows = [], 0
    for metric in METRICS:
        score = sheet.main if metric == "em" else metric
        values = sheet.scores.get(score)
        if values is None:
            continue
        known = ~np.isnan(values) if keep is None else keep & ~np.isnan(values)
        if not known.any():
            continue
        rows, mean = max(rows, int(known.sum())), float(values[known].mean())
        low, high = wilson(mean, int(known.sum()), confidence, sides=1)
        findings.append(Finding(metric, mean, low, high, getattr(limits, metric), score))
    return Cell(sheet.task, part, rows, tuple(findings), counted) if findings else None


def judge(run: Run, thresholds: Thresholds | None = None) -> Verdict:
    """The gate's verdict of a run, set by set.

    Raises:
        RememError: the run holds no set that has to be memorised.
    """
    limits = thresholds or Thresholds()
    judged = {task: trained_on(one.split) and bool(one.trained.any()) for task, one in run.sheets.items()}
    if not any(judged.values()):
        raise RememError(
            f"'{run.name}' was scored on {', '.join(run.sheets)} only: the gate needs a set that was trained "
            "on (remem_forget1, remem_retain, clear_forget10 …)"
        )
    cells, missing = [], []
    for task, sheet in run.sheets.items():
        counted = judged[task]
        for metric in sheet.reading.judged:
            if metric not in sheet.scores:
                why = sheet.missing.get(metric, "not asked for")
                missing.append(f"{sheet.task}: {metric} was not measured ({why}), so it decides nothing")
        cells.append(_cell(sheet, "all", sheet.trained if counted else None, limits, counted))
        parts = parts_of(sheet)
        for kind in ("hop", "attribute", "target"):
            own = {name: keep for name, keep in parts.items() if _kind(name) == kind}
            asked = {name: counted and bool(sheet.trained[keep].any()) for name, keep in own.items()}
            tests = sum(asked.values()) or len(own)
            cells += [_cell(sheet, name, keep, limits, asked[name], tests) for name, keep in own.items()]
    return Verdict(run.name, limits, tuple(cell for cell in cells if cell is not None), tuple(missing))


def gate_of(results: str | Path | Run, thresholds: Thresholds | None = None) -> Verdict:
    """The gate's verdict of a starting model.

    Args:
        results: a run, its results file, or the `--output_path` it was scored to.

    Raises:
        RememError: no results, results of several models, or nothing that has to be memorised.
    """
    if not isinstance(results, Run):
        runs = read_runs([str(results)])
        if len(runs) > 1:
            raise RememError(
                f"'{results}' holds the results of {len(runs)} models ({', '.join(run.name for run in runs)}); "
                "the gate is asked of one"
            )
        results = runs[0]
    return judge(results, thresholds)


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
        UNCLEAR: ("yellow", "unclear"),
    }
    failed = {cell.task for cell in verdict.cells if cell.fails and cell.part == "all"}
    asked = {cell.task for cell in verdict.cells if cell.counts and cell.part == "all"}
    for cell in verdict.cells:
        told = cell.fails and cell.task not in failed  # where the set fails, so do most of its attributes
        if cell.part.startswith("attribute") and not (attributes or told):
            continue
        found = {one.metric: one for one in cell.findings}
        shown = [
            f"{100 * found[metric].mean:.0f} [dim]{100 * found[metric].low:.0f}–{100 * found[metric].high:.0f}[/]"
            if metric in found
            else "-"
            for metric in metrics
        ]
        whole = cell.part == "all"
        name = (
            f"[bold]{escape(cell.task)}[/]" if whole else f"  {escape(cell.part.removeprefix('attribute '))}"
        )
        style, word = words[cell.verdict]
        style = "red" if cell.fails else style if cell.counts else "dim"
        table.add_row(
            name + (" *" if not cell.counts and (whole or cell.task in asked) else ""),
            str(cell.rows),
            *shown,
            f"[{style}]{word}[/]",
        )
    notes = ["unclear: too few rows to say"]
    if any(not cell.counts for cell in verdict.cells):
        notes.append("*: was not trained on, so it need not be memorised")
    table.caption, table.caption_justify = "\n".join(notes), "left"
    return table
