"""What a run on UnLOK-VQA trains on: the facts to forget, and the others with their neighbourhood."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs
from remem_tasks.benchmarks.unlok.data import FINETUNE, retain_of, training_rows


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    return sets_of_configs(
        wanted,
        "unlok",
        FINETUNE,
        retain_of,
        read,
        told=told,
        distinct_by=("question", "answer", "image_path"),
        retained_is_part=True,  # questions of the neighbourhood of forgotten facts are in neither set
    )
