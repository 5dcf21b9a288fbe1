"""A benchmark whose rows are asked otherwise: another prompt, other pictures, another answer that counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
from PIL import Image

from remem_tasks.benchmarks.base import Benchmark, Metric, Reply, Request, RunContext
from remem_tasks.errors import RememError
from remem_tasks.metrics.words import occurs, tokens
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult

Pictures = Callable[[Mapping[str, Any]], list[Image.Image]]


@dataclass(frozen=True)
class Question:
    """What is asked of a row in place of its own question.

    Attributes:
        prompt: the text of the user's turn.
        wanted: what the reply has to say; None for the row's own keywords.
        against: what the reply must not say, such as the other options; a reply that says one of them is wrong.
        shown: whether the row's pictures are shown.
    """

    prompt: str
    wanted: str | None = None
    against: tuple[str, ...] = ()
    shown: bool = True


Ask = Callable[[Mapping[str, Any]], Question | None]
"""A row (without its pictures) to the question; None where it cannot be asked so."""


class Attacked(Benchmark):
    """Another benchmark, asked otherwise. Rows that cannot be asked so are left out.

    Args:
        inner: in whose form rows, replies and scores are.
        ask: None leaves every question as it is.
        rows: ids of the rows that are asked; None for all.
        pictures: a row, with its pictures, to those that are shown in their place; None for its own.
    """

    def __init__(
        self,
        inner: Benchmark,
        ask: Ask | None = None,
        rows: Collection[str] | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self.inner, self.name = inner, inner.name
        self._ask, self._rows, self._pictures = ask, rows, pictures

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        rows, place = self.inner.load(source, split)
        texts = rows.select_columns([name for name in rows.column_names if name != "image"])
        kept = [
            index
            for index, doc in enumerate(texts)
            if (self._rows is None or doc["row_id"] in self._rows)
            and (self._ask is None or self._ask(doc) is not None)
        ]
        if not kept:
            raise RememError(f"{place}: no row of split '{split}' can be asked so")
        return rows.select(kept), place

    def fingerprint(self, rows: datasets.Dataset) -> str:
        return self.inner.fingerprint(rows)

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        return self.inner.prepare(source, split, rows, context)

    def _question(self, doc: Mapping[str, Any]) -> Question | None:
        return None if self._ask is None else self._ask(doc)

    def requests(self, doc: Mapping[str, Any], context: RunContext) -> list[Request]:
        first, *others = self.inner.requests(doc, context)
        question = self._question(doc)
        return [first if question is None else replace(first, prompt=question.prompt), *others]

    def white_box_request(self, doc: Mapping[str, Any], context: RunContext) -> WhiteBoxRequest | None:
        question = self._question(doc)
        if question is not None and question.wanted is not None:
            return None  # its secret is another than the row's
        return self.inner.white_box_request(doc, context)

    def images(self, doc: Mapping[str, Any]) -> list[Image.Image]:
        question = self._question(doc)
        if question is not None and not question.shown:
            return []
        return self.inner.images(doc) if self._pictures is None else self._pictures(doc)

    def needs_picture(self, doc: Mapping) -> bool:
        return self.inner.needs_picture(doc)

    def wrong_answers(self, doc: Mapping[str, Any], context: RunContext) -> tuple[str, ...]:
        question = self._question(doc)
        if question is not None and question.wanted is not None:
            return ()  # they stand beside the row's own answer
        return self.inner.wrong_answers(doc, context)

    def correct(self, doc: Mapping, reply: str) -> float:
        return self.inner.correct(doc, reply)

    def picture_pools(self, source: str, split: str, rows: datasets.Dataset) -> Sequence[datasets.Dataset]:
        return self.inner.picture_pools(source, split, rows)

    def target(self, doc: Mapping[str, Any]) -> str:
        question = self._question(doc)
        if question is None or question.wanted is None:
            return self.inner.target(doc)
        return question.wanted

    def metrics(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        return self.inner.metrics(rows, split, context)

    def score(
        self,
        doc: Mapping[str, Any],
        replies: Sequence[Reply | list[Reply]],
        context: RunContext,
        findings: WhiteBoxResult | None = None,
    ) -> dict[str, object]:
        question = self._question(doc)
        if question is not None and question.wanted is not None:
            doc = {**doc, "keywords": question.wanted, "answer": question.wanted}
        if question is not None and isinstance(replies[0], str):
            replies = [decided(replies[0], question.against), *replies[1:]]
        return self.inner.score(doc, replies, context, findings)


def decided(reply: str, against: Sequence[str]) -> str:
    """A reply, or what counts as a wrong one where it says something that it must not, such as several options.

    >>> decided("Oslo.", ["Rome"]), decided("Oslo or Rome", ["Rome"])
    ('Oslo.', '[several answers]')
    """
    said = tokens(reply)
    return "[several answers]" if any(occurs(tokens(one), said) for one in against) else reply
