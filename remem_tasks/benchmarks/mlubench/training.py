"""What a run on MLUBench trains on: the entities of one task to forget, and those it keeps."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.mlubench.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    # Of a class with one wording, a question and its answer may be asked of two entities.
    distinct_by = ("question", "answer", "image_path")
    return sets_of_configs(
        wanted,
        "mlubench",
        FINETUNE,
        retain_of,
        read,
        told=told,
        distinct_by=distinct_by,
        retained_is_part=True,  # the entities of the other three tasks are in neither set
    )
