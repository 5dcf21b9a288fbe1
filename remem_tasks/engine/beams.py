"""Sampling without replacement from a model: stochastic beam search (Kool et al. 2019, arXiv 1903.06059).

Give every outcome its ln p plus Gumbel noise; the m outcomes with the largest sums are a sample without
replacement. The largest sum below a prefix is itself ln P(prefix) plus Gumbel noise, so the search goes
from the root down: a prefix's largest sum is shared out among its children, and the m best are kept.

Between a prefix and its next tokens stands a level of groups of about √vocabulary tokens. That is a tree
like any other, and a step draws 2 √vocabulary numbers a beam in place of one for each token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from remem_tasks.engine.draw import generator, gumbels, gumbels_with_maximum

NOTHING = -torch.inf


class Beams:
    """The m best beams of each of B branches.

    Args:
        m: beams a branch.
        limits: tokens at which an outcome is cut, one per branch.
        seeds: one per branch.
        floors: log-probabilities, one per branch; a prefix that is no likelier is an outcome.
        ends: tokens that end an outcome.
        device: where the numbers are.

    Attributes:
        tokens: (B, m, longest), −1 behind the end.
        phi, perturbed: (B, m) ln P of each beam and its largest sum, −inf where there is no beam.
        live: (B, m) beams that go on.
    """

    def __init__(
        self,
        m: int,
        limits: Sequence[int],
        seeds: Sequence[int],
        floors: Sequence[float],
        ends: torch.Tensor,
        device: torch.device,
    ) -> None:
        self.m, self.ends, self.place = m, ends, 0
        self.limits = torch.tensor(limits, device=device)[:, None]
        self.floors = torch.tensor(floors, dtype=torch.float64).to(device)[:, None]
        self.sources = [generator(seed) for seed in seeds]
        shape = (len(limits), m)
        self.tokens = torch.full((*shape, max(limits)), -1, dtype=torch.long, device=device)
        self.phi = torch.full(shape, NOTHING, dtype=torch.float64, device=device)
        self.phi[:, 0] = 0
        self.perturbed = self.phi.clone()
        self.perturbed[:, 0] = self._noise([1] * len(limits), 1)[:, 0]
        self.live = self.phi == 0

    def _noise(self, counts: Sequence[int], size: int) -> torch.Tensor:
        """Gumbel noise (sum of counts, size), each branch's from its own stream."""
        drawn = [gumbels(source, count, size) for source, count in zip(self.sources, counts) if count]
        return torch.cat(drawn).to(self.phi.device)

    @staticmethod
    def _shared_out(flat: torch.Tensor, which: torch.Tensor, place: torch.Tensor, width: int) -> torch.Tensor:
        """(N, C) values of items, to (B, width · C) by branch, −inf where there is no item."""
        table = flat.new_full((len(which), width, flat.shape[1]), NOTHING)
        table[which.nonzero()[:, 0], place] = flat
        return table.flatten(1)

    def grow(self, logp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose the beams with one token more.

        Args:
            logp: (N, vocabulary) log-probabilities behind the live beams, in the order of `live.nonzero()`.

        Returns:
            (index into N of each new live beam's parent, its token), in the order of `live.nonzero()`
        """
        m, vocabulary = self.m, logp.shape[1]
        size = math.isqrt(vocabulary - 1) + 1
        groups = -(-vocabulary // size)
        grouped = F.pad(logp, (0, groups * size - vocabulary), value=NOTHING).view(-1, groups, size)
        phi = self.phi[self.live]

        # The groups of tokens behind live beams, and the outcomes that are finished.
        counts = self.live.sum(-1)
        place = (self.live.cumsum(-1) - 1)[self.live]
        width = int(counts.max())
        number = torch.zeros(len(counts), width, dtype=torch.long, device=logp.device)
        branch, slot = self.live.nonzero(as_tuple=True)
        number[branch, place] = torch.arange(len(phi), device=logp.device)
        below = phi[:, None] + grouped.logsumexp(-1).double()
        keys = gumbels_with_maximum(below, self._noise(counts.tolist(), groups), self.perturbed[self.live])
        keys = self._shared_out(keys, self.live, place, width)
        finished = torch.where(self.live, NOTHING, self.perturbed)
        best, chosen = torch.cat([keys, finished], 1).topk(m)
        done = chosen >= width * groups
        done_slot = torch.where(done, chosen - width * groups, 0)
        chosen = torch.where(done, 0, chosen)
        beam, group = number.gather(1, chosen // groups), chosen % groups

        # The tokens of the chosen groups.
        opened = ~done & (best > NOTHING)
        counts = opened.sum(-1)
        place = (opened.cumsum(-1) - 1)[opened]
        width = max(1, int(counts.max()))
        below = phi[beam[opened]][:, None] + grouped[beam[opened], group[opened]].double()
        keys = gumbels_with_maximum(below, self._noise(counts.tolist(), size), best[opened])
        keys = self._shared_out(keys, opened, place, width)
        # Which of the m chosen each opened group is.
        origin = torch.zeros(len(counts), width, dtype=torch.long, device=logp.device)
        branch, at = opened.nonzero(as_tuple=True)
        origin[branch, place] = at
        best, chosen = torch.cat([keys, torch.where(done, best, NOTHING)], 1).topk(m)
        filled = best > NOTHING
        leaf = chosen >= width * size
        inner = torch.where(leaf, 0, chosen)
        at = torch.where(leaf, chosen - width * size, origin.gather(1, inner // size))
        beam, within = beam.gather(1, at), inner % size
        group = group.gather(1, at)
        parent = torch.where(leaf, done_slot.gather(1, at), slot[beam])
        token = group * size + within
        fresh = ~leaf & filled

        reached = self.phi.gather(1, parent)
        reached = torch.where(leaf, reached, reached + grouped[beam, group, within])
        self.phi, self.perturbed = torch.where(filled, reached, NOTHING), best
        self.tokens = self.tokens.gather(1, parent[..., None].expand_as(self.tokens))
        self.tokens[:, :, self.place] = torch.where(fresh, token, -1)
        self.place += 1
        ended = torch.isin(token, self.ends) | (self.place >= self.limits)
        self.live = fresh & ~ended & (self.phi > self.floors)
        return beam[self.live], token[self.live]

    def outcomes(self) -> list[tuple[list[list[int]], torch.Tensor, torch.Tensor]]:
        """Of each branch (tokens, ln P, perturbed ln P) of its outcomes, the largest sum first."""
        found = []
        counts = (self.perturbed > NOTHING).sum(-1).tolist()
        parts = zip(counts, self.tokens.tolist(), self.phi.cpu(), self.perturbed.cpu())
        for count, tokens, phi, perturbed in parts:
            cut = [[token for token in outcome if token >= 0] for outcome in tokens[:count]]
            found.append((cut, phi[:count], perturbed[:count]))
        return found
