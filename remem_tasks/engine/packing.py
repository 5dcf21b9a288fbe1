"""Tokens of several rows as one sequence: only attention sees which row a token is of.

Rows want different numbers of tokens read. Padded to the widest, a third of what the model computes is
thrown away. Packed, the tokens of all rows are one sequence (1, N) for whatever treats tokens alone
(embeddings, projections, norms, MLPs, experts, the head), which is nearly all; around attention they are
taken apart into rows, and put together again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "remem_packed"


class Packing(NamedTuple):
    """Where N tokens of a sequence stand.

    Attributes:
        rows, slots: (N) row of each token and its place among the row's new columns.
        count, width: the number of rows and of new columns.
    """

    rows: torch.Tensor
    slots: torch.Tensor
    count: int
    width: int

    def into(self, place: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Put states (1, heads, N, size) into `place` (rows, width, heads, size); zero where no token is."""
        place.zero_()
        place[self.rows, self.slots] = states[0].transpose(0, 1)
        return place


_PACKING: ContextVar[Packing | None] = ContextVar("packing", default=None)
packing = _PACKING.get


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed query (1, heads, N, size) to the keys and values of rows."""
    here = packing()
    shape = (here.count, here.width, query.shape[1], query.shape[3])
    apart = here.into(query.new_empty(shape), query).transpose(1, 2)
    output, _ = sdpa_attention_forward(module, apart, key, value, attention_mask, **options)
    return output[here.rows, here.slots][None], None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)


class Packer:
    """Lets a model read packed tokens.

    Args:
        model: without adapter; its text layers must use `sdpa`, and do if `fits`.

    Attributes:
        fits: whether they do.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        text = model.config.get_text_config()
        configs = [
            part.config for part in model.modules() if type(getattr(part, "config", None)) is type(text)
        ]
        self._configs = list({id(config): config for config in [text, *configs]}.values())
        self.fits = all(getattr(config, "_attn_implementation", None) == "sdpa" for config in self._configs)

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
