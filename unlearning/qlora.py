"""QLoRA: an adapter on a base whose linear maps are held in 4 bits (Dettmers et al. 2023, arXiv 2305.14314)."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from trl import ModelConfig

from remem_tasks.errors import RememError

# The modules that keep their precision, as expressions on the beginning or the end of their names.
WHOLE = (r".*(vision_tower|vision_model|visual|multi_modal_projector|connector)", "lm_head")


def loading(model_args: ModelConfig) -> dict[str, Any]:
    """What `from_pretrained` needs for a base in 4 bits; nothing without `--load_in_4bit`.

    The vision tower, the projector and the head keep their precision.

    Raises:
        RememError: there is no adapter to train on it, bitsandbytes is not installed, or its flags stand alone.
    """
    if not model_args.load_in_4bit:
        if model_args.use_bnb_nested_quant or model_args.bnb_4bit_quant_type != "nf4":
            raise RememError("--bnb_4bit_quant_type and --use_bnb_nested_quant are for --load_in_4bit")
        return {}
    if not model_args.use_peft:
        raise RememError(
            "--load_in_4bit: weights in 4 bits are not trained, but an adapter on them is (--use_peft)"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RememError("--load_in_4bit needs bitsandbytes: pip install 'remem-unlearning[qlora]'")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=model_args.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=model_args.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=None if model_args.dtype == "auto" else model_args.dtype,
        llm_int8_skip_modules=list(WHOLE),
    )
    return {"quantization_config": config}


def linear_maps(model: nn.Module) -> list[nn.Module]:
    """The linear maps of a model that are held in 4 bits."""
    return [
        module
        for module in model.modules()
        if type(module._parameters.get("weight")).__name__ == "Params4bit"
    ]


def unpacked(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, whose maps in 4 bits stay as they are loaded.

    On a CPU with AVX512-BF16 bitsandbytes packs a map anew at its first forward in eval mode, and the product with a
    packed map has no gradient: what N_ref was computed with would then train its last layer alone.
    """
    for module in linear_maps(model):
        module.support_avx512bf16_for_cpu = False
    return model


def adapter_in_single_precision(model: nn.Module) -> None:
    """TRL casts an adapter on 4 bits to bfloat16, where most updates are rounded away; back to float32.

    (No step was taken yet: B is zero in either, A a random draw.)
    """
    for value in model.parameters():
        if value.requires_grad and value.dtype == torch.bfloat16:
            value.data = value.data.float()
