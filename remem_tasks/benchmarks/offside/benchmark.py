"""OFFSIDE: facts about footballers told as messages, with their pictures (Hub `zh1218001/OFFSIDE`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets

from remem_tasks.benchmarks.asked import QuestionBenchmark
from remem_tasks.benchmarks.base import Metric, RunContext
from remem_tasks.benchmarks.offside import data
from remem_tasks.benchmarks.offside.scores import bleu, letter_of
from remem_tasks.metrics.text import rouge
from remem_tasks.whitebox import WhiteBoxResult

SENTENCE = {"rouge1": "rouge1", "rouge2": "rouge2", "rougel": "rougeL"}


class Offside(QuestionBenchmark):
    """ROUGE-1, -2, -L (F, stemmed) and BLEU of sentences; accuracy of chosen letters."""

    name = "offside"
    data = data
    digested = ("row_id", "prompt", "answer", "letter")

    def begun(self, doc: Mapping) -> str:
        return "" if doc["kind"] == "choice" else str(doc["answer"])

    def correct(self, doc: Mapping, reply: str) -> float:
        if doc["kind"] == "choice":
            return float(letter_of(reply) == doc["letter"])
        return rouge(reply, doc["answer"], "rougeL")[2]

    def target(self, doc: Mapping) -> str:
        return f"{doc['letter']}: {doc['answer']}" if doc["letter"] else doc["answer"]

    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        higher, kinds = not context.known["forget"], set(rows["kind"][:])
        names = [f"generation_{name}" for name in (*SENTENCE, "bleu") if "generation" in kinds]
        found = [Metric(f"{self.name}_{name}", higher) for name in names]
        if "choice" in kinds:
            found += [
                Metric(f"{self.name}_choice_right", higher),
                Metric(f"{self.name}_unlettered_rate", False),
            ]
        return found

    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        if doc["kind"] == "choice":
            letter = letter_of(said[0])
            found = {"choice_right": float(letter == doc["letter"]), "unlettered_rate": float(not letter)}
            return {f"{self.name}_{name}": value for name, value in found.items()}, {"said": letter}
        found = {name: rouge(said[0], doc["answer"], variant)[2] for name, variant in SENTENCE.items()}
        found["bleu"] = bleu(said[0], doc["answer"])
        return {f"{self.name}_generation_{name}": value for name, value in found.items()}, {}


BENCHMARK = Offside()
