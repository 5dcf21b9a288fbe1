"""Task vectors: arithmetic on the weights after training (Ilharco et al. 2023, arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate.utils import is_peft_model
from torch import nn

from remem_tasks.errors import RememError


def check_editable(name: str, model: nn.Module, sharded: bool, start: bool) -> None:
    """Whether a method can edit the weights after the last step; asked before the first.

    Args:
        name: of the method.
        sharded: whether the weights are spread over processes.
        start: whether θ_ref can be loaded again.

    Raises:
        RememError: the adapter is not plain LoRA, the weights are sharded, or θ_ref cannot be loaded again.
    """
    if is_peft_model(model):
        config = model.active_peft_config
        if getattr(config, "use_dora", False) or config.bias != "none" or config.modules_to_save:
            raise RememError(f"{name} takes plain LoRA only (no DoRA, biases or modules to save)")
    elif sharded:
        raise RememError(f"{name} needs whole weights: neither FSDP nor DeepSpeed")
    elif not start:
        raise RememError(f"{name} needs the model before unlearning: none was given")


@torch.no_grad()
def negate(model: nn.Module, scale: float, load_start: Callable[[], nn.Module] | None) -> None:
    """θ ← θ_ref − scale · (θ − θ_ref), in place (see `check_editable`).

    An adapter's change of a weight is a multiple of B·A with θ_ref the weights below it, so B alone is
    multiplied by −scale. In full fine-tuning θ_ref is loaded again, on the CPU.

    Args:
        load_start: gives θ_ref, for a model without an adapter.
    """
    if is_peft_model(model):
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.mul_(-scale)
        return
    start = dict(load_start().named_parameters())
    for name, value in model.named_parameters():
        before = start[name].to(value.device, torch.float32)
        value.copy_(before - scale * (value.float() - before))
