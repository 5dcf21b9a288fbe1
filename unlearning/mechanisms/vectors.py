"""Task vectors: arithmetic on the weights after training (Ilharco et al. 2023, arXiv 2212.04089)."""

from __future__ import annotations

import torch
from accelerate.utils import is_peft_model

from remem_tasks.errors import RememError
from unlearning import weights as checkpoint


def check_editable(trainer) -> None:
    """Whether a method can edit the weights after the last step; asked before the first.

    Raises:
        RememError: the adapter is not plain LoRA, the weights are sharded, or θ_ref cannot be loaded again.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if is_peft_model(model):
        config = model.active_peft_config
        if getattr(config, "use_dora", False) or config.bias != "none" or config.modules_to_save:
            raise RememError(f"{trainer.name} negates plain LoRA only (no DoRA, biases or modules to save)")
    elif not checkpoint.is_plain_model(trainer, model):
        raise RememError(f"{trainer.name} needs whole weights: neither FSDP nor DeepSpeed")
    elif trainer.load_start is None:
        raise RememError(f"{trainer.name} needs the model before unlearning: none was given")


@torch.no_grad()
def negate(trainer, scale: float) -> None:
    """θ ← θ_ref − scale · (θ − θ_ref), in place (see `check_editable`).

    An adapter's change of a weight is a multiple of B·A with θ_ref the weights below it, so B alone is
    multiplied by −scale. In full fine-tuning θ_ref is loaded again, on the CPU.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if is_peft_model(model):
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.mul_(-scale)
        return
    start = dict(trainer.load_start().named_parameters())
    for name, value in model.named_parameters():
        before = start[name].to(value.device, torch.float32)
        value.copy_(before - scale * (value.float() - before))
