"""What a run on VLM-UnBench trains on: items of the concepts to forget, and of those that are kept."""

from __future__ import annotations

from remem_tasks.benchmarks.training_rows import PICTURED, training_sets_of
from remem_tasks.benchmarks.vlmunbench.data import FINETUNE, retain_of, training_rows

training_sets = training_sets_of("vlmunbench", FINETUNE, retain_of, training_rows, distinct_by=PICTURED)
