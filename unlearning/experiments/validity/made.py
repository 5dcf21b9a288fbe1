"""Start, gold and data of an architecture, made as the demo makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from unlearning.experiments.demo import FULL, demo
from unlearning.experiments.demo import QUICK as QUICK_DEMO
from unlearning.experiments.validity.plan import ValidityPlan

QUICK: dict[str, Any] = {
    "pool": 3,
    "unlearned": 2,
    "methods": ("npo",),
    "rates": (1e-3,),
    "lengths": (2,),
    "looks": (1, 2),
    "max_rows": 6,
    "relearn": "--learning_rate 5e-4 --max_steps 1 --per_device_train_batch_size 4",
}
"""The same steps with next to no training: do they run here?"""


def made(plan: ValidityPlan, arch: str, folder: Path, quick: bool, workers: int) -> ValidityPlan:
    """The plan with the demo's first steps done in `folder`, or found there: its data, `memorised` and `gold`.

    Args:
        plan: its data, start and gold are not read.
        arch: shape of the checkpoint.
        quick: next to no training; the start then memorises nothing.
    """
    for last in ("memorised", "gold"):
        demo(folder, arch, workers, QUICK_DEMO if quick else FULL, until=last)
    models = folder / "models"
    return replace(
        plan, data=str(folder / "data"), start=str(models / "memorised"), gold=str(models / "gold")
    )
