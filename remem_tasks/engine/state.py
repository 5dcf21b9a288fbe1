"""Branches of a batch of rows: where decoding can go on, and what has been read there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from remem_tasks.engine.tree import Tree
from remem_tasks.engine.trie import Trie


@dataclass
class Known:
    """Nodes of a trie that have been read behind a state.

    Attributes:
        trie: the token lists.
        ends: the last node of each token list; of an empty one its branch, −1 − b.
        place: node to its place in what follows.
        rows, visible, positions: of each node read; `positions` is of the node's next token.
        best: the likeliest token behind each node read, and its log-probability.
    """

    trie: Trie
    ends: list[int]
    place: dict[int, int]
    rows: torch.Tensor
    visible: torch.Tensor
    positions: torch.Tensor
    best: list[tuple[int, float]]


@dataclass
class State:
    """Branches of the rows of a tree: where decoding can go on.

    Attributes:
        tree: keys and values of the rows.
        rows: (B) row of each branch.
        visible: (B, columns) the columns that a branch sees; columns appended later are not its own.
        positions: (B) position of its next token.
        logp: (B, vocabulary) float32 log-probabilities of its next token.
        given: log-probabilities of the tokens that `extend` was given, one tensor per branch.
        known: what `extend` read, which `greedy` follows as long as it says the same.
    """

    tree: Tree
    rows: torch.Tensor
    visible: torch.Tensor
    positions: torch.Tensor
    logp: torch.Tensor
    given: list[torch.Tensor]
    known: Known | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, branch: int) -> str:
        """How error messages call the branch's row."""
        return self.tree.names[int(self.rows[branch])]

    def lengths(self) -> torch.Tensor:
        """(B) tokens that each branch has read."""
        return self.visible.sum(-1)


class GreedyReply(NamedTuple):
    """A greedy reply: its tokens (with the end token, if it ended), whether it ended, its ln p."""

    tokens: list[int]
    ended: bool
    logprob: float


@dataclass
class Continuations:
    """Continuations of one branch.

    Attributes:
        tokens: each with its end token, if it ended.
        logprobs: ln p of each, float64.
        perturbed: of `distinct`, ln p plus Gumbel noise, in falling order; None of `sample`.
    """

    tokens: list[list[int]]
    logprobs: torch.Tensor
    perturbed: torch.Tensor | None = None


def apart(state: State, branches: Sequence[int]) -> State:
    """A state of some branches on a copy of their rows."""
    index = torch.tensor(list(branches), dtype=torch.long, device=state.rows.device)
    rows, tree = state.rows[index], state.tree
    left = rows.unique()
    columns = torch.arange(tree.columns, device=rows.device).expand(len(left), -1)
    return State(
        tree.of(left, columns),
        torch.searchsorted(left, rows),
        state.visible[index],
        state.positions[index],
        state.logp[index],
        [],
    )


def picked(state: State, branches: Sequence[int]) -> State:
    """A state of some branches, without their scores."""
    index = torch.tensor(list(branches), dtype=torch.long, device=state.rows.device)
    return State(
        state.tree, state.rows[index], state.visible[index], state.positions[index], state.logp[:0], []
    )


def widened(visible: torch.Tensor, columns: int) -> torch.Tensor:
    return F.pad(visible, (0, columns - visible.shape[1])) if visible.shape[1] < columns else visible
