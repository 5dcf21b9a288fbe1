"""Task vectors: arithmetic on the weights after training (Ilharco et al. 2023, arXiv 2212.04089)."""

from __future__ import annotations

import torch
from accelerate.utils import is_peft_model

from remem_tasks.errors import RememError
from unlearning import checkpoint


@torch.no_grad()
def negate(trainer, scale: float) -> None:
    """θ ← θ_ref − scale · (θ − θ_ref), in place.

    An adapter's change of a weight is a multiple of B·A with θ_ref the weights below it, so B alone is
    multiplied by −scale. In full fine-tuning θ_ref is loaded again, on the CPU.

    Raises:
        RememError: the adapter is not plain LoRA, the weights are sharded, or θ_ref cannot be loaded.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if is_peft_model(model):
        config = model.active_peft_config
        if getattr(config, "use_dora", False) or config.bias != "none" or config.modules_to_save:
            raise RememError(f"{trainer.name} negates plain LoRA only (no DoRA, biases or modules to save)")
        factors = [value for name, value in model.named_parameters() if "lora_B" in name]
        for value in factors:
            value.mul_(-scale)
        return
    if not checkpoint.is_plain_model(trainer, model):
        raise RememError(f"{trainer.name} needs whole weights: neither FSDP nor DeepSpeed")
    if trainer.load_start is None:
        raise RememError(f"{trainer.name} needs the model before unlearning: none was given")
    start = dict(trainer.load_start().named_parameters())
    for name, value in model.named_parameters():
        before = start[name].to(value.device, torch.float32)
        value.copy_(before - scale * (value.float() - before))
