"""What a run on FIUBench trains on: a forget set, and everybody outside all three of them."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.fiubench.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    return sets_of_configs(wanted, "fiubench", FINETUNE, retain_of, read, told=told)
