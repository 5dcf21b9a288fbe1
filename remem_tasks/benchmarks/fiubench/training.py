"""What a run on FIUBench trains on: a forget set, and everybody outside all three of them."""

from __future__ import annotations

from remem_tasks.benchmarks.fiubench.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import training_sets_of

training_sets = training_sets_of("fiubench", FINETUNE, retain_of, training_rows)
