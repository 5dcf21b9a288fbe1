"""What a run on OFFSIDE trains on: pictures to forget with all their facts, or with the private ones; and the others."""

from __future__ import annotations

from remem_tasks.benchmarks.offside.data import FINETUNE, retain_of, training_rows
from remem_tasks.benchmarks.training_rows import PICTURED, training_sets_of

# `finetune` may be `relearn`, for the attack of that name. One player's shared facts are the same in all pictures:
# what is to be forgotten is one of a picture.
training_sets = training_sets_of("offside", FINETUNE, retain_of, training_rows, distinct_by=PICTURED)
