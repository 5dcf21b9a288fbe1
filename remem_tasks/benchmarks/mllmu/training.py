"""What a run on MLLMU-Bench trains on: a forget config, and the retain config that is its partner."""

from __future__ import annotations

from remem_tasks.benchmarks.mllmu.data import FINETUNE, check_people, people_of, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import training_sets_of

training_sets = training_sets_of(
    "mllmu", FINETUNE, retain_of, training_rows, check_people=check_people, people_of=people_of
)
