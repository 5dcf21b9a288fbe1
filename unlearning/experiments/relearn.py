"""Relearning: does a little training bring back what was not in it?

The rows of some of the forgotten people (of one person alone: of some of the facts) are learned again, and the others
are asked. What the learned rows say in so many words is not asked. The gold model is trained alike: what it then
says, it has learned or guessed.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets

from remem_tasks.attacks.outcome import NotAvailable
from remem_tasks.attacks.people import Row, tells
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.seeds import row_seed
from unlearning import weights as checkpoint
from unlearning.data import Encoder
from unlearning.experiments.in_memory import trained

REST = (
    "--use_peft --lora_r 16 --lora_alpha 32 --learning_rate 1e-4 --num_train_epochs 3 "
    "--per_device_train_batch_size 4"
)
ALL = "--learning_rate 2e-5 --num_train_epochs 1 --per_device_train_batch_size 32"
"""As UDS (arXiv 2605.24614) relearns: the whole forget set, whole weights."""


OFFSIDE = (
    "--use_peft --lora_r 8 --lora_alpha 32 --learning_rate 1e-4 --num_train_epochs 6 "
    "--per_device_train_batch_size 4 --gradient_accumulation_steps 4"
)
"""As OFFSIDE (code zh121800/OFFSIDE) relearns, on people of its own for it."""


@dataclass(frozen=True)
class Split:
    """What is learned again, and what is asked.

    Attributes:
        by: `people` or `facts`.
        learned: row ids.
        asked: row ids of others, which no learned row tells.
        told: how many of the others were left out, as a learned row tells them.
    """

    by: str
    learned: tuple[str, ...]
    asked: tuple[str, ...]
    told: int


def split(rows: Sequence[Row], share: float, seed: int) -> Split:
    """Draw what is learned: a share of the people, at least one; of a single person's rows a share of the facts.

    Raises:
        NotAvailable: one fact alone, or the learned rows tell all others.
    """
    by = "people" if len({row["identity"] for row in rows}) > 1 else "facts"

    def unit(row: Row) -> str:
        return row["identity" if by == "people" else "attribute"]

    units = sorted({unit(row) for row in rows})
    if len(units) < 2:
        raise NotAvailable(f"{len(units)} {by} cannot be split into what is learned again and what is asked")
    count = min(len(units) - 1, max(1, round(share * len(units))))
    chosen = set(random.Random(row_seed(seed, "relearn", by)).sample(units, count))
    learned = [row for row in rows if unit(row) in chosen]
    texts = [text for row in learned for text in (row["question"], row["answer"])]
    others = [row for row in rows if unit(row) not in chosen]
    asked = [row["row_id"] for row in others if not tells(texts, row)]
    if not asked:
        raise NotAvailable(f"the rows of {count} {by} tell all {len(others)} others")
    return Split(by, tuple(row["row_id"] for row in learned), tuple(asked), len(others) - len(asked))


def relearn(
    path: str, processor: Any, rows: datasets.Dataset, benchmark: str, training: str, seed: int, device: str
) -> tuple[Any, dict[str, Any]]:
    """A checkpoint trained on rows as stage 1 trains; (the model, what the record keeps of the training).

    Args:
        path: folder or Hub id; an adapter's folder is merged into its base first.
        rows: with pictures.
        benchmark: whose they are.
        training: options of `remem train`.

    Raises:
        RememError: an option that `remem train` does not take, weights that end as no numbers.
    """

    def load() -> Any:
        model = checkpoint.load_model(path, steered=True)  # (what relearned is scored, not saved)
        model.config.name_or_path = model.name_or_path = path
        return model

    return relearn_from(load, processor, rows, benchmark, training, seed, device)


def relearn_from(
    load: Callable[[], Any],
    processor: Any,
    rows: datasets.Dataset,
    benchmark: str,
    training: str,
    seed: int,
    device: str,
    encoder: Encoder | None = None,
) -> tuple[Any, dict[str, Any]]:
    """As `relearn`, from a model in memory.

    Args:
        load: gives a copy of it, which may be changed.
        encoder: one that has encoded some of the rows before.
    """
    argv = ["--method", "sft", "--seed", str(seed), *(["--use_cpu", "true"] if device == "cpu" else [])]
    table = TrainingRows(rows, None, None, benchmark)
    model, record = trained([*argv, *shlex.split(training)], table, processor, load, encoder)
    return model, {
        "steps": record["steps"],
        "rows": len(rows),
        "loss": round(float(record["train_loss"]), 4),
    }
