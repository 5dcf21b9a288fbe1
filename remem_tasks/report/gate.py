"""Stage 1's gate: was there anything to forget?

Unlearning scores mean nothing where the model had not memorised. For each set, and in it for each hop and
attribute (or kind of question), EM (or what stands for it), MEMO and exposure of the starting model are
held against thresholds with confidence bounds. Questions of a kind that training never asks decide nothing.
A set passes when it is *shown* to be above (the lower bound is); one of its hops or attributes fails the
gate when it is *shown* to be below (the upper bound is). Between the two a cell has too few rows to say.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from remem_tasks.errors import RememError, TooFewRows
from remem_tasks.report.model_run import Run, TaskResult
from remem_tasks.report.runs import read_runs
from remem_tasks.report.statistics import wilson
from remem_tasks.report.thresholds import METRICS, Thresholds
from remem_tasks.terminal import clean

MOST_ROWS = 1_000_000  # that are looked for when it is said how many would do


class Outcome(StrEnum):
    """What a metric, a cell or the whole gate says."""

    MEMORISED = "memorised"
    NOT_MEMORISED = "not memorised"
    UNCLEAR = "too few rows to say"


MEMORISED, NOT_MEMORISED, UNCLEAR = Outcome


class Kind(StrEnum):
    """By what a part is taken out of a set."""

    ALL = "all"
    HOP = "hop"
    ATTRIBUTE = "attribute"
    TARGET = "target"


@dataclass(frozen=True)
class Part:
    """A whole set, or its rows of one hop, attribute or target."""

    kind: Kind = Kind.ALL
    value: str = ""

    def __str__(self) -> str:
        """`all`, `2-hop`, `attribute city`, `forgotten`: as tables and results.csv have it."""
        return {
            Kind.ALL: "all",
            Kind.HOP: f"{self.value}-hop",
            Kind.ATTRIBUTE: f"attribute {self.value}",
            Kind.TARGET: self.value,
        }[self.kind]


WHOLE = Part()


def bounds_of(mean: float, rows: int, confidence: float, losses: float | None = None) -> tuple[float, float]:
    """One-sided Wilson bounds of a mean over rows.

    Args:
        losses: of a gap, a mean of differences in [-1, 1], the mean of those below 0, as a number above 0. Gains
            (mean + losses) and losses then have a bound each, with half the error rate.
    """
    if losses is None:
        return wilson(mean, rows, confidence, sides=1)
    confidence = 1 - (1 - confidence) / 2
    gains, losses = (
        wilson(min(max(one, 0.0), 1.0), rows, confidence, sides=1) for one in (mean + losses, losses)
    )
    return gains[0] - losses[1], gains[1] - losses[0]


@dataclass(frozen=True)
class Finding:
    """One metric of a cell: its mean, one-sided bounds, threshold and what they say.

    Attributes:
        metric: whose threshold it is.
        score: what it is called where that is not EM (`rouge`, `answered`).
        rows, confidence, losses: what the bounds stand on (`bounds_of`).
    """

    metric: str
    mean: float
    low: float
    high: float
    threshold: float
    score: str = ""
    rows: int = 0
    confidence: float = 0.95
    losses: float | None = None

    @property
    def name(self) -> str:
        return self.score or self.metric

    @property
    def verdict(self) -> Outcome:
        if self.low >= self.threshold:
            return MEMORISED
        return NOT_MEMORISED if self.high < self.threshold else UNCLEAR

    @property
    def needed(self) -> int | None:
        """With how many rows at least such a mean would say something; None if with none (it is the threshold)."""

        def says(rows: int) -> bool:
            low, high = bounds_of(self.mean, rows, self.confidence, self.losses)
            return low >= self.threshold or high < self.threshold

        least, most = 0, max(self.rows, 1)
        while not says(most):
            least, most = most, 2 * most
            if most > MOST_ROWS:
                return None
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (least, middle) if says(middle) else (middle, most)
        return most


@dataclass(frozen=True)
class Cell:
    """One set, or one hop or attribute of it.

    Attributes:
        counts: whether the verdict of the gate depends on it.
    """

    task: str
    part: Part
    rows: int
    findings: tuple[Finding, ...]
    counts: bool = True

    @property
    def verdict(self) -> Outcome:
        found = [finding.verdict for finding in self.findings]
        if NOT_MEMORISED in found:
            return NOT_MEMORISED
        return UNCLEAR if UNCLEAR in found else MEMORISED

    @property
    def fails(self) -> bool:
        """A set has to be shown to be memorised; a part of one must not be shown not to be."""
        return self.counts and (
            self.verdict != MEMORISED if self.part == WHOLE else self.verdict == NOT_MEMORISED
        )

    @property
    def place(self) -> str:
        return f"{self.task}, {self.part}"

    @property
    def needed(self) -> int | None:
        """How many rows at least would say something where these are too few; None where more would not help."""
        needed = [one.needed for one in self.findings if one.verdict == UNCLEAR]
        return None if not needed or None in needed else max(needed)

    def outcome(self) -> str:
        """The verdict in words; of too few rows, how many are needed."""
        if self.verdict != UNCLEAR:
            return str(self.verdict)
        more = "no number of rows would tell" if self.needed is None else f"at least {self.needed} are needed"
        return f"{UNCLEAR} ({self.rows}; {more})"

    def why(self) -> str:
        """One line: the metrics that decided."""
        told = []
        for one in self.findings:
            if one.verdict != self.verdict:
                continue
            edge = {
                MEMORISED: f"at least {one.low:.2f}",
                NOT_MEMORISED: f"at most {one.high:.2f}",
                UNCLEAR: f"between {one.low:.2f} and {one.high:.2f}",
            }[one.verdict]
            told.append(f"{one.name} {one.mean:.2f} ({edge}; needed {one.threshold:.2f})")
        return f"{self.place}: {self.outcome()}: {', '.join(told)}, {self.rows} rows"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a model.

    Attributes:
        cells: every set, hop and attribute.
        missing: what could not be judged, and why.
        notes: what has to be known of the numbers: fewer rows than the set has, samples that nothing binds.
    """

    model: str
    thresholds: Thresholds
    cells: tuple[Cell, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.outcome == MEMORISED

    @property
    def outcome(self) -> Outcome:
        """Not memorised where anything is shown not to be; too few rows where that alone is in the way."""
        failed = {cell.verdict for cell in self.cells if cell.fails}
        return NOT_MEMORISED if NOT_MEMORISED in failed else UNCLEAR if failed else MEMORISED

    @property
    def failing(self) -> list[Cell]:
        """Each set or hop that fails, and each attribute where its set does not."""
        failed = {cell.task for cell in self.cells if cell.fails and cell.part == WHOLE}
        return [
            cell
            for cell in self.cells
            if cell.fails and not (cell.task in failed and cell.part.kind == Kind.ATTRIBUTE)
        ]

    @property
    def reasons(self) -> list[str]:
        """A line for each cell that fails."""
        return [cell.why() for cell in self.failing]

    def cell(self, task: str, part: Part = WHOLE) -> Cell | None:
        return next((cell for cell in self.cells if (cell.task, cell.part) == (task, part)), None)

    def advice(self) -> str:
        """What to do about a gate that was not passed."""
        if self.outcome == UNCLEAR:
            needed = [cell.needed for cell in self.failing]
            if None in needed:
                return (
                    "the means are at the thresholds: train stage 1 longer, or set thresholds apart from them"
                )
            return (
                f"score sets of at least {max(needed)} rows (a larger --limit, or none; more questions about each "
                "person; more people to forget), not more training"
            )
        return "train stage 1 longer, or see `remem diagnose`"

    def check(self) -> None:
        """Raises TooFewRows or RememError where the gate was not passed."""
        if self.outcome == UNCLEAR:
            raise TooFewRows(
                f"{'; '.join(cell.place + ': ' + cell.outcome() for cell in self.failing[:3])}: nobody can tell "
                f"whether '{self.model}' had memorised: {self.advice()}"
            )
        if not self.passed:
            raise RememError(
                f"'{self.model}' had not memorised: unlearning scores of it would say nothing. "
                f"{self.advice().capitalize()}"
            )

    def record(self) -> dict:
        """What a run record or a report keeps."""
        return {
            "model": self.model,
            "passed": self.passed,
            "outcome": str(self.outcome),
            "reasons": self.reasons,
            "missing": list(self.missing),
            "thresholds": asdict(self.thresholds),
        }


def trained_on(split: str) -> bool:
    """Whether a set has to be memorised: what was trained on; `test` and the real world were not."""
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
