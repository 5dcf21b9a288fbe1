"""Greedy replies: what is known already is followed, and what agrees is decoded as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from remem_tasks.engine.frontiers import Lone
from remem_tasks.engine.reader import PromptReader, for_each
from remem_tasks.engine.state import GreedyReply, State, widened


@dataclass
class _GreedyCursor:
    """A greedy reply as far as it is known without decoding.

    Attributes:
        node: where it has come to.
        branch: whose reply it is.
        next: the token that it says next, and its log-probability.
        tokens, values: what it has said, and ln p of each.
        open: whether it goes on.
    """

    node: int
    branch: int
    next: tuple[int, float]
    tokens: list[int]
    values: list[float]
    open: bool = True

    @property
    def place(self) -> tuple[int, int]:
        """What goes on from here goes on alike."""
        return self.node, self.next[0]

    def say(self) -> None:
        self.tokens.append(self.next[0])
        self.values.append(self.next[1])


class Greedy(PromptReader):
    """The likeliest reply behind each branch."""

    @torch.inference_mode()
    def greedy(
        self, state: State, max_new_tokens: int | Sequence[int], first: Sequence[int] | None = None
    ) -> list[GreedyReply]:
        """The likeliest token again and again, until an end token or the limit; one reply per branch.

        A branch that says what `extend` has read for another is not decoded again: it follows the
        other, and goes on with it as one. So the cuts of an answer that a model has memorised cost
        little more than one reply.

        Args:
            max_new_tokens: at least 1, for all or for each branch.
            first: the token that each branch says first; −1 for the likeliest.
        """
        limits = for_each(max_new_tokens, len(state))
        if min(limits, default=1) < 1:
            raise ValueError(f"max_new_tokens is {min(limits)}; at least 1")
        self._check_room(state, torch.tensor(limits, device=self.device))
        walks = self._follow(state, limits, first)
        starts: dict[tuple[int, int], int] = {}  # node and next token to the front's branch
        need: list[int] = []  # tokens wanted from each
        for walk, limit in zip(walks, limits):
            if walk.open:
                if walk.place not in starts:
                    starts[walk.place] = len(need)
                    need.append(0)
                at = starts[walk.place]
                need[at] = max(need[at], limit - len(walk.tokens))
        tails = self._decode(state, walks, starts, need)
        replies = []
        for walk, limit in zip(walks, limits):
            tokens, values = walk.tokens, walk.values
            if walk.open:
                more, extra = tails[starts[walk.place]]
                tokens, values = (tokens + more)[:limit], (values + extra)[:limit]
            replies.append(GreedyReply(tokens, tokens[-1] in self.ends, math.fsum(values)))
        return replies

    def _follow(
        self, state: State, limits: Sequence[int], first: Sequence[int] | None
    ) -> list[_GreedyCursor]:
        """What each branch says as long as it stays among what `extend` has read."""
        best, chosen = state.logp.max(-1)
        if first is not None:
            told = torch.tensor(first, dtype=torch.long, device=self.device)
            chosen = torch.where(told < 0, chosen, told)
            best = state.logp.gather(1, chosen[:, None])[:, 0]
        value, token = best.tolist(), chosen.tolist()
        known = state.known
        walks = []
        for branch, limit in enumerate(limits):
            # Without a trie, every branch is a node of its own.
            node = known.ends[branch] if known else -1 - branch
            walk = _GreedyCursor(node, branch, (token[branch], value[branch]), [], [])
            while known and len(walk.tokens) < limit and walk.next[0] not in self.ends:
                child = known.trie.children.get((walk.node, walk.next[0]))
                if child is None:
                    break
                walk.say()
                walk.node, walk.next = child, known.best[known.place[child]]
            if len(walk.tokens) < limit and walk.next[0] in self.ends:
                walk.say()
                walk.open = False
            walk.open = walk.open and len(walk.tokens) < limit
            walks.append(walk)
        return walks

    def _decode(
        self,
        state: State,
        walks: Sequence[_GreedyCursor],
        starts: Mapping[tuple[int, int], int],
        need: Sequence[int],
    ) -> list[tuple[list[int], list[float]]]:
        """Greedy tokens, and ln p of each, from the nodes where walks have left what is known.

        Args:
            starts: node and next token to index.
            need: how many tokens are wanted from each.
        """
        if not starts:
            return []
        first: dict[int, _GreedyCursor] = {}
        for walk in walks:
            if walk.open:
                first.setdefault(starts[walk.place], walk)
        from_ = [first[index] for index in range(len(need))]
        front, device = Lone(self.log_probabilities, state), self.device
        index = torch.tensor([walk.branch for walk in from_], device=device)
        rows, visible, positions = front.rows[index], front.visible[index], front.positions[index]
        known, away = state.known, [place for place, walk in enumerate(from_) if walk.node >= 0]
        if known is not None and away:
            nodes = [known.place[from_[place].node] for place in away]
            rows[away], positions[away] = known.rows[nodes], known.positions[nodes]
            visible[away] = widened(known.visible[nodes], front.mark)
        front.rows, front.visible, front.positions = rows, visible, positions
        limit, longest = torch.tensor(need, device=device), max(need)
        front.begin(torch.arange(len(need), device=device), longest)
        out = torch.full((len(need), longest), -1, dtype=torch.long, device=device)
        values = torch.zeros(len(need), longest, dtype=torch.float64, device=device)
        at = torch.arange(len(need), device=device)
        token = torch.tensor([walk.next[0] for walk in from_], device=device)
        best = torch.tensor([walk.next[1] for walk in from_], device=device)
        for place in range(longest):
            out[at, place], values[at, place] = token, best.double()
            going = ~torch.isin(token, self._ends) & (place + 1 < limit[at])
            if not going.all():
                left = going.nonzero()[:, 0]
                at, token = at[left], token[left]
                if not len(at):
                    break
                front.take(left)
            best, token = front.step(token).max(-1)
        front.close()
        lengths = (out >= 0).sum(-1).tolist()
        return [
            (tokens[:length], of_tokens[:length])
            for tokens, of_tokens, length in zip(out.tolist(), values.tolist(), lengths)
        ]
