"""What a run on UMU-Bench trains on: a forget config, and the retain config that is its partner."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs
from remem_tasks.benchmarks.umu.data import FINETUNE, check_people, people_of, retain_of, training_rows


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    return sets_of_configs(wanted, "umu", FINETUNE, retain_of, read, check_people, told, people_of)
