"""What a run on MLUBench trains on: the entities of one task to forget, and those it keeps."""

from __future__ import annotations

from remem_tasks.benchmarks.mlubench.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import PICTURED, training_sets_of

# Of a class with one wording, a question and its answer may be asked of two entities; those of the other three tasks are
# in neither set.
training_sets = training_sets_of(
    "mlubench", FINETUNE, retain_of, training_rows, distinct_by=PICTURED, retained_is_part=True
)
