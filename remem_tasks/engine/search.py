"""The exact guess rank of a secret: how many outcomes a model finds likelier, by search and not by luck.

A prefix that is no likelier than the secret leads to no outcome that is. So a beam goes down the tree of
outcomes with the m + 1 likeliest prefixes above P(s) and counts what it comes to:

- it never had to drop a prefix above P(s): the count is the rank;
- it shows m outcomes above P(s): the rank is above m, which is all that a rank among m guesses says. A prefix u
  with r tokens to go has at most |V|^r outcomes, so where P(u) > |V|^r P(s) one of them is above P(s); such
  prefixes count before their outcomes are reached;
- else it begins anew, best first: the likeliest prefixes are read, their children above P(s) are put beside the
  others, until none is left, or m outcomes are shown, or the budget is spent. What is left then bounds the rank: a
  prefix u has less than P(u)/P(s) outcomes above P(s), and at least one where P(u) > |V|^r P(s).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from remem_tasks.engine.state import Continuations

NOTHING = -torch.inf
MARGIN = 1e-5  # ln P: what is nearer than that to the secret is as likely, as two float32 forwards can tell
SHOWN = 5  # outcomes that a search keeps


@dataclass(frozen=True)
class Rank:
    """What a search says of a secret.

    Attributes:
        low, high: bounds of its guess rank in [1, m + 1], where m + 1 is "not among m"; alike where it is exact.
        outcomes: the likeliest outcomes that the search came to, (tokens, ln P), the likeliest first.
        spent: how many prefixes were read for it after the beam.
    """

    low: int
    high: int
    outcomes: list[tuple[list[int], float]] = field(default_factory=list)
    spent: int = 0

    @property
    def exact(self) -> bool:
        return self.low == self.high


def shown(m: int, secret: Sequence[int], floor: float, drawings: Sequence[Continuations]) -> Rank | None:
    """What outcomes that were drawn prove of a secret: that its rank is above m; None where they do not.

    Args:
        m: guesses among which the secret is ranked.
        secret: its tokens.
        floor: its ln P.
        drawings: outcomes, each cut at as many tokens as the secret or behind an end token; one that was cut
            before is no likelier than the secret.
    """
    above = {
        tuple(tokens): value
        for drawing in drawings
        for tokens, value in zip(drawing.tokens, drawing.logprobs.tolist())
        if value > floor + MARGIN
    }
    above.pop(tuple(secret), None)
    if len(above) < m:
        return None
    best = heapq.nsmallest(SHOWN, above.items(), key=lambda outcome: (-outcome[1], outcome[0]))
    return Rank(m + 1, m + 1, [(list(tokens), value) for tokens, value in best])


class Beam:
    """The m + 1 likeliest prefixes above each of B secrets, a token longer with each `grow`.

    Args:
        m: guesses among which the secrets are ranked.
        secrets: the tokens of each; an outcome of its branch is cut at as many.
        floors: ln P of each.
        ends: tokens that end an outcome.
        words: how many tokens can be said.
        device: where the numbers are.

    Attributes:
        found: (B) outcomes above the secret so far, itself not among them.
        over: (B) whether there are m of them for certain.
        dropped: (B) whether prefixes above the secret were left behind before that was certain.
    """

    def __init__(
        self,
        m: int,
        secrets: Sequence[Sequence[int]],
        floors: Sequence[float],
        ends: torch.Tensor,
        words: int,
        device: torch.device,
    ) -> None:
        count, longest = len(secrets), max(map(len, secrets))
        self.m, self.width, self.ends, self.place = m, m + 1, ends, 0
        self.words = math.log(words)
        self.limits = torch.tensor([len(secret) for secret in secrets], device=device)
        self.secrets = torch.full((count, longest), -1, dtype=torch.long)
        for row, secret in zip(self.secrets, secrets):
            row[: len(secret)] = torch.tensor(list(secret), dtype=torch.long)
        self.secrets = self.secrets.to(device)
        self.floors = torch.tensor(list(floors), dtype=torch.float64).to(device) + MARGIN
        self.tokens = torch.full((count, self.width, longest), -1, dtype=torch.long, device=device)
        self.phi = torch.full((count, self.width), NOTHING, dtype=torch.float64, device=device)
        self.phi[:, 0] = 0
        self.own = self.phi == 0  # the beam that is a beginning of the secret
        self.found, self.sure = (torch.zeros(count, dtype=torch.long, device=device) for _ in range(2))
        self.over = torch.zeros(count, dtype=torch.bool, device=device)
        self.dropped = self.over.clone()
        self.shown = torch.full((count, SHOWN), NOTHING, dtype=torch.float64, device=device)
        self.shown_tokens = torch.full((count, SHOWN, longest), -1, dtype=torch.long, device=device)

    def grow(self, logp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Count the outcomes with one token more, and choose the prefixes that go on.

        Args:
            logp: (N, vocabulary) log-probabilities behind the prefixes, branch by branch; overwritten.

        Returns:
            (index into N of each new prefix's parent, its token), branch by branch
        """
        branch, slot = (self.phi > NOTHING).nonzero(as_tuple=True)
        phi, secret = self.phi[branch, slot], self.secrets[branch, self.place]
        left = self.limits[branch] - self.place - 1
        last = left == 0
        bound = (self.floors[branch] - phi).to(logp.dtype)[:, None]
        above = logp > bound
        ending = above.sum(-1).where(last, above[:, self.ends].sum(-1))
        ends = last | torch.isin(secret, self.ends)
        at = torch.arange(len(phi), device=logp.device)
        ending -= (self.own[branch, slot] & ends & above[at, secret.clamp_min(0)]).long()
        self.found.index_add_(0, branch, ending)
        self._show(branch, slot, phi, logp, last)

        logp[:, self.ends] = NOTHING
        logp[last] = NOTHING
        going = (logp > bound).sum(-1)
        certain = bound + left[:, None] * self.words
        self.sure.zero_()
        if bool((certain < 0).any()):
            self.sure.index_add_(0, branch, (logp > certain).sum(-1))
        self.over |= self.found + self.sure >= self.m
        return self._choose(branch, slot, phi, logp, bound, going)

    def _table(self, branch: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C) values to (B, width · C), −inf where there is none, and which of the N stands in each place."""
        counts = torch.bincount(branch, minlength=len(self.phi))
        place = torch.arange(len(branch), device=branch.device) - (counts.cumsum(0) - counts)[branch]
        width = max(1, int(counts.max()))
        table = values.new_full((len(self.phi), width, values.shape[1]), NOTHING)
        table[branch, place] = values
        origin = torch.zeros(len(self.phi), width, dtype=torch.long, device=branch.device)
        origin[branch, place] = torch.arange(len(branch), device=branch.device)
        return table.flatten(1), origin

    def _show(
        self,
        branch: torch.Tensor,
        slot: torch.Tensor,
        phi: torch.Tensor,
        logp: torch.Tensor,
        last: torch.Tensor,
    ) -> None:
        """Keep the likeliest outcomes."""
        best, token = logp[:, self.ends].topk(min(SHOWN, len(self.ends)))
        values = logp.new_full((len(phi), SHOWN), NOTHING)
        tokens = torch.zeros(len(phi), SHOWN, dtype=torch.long, device=logp.device)
        values[:, : best.shape[1]], tokens[:, : best.shape[1]] = best, self.ends[token]
        if bool(last.any()):
            many = min(SHOWN, logp.shape[1])
            values[last, :many], tokens[last, :many] = logp[last].topk(many)
        table, origin = self._table(branch, phi[:, None] + values.double())
        best, chosen = torch.cat([table, self.shown], 1).topk(SHOWN)
        old = chosen >= table.shape[1]
        chosen_here = torch.where(old, 0, chosen)
        here = origin.gather(1, chosen_here // SHOWN)
        rows = torch.arange(len(best), device=best.device)[:, None]
        made = self.tokens[rows, slot[here]].clone()
        made[:, :, self.place] = tokens[here, chosen_here % SHOWN]
        kept = self.shown_tokens[rows, torch.where(old, chosen - table.shape[1], 0)]
        self.shown, self.shown_tokens = best, torch.where(old[..., None], kept, made)

    def _choose(
        self,
        branch: torch.Tensor,
        slot: torch.Tensor,
        phi: torch.Tensor,
        logp: torch.Tensor,
        bound: torch.Tensor,
        going: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        few = max(1, min(self.width, int(going.max())))
        best, token = logp.topk(few)
        values = torch.where(best > bound, phi[:, None] + best.double(), NOTHING)
        table, origin = self._table(branch, values)
        many = min(self.width, table.shape[1])
        best, chosen = table.topk(many)
        # Of what is certain only the likeliest outcomes are still to be seen.
        best[:, SHOWN:] = torch.where(self.over[:, None], NOTHING, best[:, SHOWN:])
        filled = best > NOTHING
        total = torch.zeros_like(self.found).index_add_(0, branch, going)
        self.dropped |= ~self.over & (total > filled.sum(-1))
        here, within = origin.gather(1, chosen // few), chosen % few
        rows = torch.arange(len(best), device=best.device)[:, None]
        fresh = token[here, within]
        own = self.own[rows, slot[here]] & (fresh == self.secrets[:, self.place, None]) & filled
        tokens = self.tokens[rows, slot[here]]
        tokens[:, :, self.place] = fresh
        self.phi = torch.full_like(self.phi, NOTHING)
        self.own = torch.zeros_like(self.own)
        self.phi[:, :many], self.own[:, :many], self.tokens[:, :many] = best, own, tokens
        self.place += 1
        return here[filled], fresh[filled]

    def ranks(self) -> list[Rank | None]:
        """The rank of each secret; None where the beam cannot say it."""
        ranks: list[Rank | None] = []
        parts = zip(
            self.found.tolist(),
            self.over.tolist(),
            self.dropped.tolist(),
            self.shown.tolist(),
            self.shown_tokens.tolist(),
        )
        for found, over, dropped, values, outcomes in parts:
            rank = self.m + 1 if over else None if dropped else 1 + found
            shown = [
                ([token for token in outcome if token >= 0], value)
                for outcome, value in zip(outcomes, values)
                if value > NOTHING
            ]
            ranks.append(None if rank is None else Rank(rank, rank, shown))
        return ranks


class BestFirst:
    """The prefixes above one secret that are still to be read, the likeliest first.

    Args:
        m: guesses among which the secret is ranked.
        secret: its tokens.
        floor: its ln P.
        ends: tokens that end an outcome.
        words: how many tokens can be said.
        budget: prefixes that may be read.
    """

    def __init__(
        self, m: int, secret: Sequence[int], floor: float, ends: Sequence[int], words: int, budget: int
    ) -> None:
        self.m, self.secret, self.floor = m, tuple(secret), floor + MARGIN
        self.ends, self.words, self.budget = frozenset(ends), math.log(words), budget
        self.found = self.spent = 0
        self.lost = False  # whether prefixes were let go that nothing bounds
        self.heap: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
        self.outcomes: list[tuple[float, tuple[int, ...]]] = []

    @property
    def bounds(self) -> tuple[int, int]:
        """Of the number of likelier outcomes, in [0, m]."""
        low, high = self.found, self.found
        for cost, prefix in self.heap:
            spare = -cost - self.floor  # ln P(u)/P(s)
            low += spare > (len(self.secret) - len(prefix)) * self.words
            # So many outcomes above the floor have room in it; where one of its outcomes is the secret, beside that.
            own = math.exp(-MARGIN) if prefix == self.secret[: len(prefix)] else 0.0
            high += self.m if spare > math.log(self.m + 1) else max(0, math.floor(math.exp(spare) - own))
        high = self.m if self.lost else high
        return min(low, self.m), min(high, self.m)

    @property
    def open(self) -> bool:
        """Whether there is something to read, that may be read and could change the rank."""
        low, high = self.bounds
        return bool(self.heap) and low < high and self.spent < self.budget

    def take(self, most: int) -> list[tuple[float, tuple[int, ...]]]:
        """The likeliest prefixes, (−ln P, tokens), which `put` is to be given the children of."""
        count = min(most, len(self.heap), self.budget - self.spent)
        self.spent += count
        return [heapq.heappop(self.heap) for _ in range(count)]

    def put(self, taken: Sequence[tuple[float, tuple[int, ...]]], logp: torch.Tensor) -> None:
        """Count and keep the children above the secret.

        Args:
            taken: (N) prefixes.
            logp: (N, vocabulary) behind each.
        """
        costs = torch.tensor([cost for cost, _ in taken], dtype=torch.float64, device=logp.device)
        values = logp.double() - costs[:, None]
        above = values > self.floor
        count = int(above.sum())
        most = self.budget + self.m + 1  # of what is beyond, nothing could be read
        best, chosen = values.where(above, values.new_tensor(NOTHING)).flatten().topk(min(count, most))
        self.lost |= count > most
        for value, index in zip(best.tolist(), chosen.tolist()):
            outcome = (*taken[index // logp.shape[1]][1], index % logp.shape[1])
            if outcome[-1] in self.ends or len(outcome) == len(self.secret):
                self.found += outcome != self.secret
                self.outcomes.append((-value, outcome))
            else:
                heapq.heappush(self.heap, (-value, outcome))
        self.outcomes = heapq.nsmallest(SHOWN, self.outcomes)

    def rank(self) -> Rank:
        low, high = self.bounds
        shown = [(list(outcome), -cost) for cost, outcome in self.outcomes]
        return Rank(1 + low, 1 + high, shown, self.spent)
