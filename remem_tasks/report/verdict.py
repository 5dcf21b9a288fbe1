"""What the gate says: of a metric, of a set or a part of one, of a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

from remem_tasks.errors import RememError, TooFewRows
from remem_tasks.report.statistics import wilson
from remem_tasks.report.thresholds import Thresholds

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
