"""UMU-Bench: what a model knows of a person with the picture and in text alone, and both at once."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import datasets

from remem_tasks.benchmarks.asked import QuestionBenchmark
from remem_tasks.benchmarks.base import Metric, RunContext
from remem_tasks.benchmarks.umu import data
from remem_tasks.errors import RememError
from remem_tasks.metrics import accf, accr, rlf, rlr, rouge_l
from remem_tasks.whitebox import WhiteBoxResult

CHOSEN = ("choice", "cloze")


class Umu(QuestionBenchmark):
    """Right options, filled blanks, ROUGE-L of sentences; over both questions of a fact AccF and RLF, or AccR and RLR."""

    name = "umu"
    data = data
    digested = ("row_id", "prompt", "answer", "options")

    def begun(self, doc: Mapping) -> str:
        return "" if doc["kind"] in CHOSEN else str(doc["answer"])

    def correct(self, doc: Mapping, reply: str) -> float:
        if doc["kind"] == "choice":
            said = nearest(reply, doc["options"]) if doc["config"] in data.REAL else reply.strip()
            return float(said == doc["answer"])
        if doc["kind"] == "cloze":
            return float(doc["answer"].lower() in reply.lower())
        return rouge_l(reply, doc["answer"])[0]

    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        forget = context.known["forget"]
        found = [
            Metric(f"{self.name}_{kind}_{modality}_{'right' if kind in CHOSEN else 'rouge'}", not forget)
            for kind, modality in sorted(set(zip(rows["kind"][:], rows["modality"][:])))
        ]
        kinds = set(rows["kind"][:])
        of_pairs = accf if forget else accr
        for kind in CHOSEN:
            if kind in kinds:
                name = f"{self.name}_{of_pairs.__name__}_{kind}"
                found.append(Metric(name, True, partial(of_facts, score=of_pairs, name=name)))
        if "generation" in kinds:
            each = rlf if forget else rlr
            name = f"{self.name}_{each.__name__}"
            found.append(Metric(name, not forget, partial(of_facts, score=partial(mean_of, each), name=name)))
        return found

    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        kind, value = doc["kind"], self.correct(doc, said[0])
        word = "right" if kind in CHOSEN else "rouge"
        found: dict[str, object] = {f"{self.name}_{kind}_{doc['modality']}_{word}": value}
        item = {"fact": doc["fact"], "modality": doc["modality"], "value": value}
        forget = context.known["forget"]
        if kind in CHOSEN:
            found[f"{self.name}_{'accf' if forget else 'accr'}_{kind}"] = item
        elif kind == "generation":
            found[f"{self.name}_{'rlf' if forget else 'rlr'}"] = item
        return found, {}


def nearest(reply: str, options: Sequence[str]) -> str:
    """The option that is most like a reply by difflib's ratio, the first of several (released code, real people)."""
    return max(options, key=lambda option: difflib.SequenceMatcher(None, reply, option).ratio())


def mean_of(each: Callable[[float, float], float], text: Sequence[float], image: Sequence[float]) -> float:
    """Mean over the questions of a number of both."""
    return sum(map(each, text, image)) / len(text)


def of_facts(items: Sequence[Mapping], score: Callable[..., float], name: str) -> float:
    """A number over the facts that were asked both ways.

    Args:
        items: of each question its fact, modality and value.
        score: of the values in text alone and of those with the picture, in one order of facts.

    Raises:
        RememError: no fact was asked both ways, as with a small `--limit`.
    """
    facts: dict[str, dict[str, float]] = defaultdict(dict)
    for item in items:
        facts[item["fact"]][item["modality"]] = item["value"]
    both = [values for values in facts.values() if len(values) == 2]
    if not both:
        raise RememError(f"{name}: no fact was asked in text and with the picture; raise --limit")
    return score([values["text"] for values in both], [values["image"] for values in both])


BENCHMARK = Umu()
