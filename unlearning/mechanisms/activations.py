"""Outputs of a model's decoder layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from remem_tasks.parts import decoder_layers


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
