"""MLP neurons: what they do on rows with and without their picture, and taking some of them out."""

from __future__ import annotations

import re

import torch
from datasets import Dataset
from torch import nn

from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import RememError
from unlearning.data import Encoder, Example, Examples, Role
from unlearning.forward import Forward, evaluating

ACTIVE = 0.1  # a neuron counts as active where |z| is above this (as in MANU's released code)
_MLP = re.compile(r"\.(mlp|feed_forward)\.(down_proj|fc2|w2)$")


def projections(model: nn.Module) -> dict[str, nn.Linear]:
    """By name, the trained linear maps that read the neurons of an MLP: column j of a weight is neuron j's output."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _MLP.search(name) and module.weight.requires_grad
    }


def statistics(z: torch.Tensor) -> torch.Tensor:
    """Mean of |z|, share of |z| above ACTIVE, variance and root mean square over tokens, [T, n] → [4, n]."""
    size = z.abs()
    return torch.stack(
        [
            size.mean(dim=0),
            (size > ACTIVE).to(z.dtype).mean(dim=0),
            z.var(dim=0, correction=0),
            z.square().mean(dim=0).sqrt(),
        ]
    )


def importance(contrasts: torch.Tensor) -> torch.Tensor:
    """I = sum over the four statistics of the mean over rows of their contrast.

    Args:
        contrasts: [rows, 4, n], |statistic on image and text − statistic on text alone|.
    """
    return contrasts.mean(dim=0).sum(dim=0)


def scores(forget: torch.Tensor, retain: torch.Tensor, epsilon: float) -> torch.Tensor:
    """S = I(F) / (I(R) + e), [n] twice → [n]."""
    return forget / (retain + epsilon)


@torch.no_grad()
def row_statistics(forward: Forward, maps: dict[str, nn.Linear], example: Example) -> dict[str, torch.Tensor]:
    """`statistics` of every MLP over the tokens of one row; zeros where an MLP does not run.

    (The vision tower's do not, for a row without a picture: its contrast is the statistic itself.)
    """
    found = {name: torch.zeros(4, module.in_features) for name, module in maps.items()}

    def keeper(name):
        def keep(module, args):
            found[name] = statistics(args[0].flatten(0, -2).float()).cpu()

        return keep

    handles = [module.register_forward_pre_hook(keeper(name)) for name, module in maps.items()]
    try:
        forward([example])
    finally:
        for handle in handles:
            handle.remove()
    return found


def importance_of(
    forward: Forward, maps: dict[str, nn.Linear], table: Dataset, encoder: Encoder, limit: int
) -> dict[str, torch.Tensor]:
    """`importance` of every MLP's neurons over the first rows of a table, by name of its map.

    Args:
        limit: number of rows; 0 is all.
    """
    examples = Examples(table, Role.PLAIN, encoder)
    total = dict.fromkeys(maps, 0.0)
    count = min(limit or len(table), len(table))
    for index in range(count):
        seen = row_statistics(forward, maps, examples.example(index))
        blind = row_statistics(forward, maps, encoder.without_picture(table[index]))
        for name in maps:
            total[name] = total[name] + (seen[name] - blind[name]).abs() / count
    return {name: importance(value[None]) for name, value in total.items()}


def prune(maps: dict[str, nn.Linear], scored: dict[str, torch.Tensor], share: float) -> dict[str, int]:
    """Zero the neurons with the highest scores, counted over all MLPs together.

    Args:
        scored: [n] by name of a map.
        share: of all neurons, above 0 and below 1; at least one goes.

    Returns:
        How many neurons of each map are gone.
    """
    flat = torch.cat([scored[name] for name in maps])
    worst = torch.zeros_like(flat, dtype=torch.bool)
    worst[flat.topk(max(1, int(share * len(flat)))).indices] = True
    gone = {}
    for name, chosen in zip(maps, worst.split([len(scored[name]) for name in maps])):
        maps[name].weight.data[:, chosen.to(maps[name].weight.device)] = 0
        gone[name] = int(chosen.sum())
    return gone


def prune_most_important(
    forward: Forward, rows: TrainingRows, encoder: Encoder, share: float, limit: int, epsilon: float
) -> str:
    """Take out the neurons that matter to the forget rows and not to the retain rows; in words, what went.

    Args:
        forward: of the model that is changed.
        rows: its forget and retain tables.
        share: of all neurons, as in `prune`.
        limit: rows of each kind; 0 is all.
        epsilon: e of `scores`.

    Raises:
        RememError: no MLP of a known kind is trained, or the share is out of range.
    """
    if not 0 < share < 1:
        raise RememError(f"the share of neurons that go is {share}: it must be above 0 and below 1")
    maps = projections(forward.model)
    if not maps:
        raise RememError("no MLP of a known kind is among what is trained (see --train)")
    with evaluating(forward.model):
        lost, kept = (
            importance_of(forward, maps, table, encoder, limit) for table in (rows.forget, rows.retain)
        )
    gone = prune(maps, {name: scores(lost[name], kept[name], epsilon) for name in maps}, share)
    return f"{sum(gone.values())} of {sum(m.in_features for m in maps.values())} neurons in {len(maps)} MLPs"
