"""A language model known in closed form, and sampling from it without replacement, both in numpy.

The model is a Markov chain over a handful of tokens, so all outcomes of n tokens can be listed with their
probabilities. It stands in for a real one wherever a rank or a sampler is to be checked.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Outcome = tuple[int, ...]
WORDS = ("ash", "birch", "cedar", "dogwood", "elm", "fir", "gum", "holly")


@dataclass(frozen=True)
class Chain:
    """start: (V,) p of the first token; step: (V, V) p of the next token by the last; eos: ends an outcome."""

    start: np.ndarray
    step: np.ndarray
    eos: int

    def next_probabilities(self, prefix: Sequence[int]) -> np.ndarray:
        """(V,) p(token | prefix)."""
        return self.step[prefix[-1]] if len(prefix) else self.start

    def next_logprobs(self, prefix: Sequence[int]) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.next_probabilities(prefix))

    def logprob(self, outcome: Sequence[int]) -> float:
        return float(sum(self.next_logprobs(outcome[:i])[token] for i, token in enumerate(outcome)))

    def done(self, prefix: Sequence[int], n: int) -> bool:
        return len(prefix) == n or (len(prefix) > 0 and prefix[-1] == self.eos)

    def outcomes(self, n: int) -> dict[Outcome, float]:
        """Every continuation of n tokens, or shorter with an end of sequence, with its probability."""

        def grow(prefix: Outcome, p: float) -> Iterator[tuple[Outcome, float]]:
            if self.done(prefix, n):
                yield prefix, p
                return
            for token, q in enumerate(self.next_probabilities(prefix)):
                yield from grow((*prefix, token), p * float(q))

        return {outcome: p for outcome, p in grow((), 1.0) if p > 0}

    def guess_rank(self, secret: Outcome) -> int:
        """G(s) by listing all outcomes."""
        every = self.outcomes(len(secret))
        return 1 + sum(p > every.get(secret, 0.0) for outcome, p in every.items() if outcome != secret)

    def rollout(self, n: int, rng: np.random.Generator) -> Outcome:
        """One true sample."""
        said: Outcome = ()
        while not self.done(said, n):
            said = (*said, int(rng.choice(len(self.start), p=self.next_probabilities(said))))
        return said

    def text(self, outcome: Outcome) -> str:
        """The outcome as words, the end of sequence unsaid."""
        return " ".join(WORDS[token] for token in outcome if token != self.eos)

    def permuted(self, order: Sequence[int]) -> Chain:
        """The same chain with token t called order[t]."""
        back = np.argsort(order)
        return Chain(self.start[back], self.step[np.ix_(back, back)], int(order[self.eos]))


def random_chain(seed: int, size: int = 4, concentration: float = 0.7) -> Chain:
    """Dirichlet rows; below 1 they are peaked. The last token is the end of sequence."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(size, concentration), size + 1)
    return Chain(rows[0], rows[1:], size - 1)


def certain_chain(secret: Outcome, size: int = 4) -> Chain:
    """Says the secret, whose tokens are all different, with probability 1."""
    start, step = np.eye(size)[secret[0]], np.eye(size)
    for last, token in itertools.pairwise(secret):
        step[last] = np.eye(size)[token]
    return Chain(start, step, size - 1)


def gumbel_top_k(logprobs: np.ndarray, m: int, rng: np.random.Generator) -> list[int]:
    """Indices of m items drawn one after the other without replacement: the m largest of log p + Gumbel.

    Fewer if fewer have a positive probability.
    """
    perturbed = np.where(np.isneginf(logprobs), -np.inf, logprobs + rng.gumbel(size=len(logprobs)))
    return [int(i) for i in np.argsort(-perturbed)[:m] if perturbed[i] > -np.inf]


def _log1mexp(x: np.ndarray) -> np.ndarray:
    """log(1 − exp(x)) for x ≤ 0."""
    with np.errstate(divide="ignore"):
        return np.where(x > -math.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def stochastic_beam_search(
    chain: Chain, n: int, m: int, rng: np.random.Generator
) -> list[tuple[Outcome, float]]:
    """m distinct outcomes with ln P, sampled without replacement down the tree (Kool et al. 2019, Algorithm 1).

    Every node carries G, the largest perturbed log-probability of the leaves below it. The children's G are
    Gumbels of location φ, conditioned on the largest being the parent's G; the m largest go on.
    """
    beam: list[tuple[Outcome, float, float]] = [((), 0.0, 0.0)]
    while not all(chain.done(prefix, n) for prefix, _, _ in beam):
        grown = []
        for prefix, logprob, g in beam:
            if chain.done(prefix, n):
                grown.append((prefix, logprob, g))
                continue
            step = chain.next_logprobs(prefix)
            possible = np.flatnonzero(np.isfinite(step))
            phi = logprob + step[possible]
            perturbed = phi + rng.gumbel(size=len(phi))
            v = g - perturbed + _log1mexp(perturbed - perturbed.max())
            conditioned = g - np.maximum(v, 0) - np.log1p(np.exp(-np.abs(v)))
            grown += [((*prefix, int(t)), float(p), float(c)) for t, p, c in zip(possible, phi, conditioned)]
        beam = sorted(grown, key=lambda node: -node[2])[:m]
    return [(outcome, logprob) for outcome, logprob, _ in beam]


def inclusion_probabilities(p: Sequence[float], m: int) -> np.ndarray:
    """The probability of each of few items to be among m draws without replacement, over all orders."""
    drawn: dict[frozenset[int], float] = {frozenset(): 1.0}
    for _ in range(m):
        after: dict[frozenset[int], float] = {}
        for held, chance in drawn.items():
            left = [i for i in range(len(p)) if i not in held]
            total = sum(p[i] for i in left)
            for i in left:
                after[held | {i}] = after.get(held | {i}, 0.0) + chance * p[i] / total
        drawn = after
    return np.array([sum(chance for held, chance in drawn.items() if i in held) for i in range(len(p))])
