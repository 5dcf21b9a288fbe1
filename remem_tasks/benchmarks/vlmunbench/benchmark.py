"""VLM-UnBench: whether a pictured concept is still chosen among options (arXiv 2604.03114)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import datasets

from remem_tasks.benchmarks.asked import QuestionBenchmark
from remem_tasks.benchmarks.base import Metric, RunContext
from remem_tasks.benchmarks.scoring_config import NO_ANSWERS
from remem_tasks.benchmarks.vlmunbench import data
from remem_tasks.benchmarks.vlmunbench.scores import digit_of, likeliest, macro
from remem_tasks.whitebox import WhiteBoxResult


class VlmUnbench(QuestionBenchmark):
    """Accuracy over items and over concepts: of the digit that is said, and from a white box of the likeliest one."""

    name = "vlmunbench"
    data = data
    digested = ("row_id", "prompt", "answer", "concept")

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        context = super().prepare(source, split, rows, context)
        missing = {} if context.white_box else {"likeliest": NO_ANSWERS}
        return replace(context, missing={**context.missing, **missing})

    def answers(self, doc: Mapping) -> tuple[str, ...]:
        return tuple(map(str, range(len(doc["options"]))))

    def fact(self, doc: Mapping) -> dict[str, str]:
        """No phrase of it is a secret that other rows could tell: a digit is the place of an option, and stands in every prompt."""
        return {**super().fact(doc), "keywords": "[]"}

    def correct(self, doc: Mapping, reply: str) -> float:
        return float(digit_of(reply) == doc["answer"])

    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        higher = not context.known["forget"]
        found = [Metric(f"{self.name}_invalid_rate", False)]
        for way in ("said", "likeliest") if context.white_box else ("said",):
            found += [
                Metric(f"{self.name}_micro_{way}", higher),
                Metric(f"{self.name}_macro_{way}", higher, macro),
            ]
        return found

    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        digit = digit_of(said[0])
        right = {"said": float(digit == doc["answer"])}
        if findings is not None:
            right["likeliest"] = float(str(likeliest(findings.answers)) == doc["answer"])
        found: dict[str, object] = {f"{self.name}_invalid_rate": float(not digit)}
        for way, value in right.items():
            found[f"{self.name}_micro_{way}"] = value
            found[f"{self.name}_macro_{way}"] = {"concept": doc["concept"], "value": value}
        return found, {"said": digit, "level": doc["level"]}


BENCHMARK = VlmUnbench()
