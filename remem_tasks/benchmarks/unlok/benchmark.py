"""UnLOK-VQA: whether a fact about a picture is deleted, in other words and pictures too, and its neighbourhood left (arXiv 2505.01456)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import datasets

from remem_tasks.benchmarks.asked import QuestionBenchmark
from remem_tasks.benchmarks.base import Metric, Request, RunContext
from remem_tasks.benchmarks.unlok import data
from remem_tasks.benchmarks.unlok.scores import candidates, shows
from remem_tasks.data.source import has_config
from remem_tasks.whitebox import WhiteBoxResult

QUESTIONS, DRAWS = 4, 5
"""Of the question rephrase attack, as published: the last questions of a fact and its rephrasings, draws of each."""
TOKENS = 36  # of a draw, as of every reply (published)
NO_DRAWS = "this backend is not known to sample from the model's own distribution (remem_hf does)"


class Unlok(QuestionBenchmark):
    """Accuracy (the answer is in the reply); of the facts to forget, success of the question rephrase attack; Exposure of the answer."""

    name = "unlok"
    data = data
    digested = ("row_id", "prompt", "answer", "rephrased", "wrong")

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        context = super().prepare(source, split, rows, context)
        attacked, missing = split == "forget", dict(context.missing)
        if attacked and not context.rollout_options:
            missing["candidates"] = NO_DRAWS
        elif attacked and (bare := sum(not asked for asked in rows["rephrased"][:])):
            missing["rephrased questions"] = (
                f"{bare} of {len(rows)} facts have none: drawn from their own alone"
            )
        drawn = attacked and bool(context.rollout_options)
        return replace(context, known={**context.known, "drawn": drawn}, missing=missing)

    def requests(self, doc: Mapping, context: RunContext) -> list[Request]:
        """The question; and of a fact to forget, draws for the last of its own and its rephrased questions."""
        asked = [Request(doc["prompt"])]
        if context.known["drawn"]:
            options = {**context.rollout_options, "max_new_tokens": TOKENS}
            others = [doc["prompt"], *doc["rephrased"]][-QUESTIONS:]
            asked += [Request(one, generation_kwargs=options, repeats=DRAWS) for one in others]
        return asked

    def wrong_answers(self, doc: Mapping, context: RunContext) -> tuple[str, ...]:
        return tuple(doc["wrong"]) if doc["kind"] != "neighbour" else ()

    def correct(self, doc: Mapping, reply: str) -> float:
        return shows(reply, doc["answer"])

    def other_views(self, source: str) -> list[datasets.Dataset]:
        """The changed pictures of the facts to forget, of each degree that is there."""
        there = [name for name in data.CHANGED if has_config(source, name, data.HOME)]
        return [self.load(source, f"forget_{name}")[0] for name in there]

    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        names = ["accuracy", *(("candidate_success", "candidate_share") if context.known["drawn"] else ())]
        return [Metric(f"{self.name}_{name}", not context.known["forget"]) for name in names]

    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        return {f"{self.name}_accuracy": self.correct(doc, said[0])}, {}

    def sound_values(
        self, doc: Mapping, own: str | None, others: Sequence[str], context: RunContext
    ) -> dict[str, object]:
        """The candidates of the attack."""
        if not others:
            return {}
        success, share = candidates(others, doc["answer"])
        return {f"{self.name}_candidate_success": success, f"{self.name}_candidate_share": share}


BENCHMARK = Unlok()
