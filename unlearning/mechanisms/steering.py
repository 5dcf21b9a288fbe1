"""What steers hidden states beside a loss: which layers train, and the directions and the noise of their targets."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace

import torch
from torch import nn

from remem_tasks.errors import RememError
from remem_tasks.parts import decoder_layers, part_of
from unlearning.data import Pairs, Role, evenly
from unlearning.forward import Answers, Forward, answers, evaluating
from unlearning.refusals import REFUSALS


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


def train_down_projection(model: nn.Module, layer: int, notes: dict[str, str]) -> int:
    """Freeze all that is trained but the down projection of decoder layer L; which layer that is.

    Args:
        layer: L from 0, or −1 for two thirds of the depth.
        notes: of the run; told which layer it is.

    Raises:
        RememError: there is no such layer, or nothing of its down projection was to be trained.
    """
    depth = len(decoder_layers(model))
    chosen = depth * 2 // 3 if layer == -1 else layer
    if not 0 <= chosen < depth:
        raise RememError(f"--lunar_layer {layer}: the language model has layers 0 to {depth - 1}")
    left = 0
    for name, value in model.named_parameters():
        here = part_of(name) == "language_model" and f".layers.{chosen}.mlp.down_proj." in name
        value.requires_grad_(value.requires_grad and here)
        left += value.requires_grad
    if not left:
        raise RememError(f"lunar trains the down projection of decoder layer {chosen}, which is not trained")
    notes["layers"] = f"hidden states of decoder layer {chosen}; its down projection trains"
    return chosen


@torch.no_grad()
def shift(forward: Forward, pairs: Pairs, layer: int, limit: int) -> torch.Tensor:
    """Mean output of a layer at refusals of forget questions − that at their own answers, [d], of the model as it is now.

    Args:
        limit: forget rows, spread evenly; 0 is all. Their refusals are taken in turn.
    """
    sums, tokens = [torch.zeros(1), torch.zeros(1)], [0, 0]
    with evaluating(forward.model), forward.context():
        for position, row in enumerate(evenly(len(pairs), limit)):
            for side, answer in enumerate((None, REFUSALS[position % len(REFUSALS)])):
                example = pairs.make(Role.FORGET, row, answer)
                inputs = forward.prepare(forward.collate([[replace(example, role=Role.PLAIN)]]))
                hidden = answers(forward.model, inputs, layer=layer).hidden
                sums[side] = sums[side] + hidden.sum(dim=0).cpu()
                tokens[side] += len(hidden)
    return sums[1] / tokens[1] - sums[0] / tokens[0]


def noise(seed: int, step: int, rows: Answers, like: torch.Tensor) -> torch.Tensor:
    """A draw from N(0, 1) for each value of the retain rows' hidden states, [N, d].

    It is a function of the seed, the step and the answer, so that how a step is cut up changes nothing.

    Args:
        rows: which tokens are whose.
        like: [N, d], gives width, device and dtype.
    """
    drawn, begin = [], 0
    for length in rows.tokens.tolist():
        answer = rows.labels[begin : begin + length].cpu().numpy().tobytes()
        mixed = zlib.crc32(
            answer, zlib.crc32(f"{seed} {step}".encode())
        )  # 32 bits: a generator takes no more
        generator = torch.Generator().manual_seed(mixed)
        drawn.append(torch.randn(length, like.shape[-1], generator=generator))
        begin += length
    return torch.cat(drawn).to(like)


def direction(seed: int, like: torch.Tensor) -> torch.Tensor:
    """u: uniform in [0, 1) and made a unit vector, [d]; the same at every step of a run.

    Args:
        like: [N, d], gives width, device and dtype.
    """
    drawn = torch.rand(like.shape[-1], generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.norm()).to(like)
