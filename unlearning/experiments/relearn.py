"""Relearning: does a little training bring back what was not in it?

The rows of some of the forgotten people (of one person alone: of some of the facts) are learned again, and the others
are asked. What the learned rows say in so many words is not asked. The gold model is trained alike: what it then
says, it has learned or guessed.
"""

from __future__ import annotations

import gc
import io
import random
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, ProgressCallback

from remem_tasks.attacks.outcome import NotAvailable
from remem_tasks.attacks.people import Row, tells
from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import NonFiniteError
from remem_tasks.seeds import row_seed
from unlearning import weights as checkpoint
from unlearning.arguments import parse
from unlearning.models import load_models
from unlearning.run import build_trainer

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
    with tempfile.TemporaryDirectory(prefix="remem-relearn-") as work:
        argv = ["--method", "sft", "--model_name_or_path", path, "--output_dir", work, "--seed", str(seed)]
        argv += ["--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"]
        argv += ["--logging_strategy", "no", "--eval_strategy", "no"]
        argv += ["--use_cpu", "true"] if device == "cpu" else []
        _, args, model_args = parse([*argv, *shlex.split(training)])

        def load() -> Any:
            model = checkpoint.load_model(path, steered=True)  # (what relearned is scored, not saved)
            model.config.name_or_path = model.name_or_path = path
            return model

        # The adapter of the attack goes onto the merged model, so it is none on an adapter.
        model_args.model_name_or_path = work
        trainer = build_trainer(
            args, TrainingRows(rows, None, None, benchmark), processor, load_models(args, model_args, load)
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        with redirect_stdout(io.StringIO()):
            loss = trainer.train().training_loss
        model, steps = trainer.accelerator.unwrap_model(trainer.model), trainer.state.global_step
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        del trainer
    gc.collect()
    if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
        raise NonFiniteError(f"'{path}': relearning ended in weights that are not finite numbers")
    return model.eval().requires_grad_(False), {
        "steps": steps,
        "rows": len(rows),
        "loss": round(float(loss), 4),
    }
