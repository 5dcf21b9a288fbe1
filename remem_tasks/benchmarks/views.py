"""How gate and report read the samples of every benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from remem_tasks.benchmarks.registry import NAMES, part_of
from remem_tasks.benchmarks.view import Reading

READINGS: dict[str, Reading] = {name: part_of(name, "view").VIEW for name in NAMES}
MAINS = {one.column: one.word for one in READINGS.values()}
"""The main scores, and what tables call them."""
OF_SET = {"visual_gap": "visual gap"} | {
    name: word for one in READINGS.values() for name, word in one.of_set.items()
}
"""Scores that only a whole set has, and what the papers call them."""


def reading_of(metrics: Mapping) -> Reading | None:
    """The reading of a task by its metrics; None where no benchmark here has them."""
    return next((one for one in READINGS.values() if one.rows in metrics), None)
