"""RMU's parts that are no loss: which layers train, and the direction that hidden states are steered to."""

from __future__ import annotations

import re

import torch
from torch import nn

from remem_tasks.errors import RememError
from unlearning.mechanisms.activations import decoder_layers
from unlearning.weights import part_of


def train_layers_up_to(model: nn.Module, layer: int, notes: dict[str, str]) -> int:
    """Freeze all that is trained but the decoder layers L−2 to L; which L that is.

    Args:
        layer: L from 0, or −1 for a quarter of the depth (7 of 32 layers).
        notes: of the run; told which layers those are.

    Raises:
        RememError: there is no such layer, or nothing of these layers was to be trained.
    """
    depth = len(decoder_layers(model))
    chosen = max(depth // 4 - 1, 0) if layer == -1 else layer
    if not 0 <= chosen < depth:
        raise RememError(f"--rmu_layer {layer}: the language model has layers 0 to {depth - 1}")
    left = 0
    for name, value in model.named_parameters():
        found = re.search(r"\.layers\.(\d+)\.", name) if part_of(name) == "language_model" else None
        if not found or not chosen - 2 <= int(found[1]) <= chosen:
            value.requires_grad_(False)
        left += value.requires_grad
    if not left:
        raise RememError(
            f"rmu trains decoder layers {max(chosen - 2, 0)} to {chosen}, of which nothing is trained"
        )
    notes["layers"] = (
        f"hidden states of decoder layer {chosen}; layers {max(chosen - 2, 0)} to {chosen} train"
    )
    return chosen


def direction(seed: int, like: torch.Tensor) -> torch.Tensor:
    """u: uniform in [0, 1) and made a unit vector, [d]; the same at every step of a run.

    Args:
        like: [N, d], gives width, device and dtype.
    """
    drawn = torch.rand(like.shape[-1], generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.norm()).to(like)
