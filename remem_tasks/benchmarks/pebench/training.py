"""What a run on PEBench trains on: people or events to forget, and the others."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.pebench.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    # Who is shown is forgotten, what happens there is not, and the other way round.
    distinct_by = ("question", "answer", "image_path")
    return sets_of_configs(
        wanted,
        "pebench",
        FINETUNE,
        retain_of,
        read,
        told=told,
        distinct_by=distinct_by,
        retained_is_part=True,
    )
