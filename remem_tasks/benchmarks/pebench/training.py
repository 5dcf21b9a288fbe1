"""What a run on PEBench trains on: people or events to forget, and the others."""

from __future__ import annotations

from remem_tasks.benchmarks.pebench.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import PICTURED, training_sets_of

# Who is shown is forgotten, what happens there is not, and the other way round.
training_sets = training_sets_of(
    "pebench", FINETUNE, retain_of, training_rows, distinct_by=PICTURED, retained_is_part=True
)
