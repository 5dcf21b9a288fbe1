"""How gate and report read the samples of every benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from remem_tasks.benchmarks.registry import NAMES, part_of
from remem_tasks.benchmarks.view import BenchmarkView

VIEWS: dict[str, BenchmarkView] = {name: part_of(name, "view").VIEW for name in NAMES}
MAINS = {one.column: one.word for one in VIEWS.values()}
"""The main scores, and what tables call them."""
OF_SET = {"visual_gap": "visual gap"} | {
    name: word for one in VIEWS.values() for name, word in one.of_set.items()
}
"""Scores that only a whole set has, and what the papers call them."""
NUMBERS = frozenset(name for one in VIEWS.values() for name in one.numbers)
"""Those of them that are no shares."""
SPREADS = {"rollout_sd"}
"""How far another one varies: for a file of all numbers, no column of a table."""


def view_for(metrics: Mapping) -> BenchmarkView | None:
    """The reading of a task by its metrics; None where no benchmark here has them."""
    return next((one for one in VIEWS.values() if one.rows in metrics), None)
