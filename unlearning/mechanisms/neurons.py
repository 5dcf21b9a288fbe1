"""MLP neurons: what they do on rows with and without their picture, and taking some of them out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional

from remem_tasks.benchmarks.training_rows import TrainingRows
from remem_tasks.errors import RememError
from remem_tasks.parts import part_of
from unlearning.data import IGNORE, Encoder, Example, Examples, Role, evenly
from unlearning.forward import Forward, answers, evaluating

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


@contextmanager
def _watched(
    maps: dict[str, nn.Linear],
    measure: Callable[[torch.Tensor], torch.Tensor],
    found: dict[str, torch.Tensor],
) -> Iterator[None]:
    """What a measure finds in the neurons that each map reads in a forward goes into `found`, by the map's name."""

    def keeper(name):
        def keep(module, args):
            found[name] = measure(args[0]).cpu()

        return keep

    handles = [module.register_forward_pre_hook(keeper(name)) for name, module in maps.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def row_statistics(forward: Forward, maps: dict[str, nn.Linear], example: Example) -> dict[str, torch.Tensor]:
    """`statistics` of every MLP over the tokens of one row; zeros where an MLP does not run.

    (The vision tower's do not, for a row without a picture: its contrast is the statistic itself.)
    """
    found = {name: torch.zeros(4, module.in_features) for name, module in maps.items()}
    with _watched(maps, lambda z: statistics(z.flatten(0, -2).float()), found):
        forward([example])
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


@torch.no_grad()
def answer_activations(
    forward: Forward, maps: dict[str, nn.Linear], examples: Sequence[Example]
) -> dict[str, torch.Tensor]:
    """Mean |z| over the tokens that the answers of some examples are predicted from, [n] by name of a map."""
    inputs = forward.prepare(forward.collate([[replace(example, role=Role.PLAIN)] for example in examples]))
    keep = functional.pad(inputs["labels"][:, 1:] != IGNORE, (0, 1))
    found: dict[str, torch.Tensor] = {}
    with _watched(maps, lambda z: z[keep].float().abs().mean(dim=0), found), forward.context():
        answers(forward.model, inputs)
    return found


def gates(forget: torch.Tensor, retain: torch.Tensor, gamma: float, epsilon: float = 1e-12) -> torch.Tensor:
    """exp(−γ max(0, ln f − ln r)), between 0 and 1: what is left of a neuron; [n] twice → [n]."""
    return (-gamma * ((forget + epsilon).log() - (retain + epsilon).log()).clamp(min=0)).exp()


def weaken(
    forward: Forward,
    rows: TrainingRows,
    encoder: Encoder,
    gamma: float,
    passes: int,
    limit: int,
    layers: tuple[int, int],
) -> str:
    """Make neurons weaker by how much more they are active in answers to forget rows than to retain rows; in words, what was done.

    One forget row after another, each through the model as the ones before have left it.

    Args:
        forward: of the model that is changed.
        rows: its forget and retain tables.
        gamma, passes: γ of `gates`; how often it goes over the forget rows.
        limit: retain rows, spread evenly; 0 is all.
        layers: the first and the last decoder layer whose neurons are made weaker.

    Raises:
        RememError: none of these layers is there and trained.
    """
    first, last = layers
    place = {name: re.search(r"\.layers\.(\d+)\.", name) for name in projections(forward.model)}
    maps = {
        name: module
        for name, module in projections(forward.model).items()
        if part_of(name) == "language_model" and place[name] and first <= int(place[name][1]) <= last
    }
    if not maps:
        raise RememError(f"no MLP of the decoder layers {first} to {last} is among what is trained")
    lost, kept = (Examples(table, Role.PLAIN, encoder) for table in (rows.forget, rows.retain))
    total, tokens = dict.fromkeys(maps, 0.0), 0
    with evaluating(forward.model):
        for row in evenly(len(kept), limit):
            example = kept.example(row)
            size = len(example.answer_ids)
            for name, value in answer_activations(forward, maps, [example]).items():
                total[name] = total[name] + value * size
            tokens += size
        left = {name: torch.ones(module.in_features) for name, module in maps.items()}
        for number in range(passes * len(lost)):
            active = answer_activations(forward, maps, [lost.example(number % len(lost))])
            for name, module in maps.items():
                gate = gates(active[name], total[name] / tokens, gamma)
                module.weight.data *= gate.to(module.weight)
                left[name] *= gate
    weights = torch.cat(list(left.values()))
    return f"{int((weights < 1).sum())} of {len(weights)} neurons in {len(maps)} MLPs, to {weights.mean():.1%} on the average"


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
