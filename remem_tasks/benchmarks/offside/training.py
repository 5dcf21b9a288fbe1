"""What a run on OFFSIDE trains on: pictures to forget with all their facts, or with the private ones; and the others."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.offside.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`. `finetune` may be `relearn`, for the attack of that name."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    # One player's shared facts are the same in all pictures: what is to be forgotten is one of a picture.
    distinct_by = ("question", "answer", "image_path")
    return sets_of_configs(wanted, "offside", FINETUNE, retain_of, read, told=told, distinct_by=distinct_by)
