"""An adapter on the campaign's sound checkpoint."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText


@cache
def made(base: Path) -> Path:
    """An adapter of rank 2 on a base, whose matrices are not zero."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(base)
    settings = LoraConfig(r=2, lora_alpha=4, target_modules=r".*language_model.*\.(q_proj|v_proj)")
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    folder = base.with_name(f"{base.name}-adapter")
    adapted.save_pretrained(folder)
    return folder
