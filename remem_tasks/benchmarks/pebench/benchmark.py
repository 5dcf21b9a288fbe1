"""PEBench's shape: who is shown, and what happens, each to be forgotten without the other (arXiv 2503.12545)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import datasets

from remem_tasks.benchmarks.asked import QuestionBenchmark
from remem_tasks.benchmarks.base import Metric, RunContext
from remem_tasks.benchmarks.pebench import data
from remem_tasks.metrics import exact_match, rouge_l
from remem_tasks.whitebox import WhiteBoxResult

MEASURES = {"forget": "efficacy", "other": "generality"}


class Pebench(QuestionBenchmark):
    """Names said and events told (ROUGE-L F); of what is to be forgotten 1 − that: Efficacy, and Generality in other views."""

    name = "pebench"
    data = data

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        context = super().prepare(source, split, rows, context)
        measure = MEASURES.get(split.partition("_")[0], "")
        return replace(context, known={"forget": bool(measure), "measure": measure})

    def begun(self, doc: Mapping) -> str:
        return str(doc["answer"]) if doc["kind"] == "event" else ""

    def correct(self, doc: Mapping, reply: str) -> float:
        if doc["kind"] == "person":
            return exact_match(reply, [doc["answer"]])
        return rouge_l(reply, doc["answer"])[0]

    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        higher, kinds = not context.known["forget"], set(rows["kind"][:])
        words = {"person": "said", "event": "rouge"}
        found = [Metric(f"{self.name}_{kind}_{words[kind]}", higher) for kind in sorted(kinds)]
        if measure := context.known["measure"]:
            found.append(Metric(f"{self.name}_{measure}", True))
        return found

    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        value = self.correct(doc, said[0])
        word = "said" if doc["kind"] == "person" else "rouge"
        found: dict[str, object] = {f"{self.name}_{doc['kind']}_{word}": value}
        if measure := context.known["measure"]:
            found[f"{self.name}_{measure}"] = 1 - value
        return found, {}


BENCHMARK = Pebench()
