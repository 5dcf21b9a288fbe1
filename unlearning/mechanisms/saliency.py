"""Weight saliency: which coordinates matter more to the forget rows than to what is kept, and updates held to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from transformers import TrainerCallback

from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import RememError
from unlearning.data import Encoder, Example, Examples, Role, evenly
from unlearning.forward import Forward, evaluating


def mean_squared_gradient(
    parameters: dict[str, nn.Parameter], losses: Iterable[Callable[[], torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """F = mean over examples of the squared gradient of each one's loss (the diagonal of the empirical Fisher)."""
    total = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}
    count = 0
    for loss in losses:
        gradients = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
        for name, gradient in zip(total, gradients):
            if gradient is not None:
                total[name] += gradient.float().square()
        count += 1
    return {name: value / max(count, 1) for name, value in total.items()}


def mask(forget: torch.Tensor, preserve: torch.Tensor, epsilon: float) -> torch.Tensor:
    """1[(F_forget + e) / (F_preserve + e) ≥ 1], bool in the shape of both."""
    return (forget + epsilon) / (preserve + epsilon) >= 1


def masked_updates(
    forward: Forward, rows: TrainingRows, encoder: Encoder, limit: int, keep_text: bool, epsilon: float
) -> MaskedUpdates:
    """Masks of what is trained, from the model as it is now.

    Args:
        forward: of the model that is trained, its weights whole.
        rows: with forget and retain tables.
        limit: rows of each kind; 0 is all. They are spread evenly over their table.
        keep_text: whether the forget rows without their picture count among what is to be kept.
        epsilon: e of `mask`.
    """

    forget, retain = rows.forget, rows.retain

    def nll(example: Example) -> Callable[[], torch.Tensor]:
        return lambda: forward([example]).token_nll

    lost_rows, kept_rows = (Examples(table, Role.PLAIN, encoder) for table in (forget, retain))
    asked = evenly(len(lost_rows), limit)
    lost = [nll(lost_rows.example(index)) for index in asked]
    kept = [nll(kept_rows.example(index)) for index in evenly(len(kept_rows), limit)]
    if keep_text:
        kept += [nll(encoder.without_picture(forget[index])) for index in asked]
    parameters = {name: value for name, value in forward.model.named_parameters() if value.requires_grad}
    with evaluating(forward.model):  # no dropout: the masks are those of the weights alone
        matters, keeps = (mean_squared_gradient(parameters, some) for some in (lost, kept))
    return MaskedUpdates(parameters, {name: mask(matters[name], keeps[name], epsilon) for name in parameters})


class MaskedUpdates(TrainerCallback):
    """Puts masked-out coordinates back after every optimizer step.

    What is masked is the update and not the gradient: moments and weight decay of Adam would move a
    coordinate whose gradient is zero.

    Args:
        parameters: what is trained, by name.
        masks: bool in the shape of each, true where it may move.

    Raises:
        RememError: the masks are not those of these parameters, or let everything or nothing move.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], masks: dict[str, torch.Tensor]):
        unknown = parameters.keys() ^ masks.keys()
        if unknown:
            raise RememError(
                f"a saliency mask does not fit the trained parameters: {len(unknown)} names are of one alone, "
                f"such as {min(unknown)}"
            )
        total = sum(value.numel() for value in masks.values())
        self.share = 1 - sum(int(value.sum()) for value in masks.values()) / total
        if self.share in (0.0, 1.0):
            raise RememError(f"the saliency mask holds {self.share:.0%} of the coordinates: it has no use")
        self.held = [(value, ~masks[name].to(value.device)) for name, value in parameters.items()]
        self.before: list[torch.Tensor] = []

    @torch.no_grad()
    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.before = [value[still] for value, still in self.held]

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, **kwargs):
        for (value, still), before in zip(self.held, self.before):
            value[still] = before
        self.before = []
