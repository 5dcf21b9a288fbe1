"""One forward as a function of model and inputs: what a model says of the labels of some rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from torch import nn

from unlearning import losses
from unlearning.data import IGNORE, Example, Role
from unlearning.mechanisms import activations

# Of a collated batch, what is not for the model.
BESIDE = ("roles", "reference_nll", "counts", "pictures")


@dataclass
class Answers:
    """What the model says of the labels of some rows.

    Attributes:
        log_probs: [B, T], ln p of each label, 0 where there is none.
        mask: [B, T] bool, answer tokens.
        labels: [N], ids of the answer tokens in row order.
        reference_nll: [B], N_ref in nats, NaN where unknown; None without a table.
        logits, reference_logits: [N, V] over the answer tokens; None unless asked for.
        hidden, reference_hidden: [N, d], a layer's output at the answer tokens; None unless asked for.
        row_count, token_count: what means over rows and over answer tokens divide by, scalars: their number
            in a micro-batch on the average of a step (see `counts`); None: their number here.
    """

    log_probs: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    reference_nll: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    reference_logits: torch.Tensor | None = None
    hidden: torch.Tensor | None = None
    reference_hidden: torch.Tensor | None = None
    row_count: torch.Tensor | None = None
    token_count: torch.Tensor | None = None

    @property
    def token_nll(self) -> torch.Tensor:
        """Mean over answer tokens, a scalar."""
        return losses.token_nll(self.log_probs, self.mask, self.token_count)

    @property
    def sequence_nll(self) -> torch.Tensor:
        """Sum over each answer, [B]."""
        return losses.sequence_nll(self.log_probs, self.mask)

    @property
    def tokens(self) -> torch.Tensor:
        """Number of tokens of each answer, [B]."""
        return self.mask.sum(dim=1)

    @property
    def position(self) -> torch.Tensor:
        """Place of each answer token in its answer, from 0, [N]."""
        return (self.mask.cumsum(dim=1) - 1)[self.mask]

    def of(self, rows: torch.Tensor) -> Answers | None:
        """Some of the rows, chosen by a boolean mask [B]; None if there are none."""
        if not rows.any():
            return None
        tokens = rows[:, None].expand_as(self.mask)[self.mask]

        by_row = ("log_probs", "mask", "reference_nll")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Answers(
            **{
                name: value
                if value is None or name in ("row_count", "token_count")
                else value[rows if name in by_row else tokens]
                for name, value in values.items()
            }
        )


@dataclass
class Batch:
    """The answers of a fused batch by role; None where the batch has no such row."""

    plain: Answers | None
    forget: Answers | None
    retain: Answers | None
    idk: Answers | None
    alt: Answers | None = None
    other: Answers | None = None

    @classmethod
    def of(cls, answers: Answers, inputs: Mapping[str, torch.Tensor]) -> Batch:
        """The rows of a batch by `inputs["roles"]`, each with the counts of its role if the step's are known."""
        parts = [answers.of(inputs["roles"] == int(role)) for role in Role]
        if (counted := inputs.get("counts")) is not None:
            parts = [
                part and replace(part, row_count=counted[role, 0], token_count=counted[role, 1])
                for role, part in zip(Role, parts)
            ]
        return cls(*parts)


def counts(inputs: Mapping[str, torch.Tensor], skip: int = 0) -> torch.Tensor:
    """Numbers of rows and of answer tokens in a batch by role, [roles, 2].

    Summed over the micro-batches of all processes of a step and divided by how many those are, they are what
    the means of a micro-batch divide by: the loop's average over micro-batches and processes is then the mean
    over all rows or tokens of the step, however it is cut up.

    Args:
        skip: tokens at the beginning of each forget answer that a loss leaves out.
    """
    mask = inputs["labels"][:, 1:] != IGNORE
    tokens, roles = mask.sum(dim=1), inputs["roles"]
    tokens = torch.where(roles == int(Role.FORGET), (tokens - skip).clamp(min=0), tokens)
    found = [torch.stack([(roles == int(role)).sum(), tokens[roles == int(role)].sum()]) for role in Role]
    return torch.stack(found).float()


@contextmanager
def head_at(model: nn.Module, keep: torch.Tensor) -> Iterator[None]:
    """Within, a model's head is applied at some positions alone: its logits are [1, N, V].

    (`logits_to_keep` of transformers takes positions that are the same for all rows: their union.)

    Args:
        keep: [B, T] bool.
    """
    head = extract_model_from_parallel(model).get_output_embeddings()

    def select(module: nn.Module, args: tuple) -> tuple:
        return (args[0][keep][None], *args[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def answers(
    model: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    *,
    logits: bool = False,
    layer: int | None = None,
    fused: bool = False,
) -> Answers:
    """One forward: log-probabilities of the labels; on demand the logits behind them and a layer's output.

    Args:
        model: an image-text-to-text model, wrapped (adapter, data parallel) or not.
        inputs: of `data.Collator`, on the model's device.
        logits: whether the logits at the answer tokens are wanted.
        layer: index of the decoder layer whose output at the answer tokens is kept.
        fused: the model has TRL's fused head, which scores the answer tokens without keeping logits (on an
            accelerator; on a CPU it scores all positions).
    """
    passed = {name: value for name, value in inputs.items() if name not in BESIDE}
    answered = passed["labels"] != IGNORE
    labels = passed["labels"][:, 1:]
    mask, scores = labels != IGNORE, None
    with activations.captured(model, layer) as seen:
        if fused and not logits:
            found = model(**passed, fused_lm_head=True).log_probs
        else:
            del passed["labels"]
            with head_at(model, F.pad(mask, (0, 1))):
                scores = model(**passed, use_cache=False).logits.flatten(0, 1).float()
            values = -F.cross_entropy(scores, labels[mask], reduction="none")
            found = values.new_zeros(mask.shape).masked_scatter(mask, values)
    hidden = None if layer is None else seen[0][answered].float()
    return Answers(found, mask, labels[mask], logits=scores if logits else None, hidden=hidden)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, a model is in eval mode (no dropout); then in the mode in which it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class Forward:
    """A model and what a forward of examples needs beside it.

    Attributes:
        model: as in `answers`.
        collate: a `data.Collator`.
        prepare: moves a batch to the model's device.
        context: gives the context of a forward (autocast).
    """

    model: nn.Module
    collate: Callable[[Sequence[Sequence[Example]]], dict[str, torch.Tensor]]
    prepare: Callable[[dict[str, Any]], dict[str, Any]]
    context: Callable[[], AbstractContextManager]

    def __call__(self, examples: Sequence[Example]) -> Answers:
        """What the model says of some examples, in their order (all are taken as plain rows)."""
        plain = [[replace(example, role=Role.PLAIN)] for example in examples]
        with self.context():
            return answers(self.model, self.prepare(self.collate(plain)))
