"""What a run on UnLOK-VQA trains on: the facts to forget, and the others with their neighbourhood."""

from __future__ import annotations

from remem_tasks.benchmarks.training_rows import PICTURED, training_sets_of
from remem_tasks.benchmarks.unlok.data import FINETUNE, retain_of, training_rows

# Questions of the neighbourhood of forgotten facts are in neither set.
training_sets = training_sets_of(
    "unlok", FINETUNE, retain_of, training_rows, distinct_by=PICTURED, retained_is_part=True
)
