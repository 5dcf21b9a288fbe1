"""Tokens of several rows as one sequence: only attention sees which row a token is of.

Rows want different numbers of tokens read. Padded to the widest, a third of what the model computes is
thrown away. Packed, the tokens of all rows are one sequence (1, N) for whatever treats tokens alone
(embeddings, projections, norms, MLPs, experts, the head), which is nearly all; around attention they are
taken apart into rows, and put together again.

Branches that no longer fork can have `PrivateColumns`: what a branch reads from then on, only it can see. So it
attends to its row's columns beside its row's other branches, to its own columns alone, and the two parts
are put together by their normalisers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from remem_tasks.engine.transformers_seam import (
    ALL_ATTENTION_FUNCTIONS,
    NORMALISED_ATTENTION,
    sdpa_attention_forward,
)

NAME = "remem_packed"

_CALL = 1_500_000
"""Floating-point operations that take a core about as long as calling attention does."""


class PrivateColumns:
    """Keys and values of L branches that each read one token per step: (L, heads, columns, size) a layer.

    Attributes:
        count: L.
        used: columns that are filled in all layers.
        active: (N) lane of each token that is read.
        own: keys and values of the layer that is at work.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.count, self.used = count, 0
        self.active = torch.arange(count, device=device)
        self.own: tuple[torch.Tensor, torch.Tensor] | None = None
        self._room: dict[object, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def own_states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the layer that is at work."""
        if self.own is None:
            raise RuntimeError("no layer has put the states of its lanes yet")
        return self.own

    def put(self, layer: object, states: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Put a layer's states (1, heads, N, size) of the tokens read behind what their lanes have."""
        room = self._room.get(layer)
        if room is None or room[0].shape[2] == self.used:
            wider = tuple(
                new.new_empty(self.count, new.shape[1], max(16, 2 * self.used), new.shape[3])
                for new in states
            )
            for old, new in zip(room or (), wider):
                new[:, :, : self.used] = old
            room = self._room[layer] = wider
        for place, new in zip(room, states):
            self.spread(new[0].transpose(0, 1), place[:, :, self.used])
        self.own = tuple(place[:, :, : self.used + 1] for place in room)

    def spread(self, states: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Put (N, …) of the tokens read into `place` (L, …); other lanes, which nothing reads, are left alone."""
        if len(states) == self.count:
            place.copy_(states)
        else:
            place[self.active] = states
        return place

    def keep(self) -> None:
        """Go on with the active lanes alone."""
        self._room = {
            layer: tuple(place[self.active] for place in room) for layer, room in self._room.items()
        }
        self.count = len(self.active)
        self.active = torch.arange(self.count, device=self.active.device)


@dataclass(frozen=True)
class Packing:
    """Where N tokens of a sequence stand.

    Attributes:
        rows, slots: (N) row of each token and its place among the row's new columns.
        count, width: the number of rows and of new columns.
        lanes: where the tokens' keys and values go in place of their rows, if anywhere.
    """

    rows: torch.Tensor
    slots: torch.Tensor
    count: int
    width: int
    lanes: PrivateColumns | None = None

    def into(self, place: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Put states (1, heads, N, size) into `place` (rows, width, heads, size); zero where no token is."""
        place.zero_()
        place[self.rows, self.slots] = states[0].transpose(0, 1)
        return place

    @cached_property
    def runs(self) -> tuple[torch.Tensor | None, list[int]] | None:
        """(order that puts the tokens of a row side by side or None, how many each row has).

        None where a row's tokens do not take its first slots.
        """
        many = torch.bincount(self.rows, minlength=self.count)
        if bool((self.slots >= many[self.rows]).any()):
            return None
        place = self.rows * self.width + self.slots
        order = None if bool((place[1:] > place[:-1]).all()) else place.argsort()
        return order, many.tolist()

    def ragged(self, query: torch.Tensor, key: torch.Tensor) -> bool:
        """Whether attention of rows one by one costs less than that of all rows, each taken to be the widest."""
        if query.device.type != "cpu":
            return False
        padding = self.count * self.width - query.shape[2]
        saved = 4 * padding * key.shape[2] * query.shape[1] * query.shape[3]
        return saved > _CALL * self.count and self.runs is not None


_PACKING: ContextVar[Packing | None] = ContextVar("packing", default=None)
packing = _PACKING.get


def _here() -> Packing:
    """The packing of the pass that attention runs in."""
    found = packing()
    if found is None:
        raise RuntimeError("attention of packed rows was called outside a packed pass")
    return found


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed query (1, heads, N, size) to the keys and values of rows."""
    here = _here()
    if here.lanes:
        return _beside_lanes(
            here, here.lanes, query, key, value, attention_mask, options.get("scaling")
        ), None
    if here.ragged(query, key):
        order, many = here.runs
        ordered = query if order is None else query[:, :, order]
        parts, start = [], 0
        for row, count in enumerate(many):
            if count:
                asks = ordered[:, :, start : start + count]
                mask = attention_mask[row : row + 1, :, :count]
                there = slice(row, row + 1)
                parts.append(
                    sdpa_attention_forward(module, asks, key[there], value[there], mask, **options)[0]
                )
                start += count
        output = torch.cat(parts, 1)
        return output if order is None else output[:, order.argsort()], None
    shape = (here.count, here.width, query.shape[1], query.shape[3])
    apart = here.into(query.new_empty(shape), query).transpose(1, 2)
    output, _ = sdpa_attention_forward(module, apart, key, value, attention_mask, **options)
    return output[here.rows, here.slots][None], None


def _beside_lanes(
    here: Packing,
    lanes: PrivateColumns,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float | None,
) -> torch.Tensor:
    """Attention of a packed query to its rows' columns and to its lanes': (1, N, heads, size)."""
    _, heads, many, size = query.shape
    kinds = key.shape[1]
    share = heads // kinds  # queries that one head of keys serves: side by side, as if they were tokens
    apart = here.into(query.new_empty(here.count, here.width, heads, size), query)
    apart = apart.view(here.count, here.width, kinds, share, size).permute(0, 2, 3, 1, 4)
    if share > 1:
        mask = mask.repeat(1, 1, share, 1)
    common, weight = NORMALISED_ATTENTION(apart.flatten(2, 3), key, value, attn_mask=mask, scale=scale)
    common, weight = (
        of.unflatten(2, (share, here.width))[here.rows, :, :, here.slots] for of in (common, weight)
    )
    alone = query[0].transpose(0, 1).reshape(many, kinds, share, size)
    if many < lanes.count:
        alone = lanes.spread(alone, alone.new_empty(lanes.count, kinds, share, size))
    own, own_weight = NORMALISED_ATTENTION(alone, *lanes.own_states, scale=scale)
    if many < lanes.count:
        own, own_weight = own[lanes.active], own_weight[lanes.active]
    # e^weight is what each part was divided by.
    part = torch.sigmoid(own_weight - weight)[..., None]
    return (
        torch.lerp(common.to(part.dtype), own.to(part.dtype), part).to(query.dtype).view(1, many, heads, size)
    )


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)


class Packer:
    """Lets a model read packed tokens.

    Args:
        model: without adapter; its text layers must use `sdpa`, and do if `fits`.

    Attributes:
        fits: whether they do.
        lanes: whether it can read with `PrivateColumns` too (on a CPU).
    """

    def __init__(self, model: torch.nn.Module) -> None:
        text = model.config.get_text_config()
        configs = [
            part.config for part in model.modules() if type(getattr(part, "config", None)) is type(text)
        ]
        self._configs = list({id(config): config for config in [text, *configs]}.values())
        self.fits = all(getattr(config, "_attn_implementation", None) == "sdpa" for config in self._configs)
        self.lanes = self.fits and NORMALISED_ATTENTION is not None and model.device.type == "cpu"

    @contextmanager
    def reading(self, here: Packing) -> Iterator[None]:
        """While this lasts, the model's input is the tokens of `here`, and its keys go to their rows."""
        token = _PACKING.set(here)
        for config in self._configs:
            config._attn_implementation = NAME
        try:
            yield
        finally:
            for config in self._configs:
                config._attn_implementation = "sdpa"
            _PACKING.reset(token)
