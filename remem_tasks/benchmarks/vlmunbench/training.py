"""What a run on VLM-UnBench trains on: items of the concepts to forget, and of those that are kept."""

from __future__ import annotations

from functools import partial

from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted, sets_of_configs
from remem_tasks.benchmarks.vlmunbench.data import FINETUNE, retain_of, training_rows


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`."""
    told: list[str] = []
    read = partial(training_rows, choice=wanted.faults, told=told)
    distinct_by = ("question", "answer", "image_path")
    return sets_of_configs(
        wanted, "vlmunbench", FINETUNE, retain_of, read, told=told, distinct_by=distinct_by
    )
