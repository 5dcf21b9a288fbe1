"""The parts of a vision-language model, by the names of its modules."""

from __future__ import annotations

import re

from torch import nn

from remem_tasks.errors import RememError

PARTS = ("language_model", "projector", "vision_tower")
_PROJECTOR = re.compile(r"(^|\.)(multi_modal_projector|mm_projector|connector|merger)(\.|$)")
_VISION = re.compile(r"(^|\.)(vision_tower|vision_model|vision_encoder|visual)(\.|$)")


def part_of(name: str) -> str:
    """Which part a parameter belongs to, by its name: `projector`, `vision_tower` or `language_model`.

    Qwen's projector (`merger`) lies inside its vision module, so it is looked for first. The head
    and the embeddings count as language model.
    """
    if _PROJECTOR.search(name):
        return "projector"
    return "vision_tower" if _VISION.search(name) else "language_model"


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The decoder layers of the language model, through any wrapper (adapter, data parallel).

    Raises:
        RememError: the model has no such list.
    """
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and re.search(r"(^|\.)layers$", name)
        and part_of(name) == "language_model"
    ]
    if not found:
        raise RememError("this model's language model has no list of decoder layers that could be found")
    return max(found, key=len)
