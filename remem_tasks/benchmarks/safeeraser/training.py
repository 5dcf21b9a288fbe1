"""What a run on SafeEraser trains on: the unsafe answers to forget, and the harmless ones, with the decoys or without."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.safeeraser.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    return sets_of_configs(
        wanted,
        "safeeraser",
        FINETUNE,
        retain_of,
        read,
        told=told,
        distinct_by=("question", "answer", "image_path"),
        retained_is_part=True,  # decoys are in neither set, unless they are kept beside `forget_pd`
    )
