"""What a benchmark is to the harness: where rows come from, what is asked of a row, how replies score."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
from PIL import Image

from remem_tasks.benchmarks.scoring_config import ScoringConfig
from remem_tasks.metrics.refusal import Status, rates_of, status_of
from remem_tasks.seen import says_nothing
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult


@dataclass(frozen=True)
class FailedReply:
    """A reply that the backend did not give: an engine fault, not a silent model.

    It is not a string, so that no filter on the way to the score can make it look like a blank reply.
    """

    reason: str = "no reply"

    def __str__(self) -> str:
        return f"<failed: {self.reason}>"


Reply = str | FailedReply


def text_of(reply: Reply) -> str:
    """What a reply says; nothing where the backend gave none, which its rate counts."""
    return "" if isinstance(reply, FailedReply) else reply


def own_reply(replies: Sequence[Reply | list[Reply]]) -> Reply:
    """The reply to a row's own question, its first request; of several draws the first."""
    first = replies[0]
    return first[0] if isinstance(first, list) else first


@dataclass(frozen=True)
class Request:
    """One thing to ask of the model about a row.

    Attributes:
        prompt: the text of the user's turn; the row's pictures come before it.
        kind: the harness's request type.
        generation_kwargs: what differs from the task's own generation settings.
        repeats: how many replies to draw; None for the task's own number. Where it is given, the score
            gets them all at once, as a list.
    """

    prompt: str
    kind: str = "generate_until"
    generation_kwargs: Mapping[str, Any] = field(default_factory=dict)
    repeats: int | None = None


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean. The harness knows standard errors for its own, which `harness/task.py` puts in its place."""
    return sum(values) / len(values)


@dataclass(frozen=True)
class Metric:
    """A number of the results file.

    Attributes:
        name: no metric's name may be part of another's (the harness matches names by substring).
        higher_is_better: None where neither direction is better.
        aggregate: the rows' values (only of the rows that have this metric) to one number. Only of `mean`
            does the harness know a standard error.
    """

    name: str
    higher_is_better: bool | None = None
    aggregate: Callable[[Sequence[Any]], float] = mean


@dataclass(frozen=True)
class RunContext:
    """What a run of a split knows beside its rows.

    Attributes:
        scoring: the scores that the backend can give.
        missing: why others are not available, by name.
        white_box: whether the backend answers an `WhiteBoxRequest`.
        rollout_options: generation settings with which it samples from the model's own distribution.
        known: what else the benchmark has prepared.
    """

    scoring: ScoringConfig
    missing: Mapping[str, str] = field(default_factory=dict)
    white_box: bool = False
    rollout_options: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)


class Benchmark(abc.ABC):
    """A benchmark's one module: rows in, requests out; replies in, scores out. It holds no state."""

    name: str
    """The key in `remem_tasks.benchmarks.registry.BENCHMARKS` and the first part of its metrics' names."""

    @abc.abstractmethod
    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        """The checked rows of a split and where they came from.

        Args:
            source: a folder or Hub id; None for the benchmark's own default.

        Raises:
            RememError: in one line, what is missing.
        """

    @abc.abstractmethod
    def fingerprint(self, rows: datasets.Dataset) -> str:
        """A short hash of everything in the rows that a score depends on."""

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        """The setting with what scoring these rows takes beside them.

        Args:
            source: where the rows came from.
            rows: without their pictures.

        Raises:
            RememError: a row that the suite's scores cannot be had of.
        """
        return context

    @abc.abstractmethod
    def requests(self, doc: Mapping[str, Any], context: RunContext) -> list[Request]:
        """What is asked of a row (without its pictures), in the order in which `score` gets the replies."""

    def white_box_request(self, doc: Mapping[str, Any], context: RunContext) -> WhiteBoxRequest | None:
        """What is asked of a white box beside the replies."""
        return None

    @abc.abstractmethod
    def images(self, doc: Mapping[str, Any]) -> list[Image.Image]:
        """A row's pictures, decoded, shared by all its requests."""

    def needs_picture(self, doc: Mapping[str, Any]) -> bool:
        """Whether a question cannot be answered without the row's picture, as it does not say whom it is about."""
        return False

    def wrong_answers(self, doc: Mapping[str, Any], context: RunContext) -> tuple[str, ...]:
        """Answers to a row's question that nobody was trained on, in the form of the right one; none by default."""
        return ()

    @abc.abstractmethod
    def correct(self, doc: Mapping[str, Any], reply: str) -> float:
        """The main score of a reply to a row's own question, in [0, 1]."""

    def picture_pools(self, source: str, split: str, rows: datasets.Dataset) -> Sequence[datasets.Dataset]:
        """Rows that other people's pictures can be taken from by `images`: this split's, then others'."""
        return [rows]

    @abc.abstractmethod
    def target(self, doc: Mapping[str, Any]) -> str:
        """The right answer, for the samples file."""

    @abc.abstractmethod
    def metrics(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        """The metrics that the rows of a split can have."""

    @abc.abstractmethod
    def score(
        self,
        doc: Mapping[str, Any],
        replies: Sequence[Reply | list[Reply]],
        context: RunContext,
        findings: WhiteBoxResult | None = None,
    ) -> dict[str, object]:
        """The values of the metrics that apply to this row; a pure function, called from several threads.

        Args:
            replies: one a request; a list where the request asks for several.
            findings: the answer to the row's white-box request, if it had one.
        """

    def reply_rates(self, replies: Sequence[Reply | list[Reply]], status: Status) -> dict[str, float]:
        """The shares of blank and failed ones among the replies to a row, and whether it was refused or answered.

        Args:
            replies: as `score` gets them.
            status: how the row's own request, the first, ended (`ended`).
        """
        every = [one for reply in replies for one in (reply if isinstance(reply, list) else [reply])]
        failed = [isinstance(reply, FailedReply) for reply in every]
        blank = [isinstance(reply, str) and says_nothing(reply) for reply in every]
        rates = {
            "blank_rate": sum(blank) / len(every),
            "failed_rate": sum(failed) / len(every),
            **rates_of(status),
        }
        return {f"{self.name}_{name}": rate for name, rate in rates.items()}

    @staticmethod
    def ended(reply: Reply, correct: bool) -> Status:
        """The one status of a row's request: correct, incorrect, refusal, blank or failed."""
        return status_of(None if isinstance(reply, FailedReply) else reply, correct)

    def rate_metrics(self) -> list[Metric]:
        return [
            Metric(f"{self.name}_blank_rate", higher_is_better=False),
            Metric(f"{self.name}_failed_rate", higher_is_better=False),
            Metric(f"{self.name}_refusal_rate"),
            Metric(f"{self.name}_coverage"),
        ]


class FactBenchmark(Benchmark):
    """A benchmark whose rows name facts, which attacks can ask for in other ways than its own."""

    scores_other_questions = False
    """Whether a reply to a question that is not the row's own can be scored."""

    @abc.abstractmethod
    def fact(self, doc: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row as attacks see it, under ReMem's names: `row_id`, `identity`, `attribute`, `question`, `answer`,
        `keywords` (a phrase, or a JSON list of phrases) and `cloze_prompt` ("" where there is none)."""

    @abc.abstractmethod
    def kept_rows(self, source: str, forget: str) -> datasets.Dataset:
        """Rows about people who stay when a set is forgotten, as the benchmark asks them."""

    def people(self, source: str, split: str) -> set[str]:
        """Who is asked about in a set.

        Raises:
            RememError: there is no such set.
        """
        return set(self.load(source, split)[0]["identity"][:])

    def other_views(self, source: str) -> list[datasets.Dataset]:
        """Rows that show the people of the forget sets in pictures that training never showed."""
        return []

    def scoring_of(self, forget: str) -> Mapping[str, str]:
        """Settings under which the rows of a forget set, and those kept beside it, are scored."""
        return {}
