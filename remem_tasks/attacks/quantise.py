"""Coarser weights: each is put to the nearest value that so many bits can hold, and kept in its own type.

What a quantised model computes, up to the rounding of its kernels: the weights of the language model's linear layers
are replaced by what they would be unpacked to; embeddings, head, projector and vision tower stay as they are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from remem_tasks.errors import RememError

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The sixteen values of NormalFloat 4 (QLoRA, arXiv 2305.14314, appendix E)."""
BLOCK = 64
"""Weights that share a scale, in order of storage, as in QLoRA."""


def _scaled(weight: torch.Tensor, per: int, nearest: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Round each run of `per` values, divided by its largest magnitude, by a function of [-1, 1]."""
    flat = weight.detach().float().reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % per)).view(-1, per)
    scale = padded.abs().amax(-1, keepdim=True)
    rounded = nearest(padded / scale.clamp_min(torch.finfo(torch.float32).tiny)) * scale
    return rounded.reshape(-1)[: len(flat)].view(weight.shape).to(weight.dtype)


def nf4(weight: torch.Tensor) -> torch.Tensor:
    """NormalFloat 4 and back: blocks of BLOCK by their largest magnitude, to the nearest of NF4 (no double quantisation)."""
    levels = torch.tensor(NF4, device=weight.device)
    edges = (levels[1:] + levels[:-1]) / 2
    return _scaled(weight, BLOCK, lambda values: levels[torch.bucketize(values, edges)])


def rtn4(weight: torch.Tensor) -> torch.Tensor:
    """Plain rounding to 15 evenly spaced values, -7/7 … 7/7 of the largest magnitude of each block; the control."""
    return _scaled(weight, BLOCK, lambda values: (values * 7).round() / 7)


def int8(weight: torch.Tensor) -> torch.Tensor:
    """LLM.int8's weights (arXiv 2208.07339): each output's row to -127 … 127 of its largest magnitude.

    (Activations stay as they are, and no outlier column is apart.)
    """
    return _scaled(weight, weight.shape[-1], lambda values: (values * 127).round() / 127)


KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"nf4": nf4, "int8": int8, "rtn4": rtn4}


def language_layers(model: Any) -> dict[str, nn.Linear]:
    """The linear layers of a model's language model, without its head.

    Raises:
        RememError: it has none that can be told by name.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and any(part in name for part in ("language_model", "text_model"))
        and not any(
            part in name for part in ("vision", "visual", "projector", "connector", "merger", "lm_head")
        )
    }
    if not found:
        raise RememError(f"{type(model).__name__}: no linear layer of a language model is known by its name")
    return found


@torch.no_grad()
def quantise(model: Any, kind: str, backend: str = "round_trip") -> int:
    """Replace the weights of the language model's linear layers; how many layers there are.

    Args:
        kind: of KINDS.
        backend: `round_trip`, which is what this module does.

    Raises:
        RememError: an unknown kind or backend; `bitsandbytes`, which is not what is measured here.
    """
    if backend == "bitsandbytes":
        there = importlib.util.find_spec("bitsandbytes") is not None
        raise RememError(
            "--quantise_backend bitsandbytes: "
            + ("its kernels are not called here" if there else "bitsandbytes is not installed")
            + "; round_trip puts the weights to the same values and leaves the arithmetic as it is"
        )
    if backend != "round_trip":
        raise RememError(f"--quantise_backend '{backend}' unknown; choose from round_trip, bitsandbytes")
    if kind not in KINDS:
        raise RememError(f"quantisation '{kind}' unknown; choose from {', '.join(KINDS)}")
    layers = language_layers(model)
    for layer in layers.values():
        layer.weight.copy_(KINDS[kind](layer.weight))
    return len(layers)
