"""What a run trains on: rows of `finetune`, and the forget set whose people they are without."""

from __future__ import annotations

import datasets

from remem_tasks.benchmarks.remem.data import FINETUNE, load_split, retain_rows
from remem_tasks.benchmarks.remem.perturbed import load_perturbed, perturbed_files
from remem_tasks.benchmarks.remem.validate import table_faults
from remem_tasks.benchmarks.training_rows import TrainingRows, Wanted
from remem_tasks.data.faults import settle
from remem_tasks.errors import RememError


def training_sets(wanted: Wanted) -> TrainingRows:
    """What a run trains on; see `Wanted`.

    Raises:
        RememError: no such split, a split without rows, a faulty row, nothing left to retain.
    """
    if wanted.modality != "joint":
        raise RememError(
            f"--modality {wanted.modality} is for CLEAR and MLLMU-Bench: every row of ReMem has a picture"
        )

    def load(split: str) -> datasets.Dataset:
        rows = load_split(wanted.source, split, wanted.identity_rule)
        if not len(rows):
            raise RememError(f"split '{split}' has no rows")
        return rows

    def judged(*tables: datasets.Dataset) -> str:
        return settle(table_faults(tables), wanted.faults, wanted.source)

    memorised = load(wanted.finetune or FINETUNE)
    if wanted.rows_from == "finetune":
        return TrainingRows(memorised, None, None, "remem", faults=judged(memorised))
    to_forget = load(wanted.forget)
    kept = retain_rows(memorised, to_forget)
    told = judged(kept, to_forget)
    if wanted.rows_from == "retain":
        return TrainingRows(kept, None, None, "remem", faults=told)
    beside = None
    if wanted.alternatives and wanted.forget in perturbed_files(wanted.source):
        table = load_perturbed(wanted.source, wanted.forget)
        beside = dict(zip(to_forget["row_id"][:], table["perturbed_answer"][:]))
    return TrainingRows(to_forget, to_forget, kept, "remem", beside, faults=told)
