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


def check_left(left: float) -> None:
    """Raise a RememError if m is neither from 0 to 1 nor −1."""
    if -1 < left < 0:
        raise RememError(f"--smfa_left {left:g}: from 0 to 1, or -1 for what balances the change")


def balance(harm: float, good: float) -> float:
    """m, from 0 to 1: m · harm = good, so that a change as a whole raises a loss no more, to first order; 1 if it does not.

    Args:
        harm, good: sums of |change · gradient| where they conflict, and elsewhere.
    """
    return min(1.0, good / harm) if harm > 0 else 1.0


@torch.no_grad()
def take_back(
    model: nn.Module,
    gradients: Mapping[str, torch.Tensor],
    left: float,
    load_start: Callable[[], nn.Module] | None,
) -> tuple[float, float]:
    """θ ← θ_ref + M (θ − θ_ref) in place, M = m where the change conflicts and 1 elsewhere.

    Of an adapter θ_ref is B = 0, and what A has learned stays: it has no effect but by B.

    Args:
        gradients: by name of a trained parameter.
        left: m; below 0: that of `balance`.
        load_start: gives θ_ref, for a model without an adapter.

    Returns:
        The share of the changed coordinates that conflict, and m.

    Raises:
        RememError: none or all of them do: the mask has no use.
    """
    if is_peft_model(model):
        start = None
    elif load_start is None:
        raise RememError("smfa needs the model before unlearning: none was given")
    else:
        start = dict(load_start().named_parameters())
    named = {
        name: value
        for name, value in model.named_parameters()
        if name in gradients and (start is not None or "lora_B" in name)
    }

    def change(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        value = named[name]
        before = torch.zeros_like(value) if start is None else start[name].to(value)
        moved = (value - before).float()
        return before, moved, moved * gradients[name].to(moved.device)

    harm = good = 0.0
    changed = taken = 0
    for name in named:
        _, moved, product = change(name)
        changed += int((moved != 0).sum())
        taken += int((product > 0).sum())
        harm += float(product.clamp(min=0).sum(dtype=torch.float64))
        good -= float(product.clamp(max=0).sum(dtype=torch.float64))
    if not 0 < taken < changed:
        raise RememError(
            f"{taken} of {changed} changed coordinates conflict with the retain rows: the mask has no use"
        )
    m = balance(harm, good) if left < 0 else left
    for name, value in named.items():
        before, moved, product = change(name)
        value.copy_(torch.where(product > 0, before + m * moved.to(value.dtype), value))
    return taken / changed, m


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
    share, m = take_back(model, mean_gradient(forward, trained, rows), left, load_start)
    return f"{share:.1%} of the changed coordinates, to {m:.3g} of their change"
