"""Draws from the model's own distribution, and the ranks of secrets in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from remem_tasks.engine.beams import Beams
from remem_tasks.engine.draw import generator, uniforms
from remem_tasks.engine.frontiers import Front, slots_of
from remem_tasks.engine.reader import PromptReader, for_each
from remem_tasks.engine.search import Beam, BestFirst, Rank, shown
from remem_tasks.engine.state import Continuations, State


def _inverse(logp: torch.Tensor, node: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Tokens by the inverse of the distribution function.

    Args:
        logp: (N, vocabulary).
        node: (R), in rising order, whose distribution each number is for.
        drawn: (R) uniform in [0, 1), float64.
    """
    slots, width = slots_of(node)
    asked = torch.zeros(len(logp), width, dtype=torch.float64, device=logp.device)
    summed = logp.double().exp_().cumsum_(-1)
    whole = summed[node, -1]
    asked[node, slots] = torch.minimum(drawn * whole, whole.nextafter(torch.zeros_like(whole)))
    # The first token whose sum is above the number: a token without probability is never the first.
    return torch.searchsorted(summed, asked, right=True)[node, slots]


class Sampling(PromptReader):
    """Rollouts, distinct outcomes and guess ranks behind each branch."""

    @torch.inference_mode()
    def sample(
        self,
        state: State,
        m: int,
        max_tokens: int | Sequence[int],
        seeds: Sequence[int],
        warp: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> list[Continuations]:
        """m rollouts per branch from the model's own distribution: temperature 1, no top-k, no top-p.

        Rollouts that agree so far are one branch of the tree, so a peaked model costs little.

        Args:
            m: rollouts per branch.
            max_tokens: where they are cut, for all or for each branch.
            seeds: one per branch (`seeds.row_seed`).
            warp: draws from another distribution: log-probabilities (N, vocabulary) to log-probabilities.
        """
        count, device = len(state), self.device
        limits = for_each(max_tokens, count)
        limit = torch.tensor(limits, device=device).repeat_interleave(m)
        self._check_room(state, torch.tensor(limits, device=device))
        longest = max(limits, default=0)
        # One number per rollout and token, drawn at once: a branch's numbers never depend on the others'.
        noise = torch.zeros(count, m, longest, dtype=torch.float64)
        for branch, seed in enumerate(seeds):
            noise[branch, :, : limits[branch]] = uniforms(generator(seed), m, limits[branch])
        noise = noise.view(count * m, longest).to(device)
        out = torch.full((count * m, longest), -1, dtype=torch.long, device=device)
        total = torch.zeros(count * m, dtype=torch.float64, device=device)
        front, logp = Front(self.log_probabilities, state), state.logp if warp is None else warp(state.logp)
        at = torch.arange(count * m, device=device)  # rollouts that go on
        node = at // m  # the front's branch of each of them
        for place in range(longest):
            token = _inverse(logp, node, noise[at, place])
            out[at, place] = token
            total[at] += logp[node, token].double()
            going = (~torch.isin(token, self._ends) & (place + 1 < limit[at])).nonzero()[:, 0]
            if not len(going):
                break
            at, node, token = at[going], node[going], token[going]
            joint, node = torch.unique(node * self.vocabulary + token, return_inverse=True)
            front.take(joint // self.vocabulary)
            logp = front.step(joint % self.vocabulary)
            logp = logp if warp is None else warp(logp)
        front.close()
        lengths = (out >= 0).sum(-1).tolist()
        cut = [tokens[:length] for tokens, length in zip(out.tolist(), lengths)]
        total = total.cpu()
        return [
            Continuations(cut[start : start + m], total[start : start + m])
            for start in range(0, count * m, m)
        ]

    @torch.inference_mode()
    def distinct(
        self,
        state: State,
        m: int,
        lengths: int | Sequence[int],
        seeds: Sequence[int],
        floors: Sequence[float] | None = None,
    ) -> list[Continuations]:
        """m distinct outcomes per branch, drawn from p without replacement; all of them if there are fewer.

        An outcome is a continuation cut at n tokens, or earlier behind an end token. Where a model has
        several end tokens, they end different outcomes. By stochastic beam search (see `beams`).

        Args:
            m: outcomes per branch.
            lengths: n, for all or for each branch.
            seeds: one per branch (`seeds.row_seed`).
            floors: log-probabilities, one per branch. A prefix that is no likelier than the floor is not
                gone on with: all its continuations, none of which can be likelier, are one outcome
                (given by the prefix, cut short). With floor ln P(s), the outcomes likelier than s are
                whole and are what counts for the rank of s; a model that knows s costs next to nothing.

        Returns:
            Outcomes in falling order of their perturbed log-probability.
        """
        count = len(state)
        limits = for_each(lengths, count)
        floors = [-math.inf] * count if floors is None else list(floors)
        self._check_room(state, torch.tensor(limits, device=self.device))
        found: dict[int, Continuations] = {}
        for part in self._side_by_side(m, limits, floors):
            beams = self._beams(m, part, limits, seeds, floors)
            self._grow(state, part, [beams])
            for branch, parts in zip(part, beams.outcomes()):
                found[branch] = Continuations(*parts)
        return [found[branch] for branch in range(count)]

    @torch.inference_mode()
    def ranks(
        self,
        state: State,
        m: int,
        secrets: Sequence[Sequence[int]],
        floors: Sequence[float],
        budget: int,
        seeds: Sequence[Sequence[int]] = (),
    ) -> tuple[list[Rank], list[list[Continuations]]]:
        """The guess rank of a secret behind each branch, exactly or between bounds (see `search`).

        With seeds, outcomes are drawn on the way, as `distinct` does with the floors: each prefix is read once
        for all. Where they show m outcomes above a secret, its rank is above m without a search.

        Args:
            m: guesses among which the secrets are ranked.
            secrets: the tokens of each, at least one.
            floors: ln P of each.
            budget: prefixes that may be read for a secret whose rank the beam cannot say.
            seeds: for each drawing one per branch.

        Returns:
            (a rank per branch; for each drawing the outcomes of each branch)
        """
        count, words = len(state), self.vocabulary - int(self.banned.sum())
        limits = [len(secret) for secret in secrets]
        self._check_room(state, torch.tensor(limits, device=self.device))
        found: list[Rank | None] = [None] * count
        drawn: list[dict[int, Continuations]] = [{} for _ in seeds]
        for part in self._side_by_side(m * (2 + len(seeds)) // 2, limits, floors):
            known, least = ([numbers[branch] for branch in part] for numbers in (secrets, floors))
            beam = Beam(m, known, least, self._ends, words, self.device)
            beams = [self._beams(m, part, limits, of_drawing, floors) for of_drawing in seeds]
            self._grow(state, part, [beam, *beams])
            for branch, rank in zip(part, beam.ranks()):
                found[branch] = rank
            for here, one in zip(drawn, beams):
                for branch, parts in zip(part, one.outcomes()):
                    here[branch] = Continuations(*parts)
        searches = {}
        for branch in [branch for branch in range(count) if found[branch] is None]:
            secret, floor = secrets[branch], floors[branch]
            found[branch] = shown(m, secret, floor, [of_drawing[branch] for of_drawing in drawn])
            if found[branch] is None:
                searches[branch] = BestFirst(m, secret, floor, self.ends, words, budget)
        mark = state.tree.columns
        while going := [branch for branch, search in searches.items() if search.open]:
            taken = [(branch, searches[branch].take(m)) for branch in going]
            asked = [(branch, prefix) for branch, prefixes in taken for _, prefix in prefixes]
            branches, prefixes = [branch for branch, _ in asked], [prefix for _, prefix in asked]
            parts = self.extend(state, branches, prefixes).logp.split([len(some) for _, some in taken])
            for (branch, some), logp in zip(taken, parts):
                searches[branch].put(some, logp)
            state.tree.crop(mark)
        ranks = [searches[branch].rank() if rank is None else rank for branch, rank in enumerate(found)]
        return ranks, [[of_drawing[branch] for branch in range(count)] for of_drawing in drawn]

    def _beams(
        self,
        m: int,
        part: Sequence[int],
        limits: Sequence[int],
        seeds: Sequence[int],
        floors: Sequence[float],
    ) -> Beams:
        """The beams of some branches, which draw outcomes without replacement."""
        of_part = ([numbers[branch] for branch in part] for numbers in (limits, seeds, floors))
        return Beams(m, *of_part, self._ends, self.device)

    def _grow(self, state: State, part: Sequence[int], searches: Sequence[Beam | Beams]) -> None:
        """Lead searches of the same branches down to their outcomes; what several come to is read once."""
        front = Front(self.log_probabilities, state)
        index = torch.tensor(list(part), device=self.device)
        front.take(index, copy=len(state) > len(part))
        logp, going = state.logp[index], {place: slice(None) for place in range(len(searches))}
        while True:
            wanted = {}
            for place, at in going.items():
                # A search may overwrite what it is given.
                here = logp[at] if isinstance(at, torch.Tensor) else logp.clone()
                parents, tokens = searches[place].grow(here)
                if len(parents):
                    parents = at[parents] if isinstance(at, torch.Tensor) else parents
                    wanted[place] = parents * self.vocabulary + tokens
            if not wanted:
                break
            joint, inverse = torch.unique(torch.cat(list(wanted.values())), return_inverse=True)
            going = dict(zip(wanted, inverse.split([len(one) for one in wanted.values()])))
            front.take(joint // self.vocabulary)
            logp = front.step(joint % self.vocabulary)
        front.close()

    def _side_by_side(self, m: int, limits: Sequence[int], floors: Sequence[float]) -> Iterator[list[int]]:
        """Branches with about as many beams, for about as many tokens.

        At e^floor there are no more than e^-floor prefixes that go on.
        """
        order = sorted(
            range(len(limits)),
            key=lambda branch: (round(min(math.log(m), -floors[branch])), limits[branch]),
        )
        group = max(8, (8192 if self.device.type == "cuda" else 2048) // m)
        for start in range(0, len(order), group):
            yield order[start : start + group]
