"""What a vLLM server says of tokens: those of a prompt's end with their log-probabilities, and those of replies."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remem_tasks.harness.remem_openai import replies_of


@dataclass(frozen=True)
class Place:
    """What is known of p where a token stands: of text tokens alone, which together have probability 1.

    Attributes:
        token: the one that stands there.
        known: token → ln p, of it and of the likeliest.
    """

    token: int
    known: Mapping[int, float]

    @classmethod
    def read(cls, token: int, told: Mapping[str, Mapping[str, Any]], banned: Collection[int]) -> Place:
        """From the server's values, which other tokens have a part of.

        Args:
            told: token → its `logprob`, as the server has it.
            banned: tokens that are no text. What they have is taken out as far as it was told.
        """
        values = {int(one): float(value["logprob"]) for one, value in told.items()}
        taken = math.fsum(math.exp(value) for one, value in values.items() if one in banned)
        rest = math.log1p(-min(taken, 1 - 1e-12))
        return cls(token, {one: value - rest for one, value in values.items() if one not in banned})

    @property
    def logprob(self) -> float:
        """ln p of the token; −inf of one that is no text."""
        return self.known.get(self.token, -math.inf)

    @property
    def predicted(self) -> int:
        """The likeliest token."""
        return max(self.known, key=lambda one: (self.known[one], -one))

    def among(self, allowed: Iterable[int]) -> Place:
        """The same given that one of some tokens stands there, as far as they are known."""
        kept = {one: self.known[one] for one in allowed if one in self.known}
        total = math.log(math.fsum(map(math.exp, kept.values()))) if kept else 0.0
        return Place(self.token, {one: value - total for one, value in kept.items()})

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of ln p under p over the vocabulary, all of which is known.

        >>> Place(1, {0: math.log(0.5), 1: math.log(0.5)}).moments() == (math.log(0.5), 0.0)
        True
        """
        pairs = [(math.exp(value), value) for value in self.known.values()]
        mean = math.fsum(p * value for p, value in pairs)
        return mean, math.sqrt(math.fsum(p * (value - mean) ** 2 for p, value in pairs))


def ids_of(body: Any) -> list[int]:
    """The tokens of the prompt that a body answers. Raises a ValueError where it does not say."""
    found = body.get("prompt_token_ids") if isinstance(body, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(one, int) for one in found):
        raise ValueError("it does not say its prompt's tokens")
    return found


def places_of(body: Any, banned: Collection[int]) -> tuple[list[int], list[Place | None]]:
    """The tokens of a prompt and what is told of each place.

    Raises:
        ValueError: nothing is told.
    """
    ids, told = ids_of(body), body.get("prompt_logprobs")
    if not isinstance(told, list) or len(told) != len(ids):
        raise ValueError("it does not say the log-probabilities of its prompt")
    try:
        return ids, [one and Place.read(token, one, banned) for token, one in zip(ids, told)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("its log-probabilities cannot be read") from error


def said_of(body: Any) -> list[list[int]]:
    """The tokens of each reply.

    Raises:
        ValueError: a choice that is no reply, or whose tokens are not said.
    """
    replies_of(body)
    found = [choice.get("token_ids") for choice in body["choices"]]
    if not all(isinstance(one, list) and one and all(isinstance(id, int) for id in one) for one in found):
        raise ValueError("it does not say its reply's tokens")
    return found


def end_of(ids: Sequence[int], text: bytes, spelling: Any) -> list[int]:
    """The tokens that a prompt ends with and that say a text.

    Raises:
        ValueError: it does not end with it, or the text begins inside a token.
    """
    at, left = len(ids), text
    while left and at:
        (said,) = spelling.of([ids[at - 1]])
        if not said or not left.endswith(said):
            break
        left, at = left[: -len(said)], at - 1
    if left:
        raise ValueError(f"its prompt does not end in {text.decode(errors='replace')[-60:]!r}")
    return list(ids[at:])
