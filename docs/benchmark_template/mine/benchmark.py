"""What is asked of a row, and how a reply scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets
from PIL import Image
from remem_tasks.benchmarks.mine.data import HOME, questions_of

from remem_tasks.benchmarks.base import Benchmark, Metric, Reply, Request, RunContext, text_of
from remem_tasks.data.faults import row_name
from remem_tasks.data.source import digest, picture_of
from remem_tasks.metrics import answer_probability, exact_match
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult


class Mine(Benchmark):
    """EM of the greedy reply; from a white box also the probability of the right answer."""

    name = "mine"

    def load(self, source: str | None, split: str) -> tuple[datasets.Dataset, str]:
        source = HOME.resolve(source)
        return questions_of(source, split), source

    def fingerprint(self, rows: datasets.Dataset) -> str:
        return digest(rows, ["question", "answer"])

    def requests(self, doc: Mapping, context: RunContext) -> list[Request]:
        return [Request(doc["question"])]

    def white_box_request(self, doc: Mapping, context: RunContext) -> WhiteBoxRequest | None:
        return (
            WhiteBoxRequest(doc["row_id"], row_name(doc), answers=(doc["answer"],))
            if context.white_box
            else None
        )

    def images(self, doc: Mapping) -> list[Image.Image]:
        return picture_of(doc, HOME)

    def correct(self, doc: Mapping, reply: str) -> float:
        return exact_match(reply, [doc["answer"]])

    def target(self, doc: Mapping) -> str:
        return doc["answer"]

    def metrics(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        higher = not split.startswith("forget")
        found = [Metric("mine_em", higher), *self.rate_metrics(), Metric("mine_rows", aggregate=len)]
        return [*found, Metric("mine_prob", higher)] if context.white_box else found

    def score(
        self,
        doc: Mapping,
        replies: Sequence[Reply | list[Reply]],
        context: RunContext,
        findings: WhiteBoxResult | None = None,
    ) -> dict[str, object]:
        text = text_of(replies[0])
        scores: dict[str, object] = {"mine_em": self.correct(doc, text)}
        if findings is not None:
            scores["mine_prob"] = answer_probability(findings.answers)
        row = {name: doc[name] for name in ("row_id", "identity")}
        row["status"] = self.ended(replies[0], scores["mine_em"] == 1)
        return {**scores, **self.reply_rates(list(replies), row["status"]), "mine_rows": row}


BENCHMARK = Mine()
