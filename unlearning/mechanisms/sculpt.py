"""What was learned, without the part of it that harms what is kept: coordinates by the gradient of the retain loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from accelerate.utils import extract_model_from_parallel, is_peft_model
from torch import nn

from remem_tasks.errors import RememError
from unlearning.data import Example, Examples, evenly
from unlearning.forward import Forward, evaluating


def mean_gradient(
    forward: Forward, parameters: Mapping[str, nn.Parameter], examples: Iterable[Example]
) -> dict[str, torch.Tensor]:
    """Mean over examples of the gradient of each one's NLL per token, in float32, in eval mode."""
    total = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}
    count = 0
    with evaluating(forward.model):
        for example in examples:
            loss = forward([example]).token_nll
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(total, found):
                if gradient is not None:
                    total[name] += gradient.float()
            count += 1
    return {name: value / max(count, 1) for name, value in total.items()}


def conflicts(change: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Where taking a change back lowers the loss of a gradient, to first order: change · gradient > 0, bool."""
    return change * gradient > 0


@torch.no_grad()
def take_back(
    model: nn.Module,
    gradients: Mapping[str, torch.Tensor],
    left: float,
    load_start: Callable[[], nn.Module] | None,
) -> float:
    """θ ← θ_ref + M (θ − θ_ref) in place, M = `left` where the change conflicts and 1 elsewhere.

    Of an adapter θ_ref is B = 0, and what A has learned stays: it has no effect but by B.

    Args:
        gradients: by name of a trained parameter.
        load_start: gives θ_ref, for a model without an adapter.

    Returns:
        The share of the changed coordinates that conflict.

    Raises:
        RememError: none or all of them do: the mask has no use.
    """
    start = None if is_peft_model(model) else dict(load_start().named_parameters())
    changed = taken = 0
    for name, value in model.named_parameters():
        if name not in gradients or (start is None and "lora_B" not in name):
            continue
        before = torch.zeros_like(value) if start is None else start[name].to(value)
        change = (value - before).float()
        harms = conflicts(change, gradients[name].to(change.device))
        changed += int((change != 0).sum())
        taken += int(harms.sum())
        value.copy_(torch.where(harms, before + left * change.to(value.dtype), value))
    if not 0 < taken < changed:
        raise RememError(
            f"{taken} of {changed} changed coordinates conflict with the retain rows: the mask has no use"
        )
    return taken / changed


def sculpt(
    forward: Forward,
    retain: Examples,
    load_start: Callable[[], nn.Module] | None,
    most: int,
    left: float,
) -> str:
    """Take back what harms retain rows of what the model of a forward has learned; in words, how much that was.

    Args:
        most: retain rows, spread evenly; 0: all.
        load_start, left: as in `take_back`.
    """
    trained = {name: value for name, value in forward.model.named_parameters() if value.requires_grad}
    rows = (retain.example(index) for index in evenly(len(retain), most))
    model = extract_model_from_parallel(forward.model)
    share = take_back(model, mean_gradient(forward, trained, rows), left, load_start)
    return f"{share:.1%} of the changed coordinates, to {left:g} of their change"
