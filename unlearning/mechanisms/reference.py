"""The model before unlearning, in the cheapest form that a loss can do with.

1. N_ref of each answer that a loss compares (`nll`): computed once, before the first step, kept in the
   run's folder.
2. The same weights with the adapter off (`logits` and `hidden`, LoRA).
3. A second frozen model (`logits` and `hidden`, full fine-tuning), loaded from the same checkpoint.

The trained model is never deep-copied: its forward is patched and bound to the original, so a copy
would answer with the weights that are being trained.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import is_peft_model

from remem_tasks.errors import RememError
from remem_tasks.files import write_whole
from unlearning.data import Role

logger = logging.getLogger(__name__)
FILE = "reference.json"


def kind(references: Collection[str], peft: bool) -> str:
    """How the references of a run are held, in words for the log and the record.

    Args:
        references: of `UnlearnTrainer.references`.
        peft: whether an adapter is trained.
    """
    held = []
    if "nll" in references:
        held.append("log-probabilities of whole answers, computed once before training")
    if {"logits", "hidden"} & set(references):
        held.append("the same weights with the adapter off" if peft else "a second frozen model")
    return "; ".join(held) or "none"


def table(trainer) -> dict[str, float]:
    """N_ref in nats by `Example.key`; read from the run's folder if it was made from the same data and weights.

    Every process computes all rows, so that no table depends on the number of processes.
    """
    path = Path(trainer.args.output_dir) / FILE
    entries = answered(trainer)
    names = hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()[:16]
    made_from = {"data": trainer.rows.fingerprint(), "weights": trainer.start, "answers": names}
    if path.is_file():
        kept = json.loads(path.read_text())
        if {key: kept.get(key) for key in made_from} == made_from:
            logger.info("reference: read from %s", path)
            return kept["nll"]
    found = sequence_nll(trainer, entries)
    if trainer.is_world_process_zero():
        write_whole(path, json.dumps({**made_from, "nll": found}, indent=0) + "\n")
    return found


def answered(trainer) -> dict[str, tuple[Role, int, str | None]]:
    """The answers that a run compares with its reference: entries of the pairs' plans by `Example.key`.

    What a run draws depends on the seed and the epoch alone, so it is known before the first step.
    """
    pairs, args = trainer.train_dataset, trainer.args
    rows = [(Role.FORGET, row, None) for row in range(len(pairs)) if Role.FORGET in pairs.roles]
    if {Role.IDK, Role.ALT} & set(pairs.roles):
        sampler = trainer._get_train_sampler()
        epochs = math.ceil(args.num_train_epochs)
        if args.max_steps > 0:
            together = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            epochs = math.ceil(args.max_steps * together / len(pairs)) + 1
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            rows += [entry for index in sampler for entry in pairs.plan(index) if entry[0] != Role.RETAIN]
    ids = pairs.forget.row_ids
    return {ids[row] if text is None else f"{ids[row]} {text}": (role, row, text) for role, row, text in rows}


@torch.no_grad()
def sequence_nll(trainer, entries: dict[str, tuple[Role, int, str | None]] | None = None) -> dict[str, float]:
    """N = −Σ ln p(y_t) in nats of answers to forget questions under the model as it is now, in eval mode.

    Args:
        entries: of `answered`, the default.
    """
    model = trainer.model
    entries = answered(trainer) if entries is None else entries
    was_training = model.training
    model.eval()
    found = {}
    keys, size = list(entries), trainer.args.per_device_eval_batch_size
    for start in range(0, len(keys), size):
        some = keys[start : start + size]
        rows = [trainer.train_dataset.make(*entries[key]) for key in some]
        # (The collator sorts rows by their role.)
        rows = [[replace(row, role=Role.PLAIN)] for row in rows]
        inputs = trainer._prepare_inputs(trainer.data_collator(rows))
        with trainer.compute_loss_context_manager():
            values = trainer.answers(model, inputs).sequence_nll
        found.update({key: float(value) for key, value in zip(some, values)})
    model.train(was_training)
    broken = [row for row, value in found.items() if not value < float("inf")]
    if broken:
        raise RememError(f"the model before unlearning gives row {broken[0]} no finite log-probability")
    return found


@torch.no_grad()
def answers(trainer, inputs, **wanted):
    """What the model before unlearning says of a batch (see `UnlearnTrainer.answers`), in eval mode."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not is_peft_model(model):
        if trainer.reference_model is None:
            raise RememError("this loss needs a reference model: none was given")
        frozen = trainer.reference_model.to(inputs["input_ids"].device).eval()
        # (It has no fused head: TRL gives one to the trained model alone.)
        return trainer.answers(frozen, inputs, **{**wanted, "logits": True})
    was_training = model.training
    trained = [(value, value.requires_grad) for value in model.parameters()]
    model.eval()
    try:
        with model.disable_adapter():
            return trainer.answers(model, inputs, **wanted)
    finally:
        model.train(was_training)
        # Turning the adapter on again makes all of it trainable, what a method had frozen too.
        for value, wanted_gradient in trained:
            value.requires_grad_(wanted_gradient)
