"""What a task asks about a row beyond its greedy reply, and what a white box answers.

The task makes an `WhiteBoxRequest`; the engine answers it with `WhiteBoxResult`, which travel through the harness as
the text of a reply. Neither side knows the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from remem_tasks.errors import RememError

MOST_BEGUN = 2**24
"""Characters of all beginnings of one answer together: an answer of 12,000 characters at every fifth."""
MOST_SECRETS = 1000
"""Of one row."""
DRAWINGS = 2
"""How often the rollouts of a secret are drawn, each with a seed of its own: what their rank's sd is taken over."""


@dataclass(frozen=True)
class Secret:
    """A keyword phrase that completes the beginning of the assistant's turn.

    Attributes:
        before: that beginning, without space at its end; empty where the secret begins the turn.
        text: the secret as it follows, with the space between them, if there is one.
        others: values of other identities in its place, written alike.
        after: what the answer says behind it, with which its last token may have merged.
    """

    before: str
    text: str
    others: tuple[str, ...] = ()
    after: str = ""


@dataclass(frozen=True)
class WhiteBoxRequest:
    """MEMO's cuts, Exposure's secrets and whole answers of a row.

    Attributes:
        row_id: what the row's random numbers depend on, beside the seed.
        name: how error messages call the row.
        answer: the right answer, which MEMO cuts.
        cuts: numbers of characters that the model is given of it; none without MEMO.
        memo_tokens: the longest continuation of a cut.
        secrets: what is asked for after the cloze prompt; none without Exposure.
        with_question: whether the question stands in the user's turn before the cloze prompt.
        estimators: of the guess rank: `exact`, and `distinct` or `frequency`.
        rollouts: M.
        drawings: how often the rollouts are drawn, each time with a seed of its own.
        rank_budget: prefixes that may be read for a secret whose exact rank a beam cannot say.
        seed: of the rollouts.
        answers: whole answers, right and wrong, whose log-probabilities are wanted; none is empty.
        by_token: of how many of these, the first ones, every token's log-probability and its moments are wanted.
        wholes: answers that are wanted token by token (`WholeAnswer`); none is empty.
    """

    row_id: str
    name: str
    answer: str = ""
    cuts: tuple[int, ...] = ()
    memo_tokens: int = 200
    secrets: tuple[Secret, ...] = ()
    with_question: bool = True
    estimators: tuple[str, ...] = ("exact", "distinct")
    rollouts: int = 64
    drawings: int = DRAWINGS
    rank_budget: int = 2048
    seed: int = 0
    answers: tuple[str, ...] = ()
    by_token: int = 0
    wholes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # An answer of a million characters is begun at every fifth: 10^11 characters of prefixes.
        if sum(self.cuts) > MOST_BEGUN:
            raise RememError(
                f"{self.name}: its answer has {len(self.answer):,} characters, and MEMO would begin it "
                f"{len(self.cuts):,} times: more than fits into memory"
            )
        if len(self.secrets) > MOST_SECRETS:
            raise RememError(
                f"{self.name}: {len(self.secrets):,} secrets in one row; at most {MOST_SECRETS:,} are asked for"
            )

    def content(self) -> dict:
        """Everything that the findings depend on, as JSON takes it."""
        values = asdict(self)
        del values["name"]
        return values


@dataclass(frozen=True)
class SecretResult:
    """What is known of one secret.

    Attributes:
        logprobs: ln p of each of its tokens.
        reference_rank: its place among itself and the references, by log-probability per token.
        references: how many references it was ranked against.
        ranks: bounds of G, its place among the model's outcomes, M + 1 where it is not among the first M; None
            where `exact` was not asked for.
        rollout_ranks: Ĝ of `distinct` or `frequency` in each drawing of M; none where neither was asked for.
        rollout_rate: the share of the rollouts of `frequency` that give it, else None.
        guesses: the likeliest of the outcomes that were met, as (text, ln p); of `frequency` alone (text, share).
    """

    logprobs: list[float]
    reference_rank: int
    references: int
    ranks: tuple[int, int] | None = None
    rollout_ranks: tuple[int, ...] = ()
    rollout_rate: float | None = None
    guesses: list[tuple[str, float]] = field(default_factory=list)

    def fault(self, most: int) -> str:
        """What of it cannot be, in words; "" where all can.

        Args:
            most: M, the rollouts that were asked for.
        """
        if not _is_count(self.references, 0):
            return f"{_shown(self.references)} references"
        if not _is_count(self.reference_rank, 1, self.references + 1):
            return f"reference rank {_shown(self.reference_rank)} of {self.references + 1} candidates"
        ends = self.ranks
        if ends is not None and (
            not isinstance(ends, list | tuple)
            or len(ends) != 2
            or not all(_is_count(end, 1, most + 1) for end in ends)
            or ends[0] > ends[1]
        ):
            return f"ranks {_shown(ends)}, of 1 to {most + 1}"
        drawn = self.rollout_ranks
        if not isinstance(drawn, list | tuple) or not all(_is_count(rank, 1, most + 1) for rank in drawn):
            return f"ranks {_shown(drawn)} of rollouts, each of 1 to {most + 1}"
        if self.rollout_rate is not None and not (
            _is_finite(self.rollout_rate) and 0 <= self.rollout_rate <= 1
        ):
            return f"a share of rollouts {_shown(self.rollout_rate)}"
        for guess in self.guesses if isinstance(self.guesses, list) else [self.guesses]:
            pair = isinstance(guess, list | tuple) and len(guess) == 2
            if not pair or not isinstance(guess[0], str) or not _is_finite(guess[1]) or guess[1] > 1:
                return f"a guess {_shown(guess)}"
        return ""


def _is_count(value: object, least: int, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    return str(value)[:60]


@dataclass(frozen=True)
class WholeAnswer:
    """An answer token by token, each given the true ones before it.

    Attributes:
        tokens, predicted: ids of its tokens, and of the likeliest token at each place.
        logprobs: ln p of each of its tokens.
        means, sds: of ln p over the vocabulary, under p, at each place.
    """

    tokens: list[int]
    predicted: list[int]
    logprobs: list[float]
    means: list[float]
    sds: list[float]

    def fault(self) -> str:
        """What of it cannot be, in words; "" where all can."""
        numbers = (self.logprobs, self.means, self.sds)
        if not self.tokens or any(len(of) != len(self.tokens) for of in (self.predicted, *numbers)):
            return f"{[len(of) for of in (self.tokens, self.predicted, *numbers)]} numbers of one answer"
        if not all(_is_count(one, 0) for one in (*self.tokens, *self.predicted)):
            return "a token that is no id"
        if not all(isinstance(one, int | float) for of in numbers for one in of):
            return "a log-probability that is not a number"
        return ""


@dataclass(frozen=True)
class WhiteBoxResult:
    """The answer to an `WhiteBoxRequest`: a greedy continuation per cut, what is known of each secret, ln p of each answer.

    On the way to the score it is not a string, so that nothing takes it for a reply.

    Attributes:
        answers: of each answer the mean of ln p over its tokens, without the end of the turn.
        tokens: of the first `by_token` answers ln p of each token.
        moments: of the same tokens mean and standard deviation of ln p over the vocabulary, under p.
        wholes: the answers of `WhiteBoxRequest.wholes`.
    """

    continuations: list[str] = field(default_factory=list)
    secrets: list[SecretResult] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    tokens: list[list[float]] = field(default_factory=list)
    moments: list[list[tuple[float, float]]] = field(default_factory=list)
    wholes: list[WholeAnswer] = field(default_factory=list)

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """JSON without `<`, so that no filter of reasoning tags changes it."""
        return json.dumps(asdict(self)).replace("<", "\\u003c")

    def check(self, request: WhiteBoxRequest) -> None:
        """Raise a RememError if these are no findings of a request: too few or too many, or numbers that cannot be."""
        asked = {
            "continuations": len(request.cuts),
            "secrets": len(request.secrets),
            "answers": len(request.answers),
            "tokens": min(request.by_token, len(request.answers)),
            "moments": min(request.by_token, len(request.answers)),
            "wholes": len(request.wholes),
        }
        for part, number in asked.items():
            if len(found := getattr(self, part)) != number:
                raise RememError(
                    f"{request.name}: the engine found {len(found)} {part}, {number} were asked for"
                )
        for said, beside in zip(self.tokens, self.moments):
            if len(said) != len(beside):
                raise RememError(
                    f"{request.name}: the engine found {len(beside)} moments of {len(said)} tokens"
                )
        faults = [secret.fault(request.rollouts) for secret in self.secrets]
        for fault in filter(None, [*faults, *(whole.fault() for whole in self.wholes)]):
            raise RememError(f"{request.name}: the engine's findings cannot be: {fault}")

    @classmethod
    def from_text(cls, text: str, name: str) -> WhiteBoxResult:
        """The opposite of `to_text`.

        Args:
            name: how the error message calls the row.

        Raises:
            RememError: something on the way has changed the text.
        """
        try:
            values: Mapping = json.loads(text)
            secrets = [SecretResult(**secret) for secret in values["secrets"]]
            moments = [[(mean, sd) for mean, sd in some] for some in values["moments"]]
            wholes = [WholeAnswer(**whole) for whole in values["wholes"]]
            found = cls(
                values["continuations"], secrets, values["answers"], values["tokens"], moments, wholes
            )
            if not all(isinstance(said, str) for said in found.continuations):
                raise ValueError("a continuation that is not a text")
            numbers = [found.answers, *found.tokens, *(secret.logprobs for secret in secrets)]
            numbers += [list(pair) for some in moments for pair in some]
            if not all(isinstance(one, int | float) for some in numbers for one in some):
                raise ValueError("a log-probability that is not a number")
            return found
        except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
            raise RememError(f"{name}: the engine's findings cannot be read ({error})") from error
