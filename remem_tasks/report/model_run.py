"""What reports know of a model: its runs, their tasks, and row by row what was asked and said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from remem_tasks.benchmarks.view import RATES, BenchmarkView
from remem_tasks.benchmarks.views import SPREADS
from remem_tasks.metrics.refusal import Status


@dataclass(frozen=True, slots=True)
class Row:
    """What was asked; the same for every model.

    Attributes:
        hop: 0 where the benchmark has none.
        attribute: of ReMem's rows; else the kind of question.
        trained: whether training asks this kind of question.
    """

    row_id: str
    identity: str
    hop: int
    attribute: str
    category: str
    forgotten: bool
    question: str
    answer: str
    picture: str
    trained: bool = True


@dataclass(frozen=True, slots=True)
class RowReply:
    """What one model said to one row.

    Attributes:
        text: the greedy reply.
        ranks: Ĝ of each secret; empty where exposure was not measured.
        bits: −log2 P of each secret, None where the model cannot say it at all.
        guesses: for each secret the likeliest guesses as (text, ln p).
    """

    text: str
    ranks: tuple[int, ...] = ()
    bits: tuple[float | None, ...] = ()
    guesses: tuple[tuple[tuple[str, float], ...], ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """One task of one run.

    Attributes:
        benchmark_view: of its benchmark.
        rows, replies: N of each, in the order of row ids.
        scores: metric without the benchmark's name → (N,) values; NaN = not measured on that row.
        of_set: scores that only a whole set has, such as CLEAR's forget quality.
        means: the results file's own numbers, by their full names.
        missing: why a score is not available.
        generation: how replies were made; see `settings.generation_of`.
        statuses: (N,) how each row's request ended.
    """

    task: str
    benchmark_view: BenchmarkView
    split: str
    data: str
    fingerprint: str
    suite: Mapping
    missing: Mapping[str, str]
    rows: tuple[Row, ...]
    replies: tuple[RowReply, ...]
    scores: Mapping[str, np.ndarray]
    of_set: Mapping[str, float]
    means: Mapping[str, float]
    generation: Mapping = field(default_factory=dict)
    statuses: tuple[Status, ...] = ()

    @property
    def main(self) -> str:
        """The score that says whether the answer was given; every row has it."""
        return self.benchmark_view.column

    @property
    def metrics(self) -> list[str]:
        """The scores that say what the model knows, the main one first."""
        return sorted((name for name in self.scores if name not in RATES), key=lambda name: name != self.main)

    @property
    def tabled(self) -> list[str]:
        """The names in `of_set` that tables have a column for."""
        return [name for name in self.of_set if name not in SPREADS]

    @cached_property
    def trained(self) -> np.ndarray:
        """(N,) booleans: rows of a kind that training asks."""
        return np.array([row.trained for row in self.rows])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(row.row_id for row in self.rows)

    @property
    def rollouts(self) -> int:
        return int(self.suite.get("rollouts", 64))

    def mean(self, metric: str, keep: np.ndarray | None = None) -> float | None:
        """Mean over the rows that have the metric; None if none has.

        Args:
            keep: (N,) booleans, the rows to take.
        """
        values = self.scores.get(metric)
        if values is None:
            return None
        values = values[~np.isnan(values)] if keep is None else values[keep & ~np.isnan(values)]
        return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class Run:
    """All tasks of one model.

    Attributes:
        name: unique among the runs read together.
        model: what several seeds share; else the name.
        checkpoint: as the harness was given it.
        record: the checkpoint's `run.json`, if it is on this machine; else empty.
        weights: digest of the weights that were scored; None where the results name none.
        step: of a checkpoint in the course of a training, by its folder's name; None for a final one.
    """

    name: str
    model: str
    file: Path
    checkpoint: str
    date: str
    record: Mapping
    step: int | None
    task_results: Mapping[str, TaskResult]
    notes: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def method(self) -> str | None:
        method = self.record.get("method")
        return method if isinstance(method, str) else None

    @property
    def steps(self) -> int | None:
        """How many steps it was trained: of a checkpoint in the course of a training, up to it."""
        steps = self.step if self.step is not None else self.record.get("steps")
        return steps if isinstance(steps, int) else None

    @property
    def stopped(self) -> str | None:
        """Why its training ended, in the words of its record."""
        stopped = self.record.get("stopped")
        return stopped if isinstance(stopped, str) and self.step is None else None

    @property
    def seed(self) -> int | None:
        seed = self.record.get("seed")
        return seed if isinstance(seed, int) else None
