"""Outputs of a model's decoder layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from remem_tasks.errors import RememError
from unlearning.weights import part_of


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


@contextmanager
def captured(model: nn.Module, layer: int | None) -> Iterator[list[torch.Tensor]]:
    """Within, outputs of a decoder layer are appended to the list, [B, T, d]; nothing is if layer is None."""
    seen: list[torch.Tensor] = []
    if layer is None:
        yield seen
        return

    def keep(module, inputs, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = decoder_layers(model)[layer].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
