"""MLUBench: what a model says of pictured entities that it is to forget task by task (arXiv 2606.12809)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets

from remem_tasks.benchmarks.asked import QuestionBenchmark
from remem_tasks.benchmarks.base import Metric, RunContext
from remem_tasks.benchmarks.mlubench import data
from remem_tasks.metrics.text import rouge
from remem_tasks.whitebox import WhiteBoxResult

PARTS = ("precision", "recall", "f")


class Mlubench(QuestionBenchmark):
    """ROUGE-L precision, recall and F of the greedy reply."""

    name = "mlubench"
    data = data

    def begun(self, doc: Mapping) -> str:
        return str(doc["answer"])

    def correct(self, doc: Mapping, reply: str) -> float:
        return rouge(reply, doc["answer"], "rougeL")[1]

    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        return [Metric(f"{self.name}_rouge_{part}", not context.known["forget"]) for part in PARTS]

    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        values = rouge(said[0], doc["answer"], "rougeL")
        return {f"{self.name}_rouge_{part}": value for part, value in zip(PARTS, values)}, {}


BENCHMARK = Mlubench()
