"""The model before unlearning, in the cheapest form that a loss can do with.

1. N_ref of each forget row (`nll`): computed once, before the first step, kept in the run's folder.
2. The same weights with the adapter off (`logits`, LoRA).
3. A second frozen model (`logits`, full fine-tuning), loaded from the same checkpoint.

The trained model is never deep-copied: its forward is patched and bound to the original, so a copy
would answer with the weights that are being trained.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import torch
from accelerate.utils import is_peft_model

from remem_tasks.errors import RememError
from unlearning.data import Examples, Role

logger = logging.getLogger(__name__)
FILE = "reference.json"


def kind(reference: str | None, peft: bool) -> str:
    """How a method's reference is held, in words for the log and the record of a run."""
    if reference is None:
        return "none"
    if reference == "nll":
        return "log-probabilities of the forget rows, computed once before training"
    return "the same weights with the adapter off" if peft else "a second frozen model"


def table(trainer) -> dict[str, float]:
    """N_ref in nats by row id; read from the run's folder if it was made from the same data and weights.

    Every process computes all rows, so that no table depends on the number of processes.
    """
    path = Path(trainer.args.output_dir) / FILE
    made_from = {"data": trainer.rows.fingerprint(), "weights": trainer.start}
    if path.is_file():
        kept = json.loads(path.read_text())
        if {key: kept.get(key) for key in made_from} == made_from:
            logger.info("reference: read from %s", path)
            return kept["nll"]
    found = sequence_nll(trainer)
    if trainer.is_world_process_zero():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({**made_from, "nll": found}, indent=0) + "\n")
        os.replace(temporary, path)
    return found


@torch.no_grad()
def sequence_nll(trainer) -> dict[str, float]:
    """N = −Σ ln p(y_t) in nats of every forget row under the model as it is now, in eval mode."""
    model = trainer.model
    examples = Examples(trainer.rows.forget, Role.PLAIN, trainer.encoder)
    was_training = model.training
    model.eval()
    found = {}
    size = trainer.args.per_device_eval_batch_size
    for start in range(0, len(examples), size):
        rows = [examples[index] for index in range(start, min(start + size, len(examples)))]
        inputs = trainer._prepare_inputs(trainer.data_collator(rows))
        with trainer.compute_loss_context_manager():
            values = trainer.answers(model, inputs).sequence_nll
        found.update({example[0].row_id: float(value) for example, value in zip(rows, values)})
    model.train(was_training)
    broken = [row for row, value in found.items() if not value < float("inf")]
    if broken:
        raise RememError(f"the model before unlearning gives row {broken[0]} no finite log-probability")
    return found


@torch.no_grad()
def logits(trainer, inputs) -> torch.Tensor:
    """Reference logits of the answer tokens of a batch, [N, V], in eval mode."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not is_peft_model(model):
        if trainer.reference_model is None:
            raise RememError("this loss needs a reference model: none was given")
        frozen = trainer.reference_model.to(inputs["input_ids"].device).eval()
        return trainer.answers(frozen, inputs, logits=True).logits
    was_training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            return trainer.answers(model, inputs, logits=True).logits
    finally:
        model.train(was_training)
