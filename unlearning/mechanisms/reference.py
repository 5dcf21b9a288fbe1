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
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import is_peft_model
from torch import nn

from remem_tasks.errors import RememError
from remem_tasks.files import write_whole
from remem_tasks.reading import read_object
from unlearning.data import EpochSampler, Pairs, Role
from unlearning.forward import Answers, Forward, evaluating
from unlearning.forward import answers as forward_answers

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


@dataclass
class Kept:
    """What a file of the run's folder holds, or None: it is not there, or was made from something else."""

    value: Any = None


@contextmanager
def kept(path: Path, made_from: Mapping[str, Any], name: str) -> Iterator[Kept]:
    """Read what was made from the same before; what is set within is kept for the next time.

    Args:
        path: a JSON file.
        made_from: data, weights, …; kept beside the value, and compared.
        name: of the value in the file.

    Raises:
        RememError: the file cannot be read, or its value is another than was kept.
    """
    mend = "remove it, and it is made again"
    found = read_object(path, mend) if path.is_file() else {}
    same = {key: found.get(key) for key in made_from} == dict(made_from) and "sum" in found
    if same and found["sum"] != _sum(found.get(name)):
        raise RememError(f"'{path}' was changed: its '{name}' have another checksum; {mend}")
    file = Kept(found.get(name) if same else None)
    if read := file.value is not None:
        logger.info("%s: read from %s", name, path)
    yield file
    if not read and PartialState().is_main_process:
        held = {**made_from, name: file.value, "sum": _sum(file.value)}
        write_whole(path, json.dumps(held, indent=0) + "\n")


def _sum(value: Any) -> str:
    """A checksum of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:32]


def digest(entries: Collection[str]) -> str:
    """16 hex digits over the names of what is compared."""
    return hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()[:16]


Entry = tuple[Role, int, str | None]  # of `Pairs.plan`


def compared(pairs: Pairs, sampler: EpochSampler, epochs: int) -> dict[str, Entry]:
    """The answers that a run compares with its reference: entries of the pairs' plans by `Example.key`.

    What a run draws depends on the seed and the epoch alone, so it is known before the first step.

    Args:
        epochs: how many the run has, the last begun one included.
    """
    rows: list[Entry] = [(Role.FORGET, row, None) for row in range(len(pairs)) if Role.FORGET in pairs.roles]
    if {Role.IDK, Role.ALT} & set(pairs.roles):
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            rows += [entry for index in sampler for entry in pairs.plan(index) if entry[0] != Role.RETAIN]
    ids = pairs.forget.row_ids
    return {ids[row] if text is None else f"{ids[row]} {text}": (role, row, text) for role, row, text in rows}


@torch.no_grad()
def sequence_nll(forward: Forward, pairs: Pairs, entries: Mapping[str, Entry], size: int) -> dict[str, float]:
    """N = −Σ ln p(y_t) in nats of answers to forget questions under the model as it is now, in eval mode.

    Every process computes all of them, so that no table depends on the number of processes.

    Args:
        entries: of `compared`.
        size: answers in a forward.

    Raises:
        RememError: names the first row that has no finite one.
    """
    found: dict[str, float] = {}
    keys = list(entries)
    with evaluating(forward.model):
        for start in range(0, len(keys), size):
            some = keys[start : start + size]
            values = forward([pairs.make(*entries[key]) for key in some]).sequence_nll
            found.update(zip(some, values.tolist()))
    broken = [row for row, value in found.items() if not value < float("inf")]
    if broken:
        raise RememError(f"the model before unlearning gives row {broken[0]} no finite log-probability")
    return found


@torch.no_grad()
def answers(
    model: nn.Module, frozen: nn.Module | None, inputs: Mapping[str, torch.Tensor], **wanted
) -> Answers:
    """What the model before unlearning says of a batch, in eval mode.

    Args:
        model: the trained one; with an adapter it is itself the reference, with the adapter off.
        frozen: the reference of a model without an adapter, in eval mode and where the inputs are.
        wanted: for `forward.answers`.
    """
    if not is_peft_model(model):
        if frozen is None:
            raise RememError("this loss needs a reference model: none was given")
        return forward_answers(frozen, inputs, **wanted)
    trained = [(value, value.requires_grad) for value in model.parameters()]
    try:
        with evaluating(model), model.disable_adapter():
            return forward_answers(model, inputs, **wanted)
    finally:
        # Turning the adapter on again makes all of it trainable, what a method had frozen too.
        for value, wanted_gradient in trained:
            value.requires_grad_(wanted_gradient)
