"""Branches that read one token at a time, on a tree that is left as it was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from remem_tasks.engine.packing import Packing, PrivateColumns
from remem_tasks.engine.state import State, widened
from remem_tasks.engine.tree import Tree


def slots_of(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(place of each branch among those of its row, the largest number of them)."""
    order = torch.argsort(rows, stable=True)
    ranked = rows[order]
    place = torch.arange(len(rows), device=rows.device)
    first = torch.searchsorted(ranked, ranked)
    slots = torch.empty_like(place)
    slots[order] = place - first
    return slots, int(slots.max()) + 1


class Front:
    """Branches that each read one token at a time, on a tree that is left as it was found.

    Args:
        scored: logits (N, vocabulary), their tree and their rows (N) to log-probabilities.
        state: where the branches begin.

    Attributes:
        rows, visible, positions: of the branches, as in `State`.
    """

    def __init__(
        self, scored: Callable[[torch.Tensor, Tree, torch.Tensor], torch.Tensor], state: State
    ) -> None:
        self.scored = scored
        self.tree, self.mark = state.tree, state.tree.columns
        self.own = False
        self.rows, self.positions = state.rows, state.positions
        self.visible = widened(state.visible, self.mark)
        self._slots: tuple[torch.Tensor, int] | None = None

    def take(self, branches: torch.Tensor, copy: bool = False) -> None:
        """Go on with these branches, in this order; a branch may come several times.

        Rows with no branch left and columns that no branch sees leave, where that saves enough to
        pay for copying the rest.

        Args:
            copy: whether rows leave at once.
        """
        self.rows, self.positions = self.rows[branches], self.positions[branches]
        self.visible = self.visible[branches]
        self._slots = slots_of(self.rows)
        width = self._slots[1]
        tree, size = self.tree, len(self.tree.names)
        seen = torch.zeros(size, tree.columns, device=self.rows.device)
        seen = seen.index_add_(0, self.rows, self.visible.float()) > 0
        counts = seen.sum(-1)
        left = counts.nonzero()[:, 0]
        columns = int(counts.max())
        fewer = len(left) < size
        if len(left) * columns > 0.75 * size * tree.columns and not (fewer and (copy or width >= 8)):
            return
        # What is seen first, in its order, then as much of the rest as makes rows equally long.
        keep = (~seen[left]).to(torch.uint8).argsort(dim=-1, stable=True)[:, :columns]
        smaller = tree.of(left, keep, width)
        self.close()
        self.tree, self.own = smaller, True
        self.rows = torch.searchsorted(left, self.rows)
        self.visible = self.visible.gather(1, keep[self.rows])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one token per branch; log-probabilities of the next, (branches, vocabulary)."""
        if self._slots is None:
            self._slots = slots_of(self.rows)
        slots, width = self._slots
        self.visible = torch.cat([self.visible, F.one_hot(slots, width).bool()], 1)
        logits = self.tree.append(self.rows, slots, width, tokens, self.positions, self.visible)
        self.positions = self.positions + 1
        return self.scored(logits, self.tree, self.rows)

    def close(self) -> None:
        """Forget what was appended."""
        if not self.own:
            self.tree.crop(self.mark)


class Lone(Front):
    """Branches that do not fork: with lanes, each sees alone what it reads.

    Attributes:
        lanes: None where the model cannot have them; then these are branches like others. With lanes,
            `rows`, `visible` and `positions` are those of the lanes, as they were at the first token.
    """

    lanes: PrivateColumns | None = None

    def begin(self, branches: torch.Tensor, longest: int) -> None:
        """Go on with these branches, for so many tokens at most."""
        self.take(branches)
        self.lanes = self.tree.lanes(len(self.rows), longest)
        self._mask: Any = None

    def take(self, branches: torch.Tensor, copy: bool = False) -> None:
        lanes = self.lanes
        if lanes is None:
            super().take(branches, copy)
            return
        lanes.active = lanes.active[branches]
        if len(lanes.active) < 0.75 * lanes.count:
            super().take(lanes.active)
            lanes.keep()
            self._mask = None

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        lanes, tree = self.lanes, self.tree
        if lanes is None:
            return super().step(tokens)
        slots, width = self._slots or slots_of(self.rows)
        now = self.positions + lanes.used
        if self._mask is None or tree.slides:
            places = tokens.new_zeros(len(tree.names), width)
            seen = torch.zeros(*places.shape, tree.columns, dtype=torch.bool, device=tokens.device)
            places[self.rows, slots], seen[self.rows, slots] = now, self.visible
            self._mask = tree.masks(seen, places)
        rows = self.rows[lanes.active]
        here = Packing(rows, slots[lanes.active], len(tree.names), width, lanes)
        logits = tree.advance(here, tokens, now[lanes.active], self._mask)
        return self.scored(logits, tree, rows)
