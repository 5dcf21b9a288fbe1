"""What a run on SafeEraser trains on: the unsafe answers to forget, and the harmless ones, with the decoys or without."""

from __future__ import annotations

from remem_tasks.benchmarks.safeeraser.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import PICTURED, training_sets_of

# Decoys are in neither set, unless they are kept beside `forget_pd`.
training_sets = training_sets_of(
    "safeeraser", FINETUNE, retain_of, training_rows, distinct_by=PICTURED, retained_is_part=True
)
