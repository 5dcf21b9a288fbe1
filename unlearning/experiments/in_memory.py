"""A training of a model that is in memory, whose weights nobody keeps: what experiments of many small runs share."""

from __future__ import annotations

import gc
import io
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from remem_tasks.benchmarks.training_rows import TrainingRows
from unlearning.arguments import parse
from unlearning.data import Encoder
from unlearning.models import load_models
from unlearning.run import build_trainer, train
from unlearning.trainer import UnlearnTrainer

SILENT = (
    *("--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"),
    *("--logging_strategy", "no", "--eval_strategy", "no"),
)
Watch = Callable[[UnlearnTrainer], TrainerCallback]


def trained(
    argv: Sequence[str],
    rows: TrainingRows,
    processor: Any,
    load: Callable[[], Any],
    encoder: Encoder | None = None,
    watch: Watch | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Train as `remem train` does, but for files: (the model, an adapter merged into it; what the record says).

    Args:
        argv: options of `remem train`; where the model and the output lie is not asked.
        rows: of `data.load_rows`, or like them.
        load: gives a copy of the model to start from, which may be changed.
        encoder: one that has encoded some of the rows before; None makes one.
        watch: the trainer to what looks at it while it trains.

    Raises:
        RememError: an option that `remem train` does not take, weights that end as no numbers.
    """
    with tempfile.TemporaryDirectory(prefix="remem-run-") as work:
        # (An adapter goes onto the model that `load` gives, whatever lies where it came from.)
        parsed = parse([*SILENT, "--model_name_or_path", work, "--output_dir", work, *argv])
        assert parsed is not None  # as of all arguments without --help
        _, args, model_args = parsed
        trainer = build_trainer(args, rows, processor, load_models(args, model_args, load), encoder=encoder)
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        if watch is not None:
            trainer.add_callback(watch(trainer))
        with redirect_stdout(io.StringIO()):  # what it says of itself is in its notes
            record = train(trainer, None)
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        del trainer
    gc.collect()
    return model.eval().requires_grad_(False), record
