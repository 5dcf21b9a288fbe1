"""FIUBench: private facts of fictitious people, asked with their picture (arXiv 2411.03554, Hub `gray311/FIUBench`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import datasets
import numpy as np

from remem_tasks.benchmarks.asked import QuestionBenchmark, gold_rows
from remem_tasks.benchmarks.base import Metric, Request, RunContext
from remem_tasks.benchmarks.fiubench import data
from remem_tasks.benchmarks.fiubench.scores import (
    keyword_share,
    utility,
    weighted_min_k,
    weighted_min_k_plus_plus,
)
from remem_tasks.benchmarks.scoring_config import NO_ANSWERS
from remem_tasks.errors import RememError
from remem_tasks.metrics import (
    answer_probability,
    ape,
    ks_forget_quality,
    options_probability,
    rouge_l,
    truth_ratio,
    truth_ratio_forget,
    truth_ratio_retain,
)
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult


class Fiubench(QuestionBenchmark):
    """Keyword EM of the reply and of replies to paraphrased questions, ROUGE-L recall; from a white box the rest.

    Forget sets: EM, APE, MIA (Min-K and Min-K++), truth ratio, and ln p of the KS test against a gold model (`--gold`). Sets that are kept:
    both readings of the utility. Not in the paper: Exposure of the keyword.
    """

    name = "fiubench"
    data = data
    digested = ("row_id", "prompt", "answer", "paraphrases", "paraphrase", "wrong", "keywords")

    def prepare(self, source: str, split: str, rows: datasets.Dataset, context: RunContext) -> RunContext:
        context = super().prepare(source, split, rows, context)
        missing, known = dict(context.missing), dict(context.known)
        if not context.white_box:
            missing |= dict.fromkeys(("probability", "truth_ratio", "mia", "utility"), NO_ANSWERS)
        if known["forget"]:
            if not context.scoring.gold:
                missing["ks_quality"] = "no samples of a gold model: --gold <its --output_path>"
            elif not context.white_box:
                missing["ks_quality"] = NO_ANSWERS
            else:
                asked = (context.scoring.gold, f"{self.name}_{split}", self.name, rows["row_id"][:])
                known["gold"] = gold_rows(*asked, "truth_ratio")
        return replace(context, known=known, missing=missing)

    def requests(self, doc: Mapping, context: RunContext) -> list[Request]:
        """The question, then its paraphrases."""
        return [Request(doc["prompt"]), *(Request(prompt) for prompt in doc["paraphrases"])]

    def answers(self, doc: Mapping) -> tuple[str, ...]:
        return (doc["answer"], doc["paraphrase"], *doc["wrong"])

    def wrong_answers(self, doc: Mapping, context: RunContext) -> tuple[str, ...]:
        return tuple(doc["wrong"])

    def white_box_request(self, doc: Mapping, context: RunContext) -> WhiteBoxRequest | None:
        asked = super().white_box_request(doc, context)
        return asked and replace(asked, by_token=1)

    def begun(self, doc: Mapping) -> str:
        return str(doc["answer"])

    def correct(self, doc: Mapping, reply: str) -> float:
        return rouge_l(reply, doc["answer"])[1]

    def names(self, rows: datasets.Dataset, split: str, context: RunContext) -> list[Metric]:
        forget = context.known["forget"]
        found = [Metric(f"{self.name}_{name}", not forget) for name in ("em", "ape", "rouge")]
        if context.white_box:
            found += [Metric(f"{self.name}_{name}", not forget) for name in ("prob", "mia")]
            found.append(Metric(f"{self.name}_truth", None if forget else True))
        if context.white_box and forget:
            found.append(Metric(f"{self.name}_minkpp", False, mean_of_parts))
        if context.white_box and not forget:
            for form in ("harmonic", "arithmetic"):
                found.append(Metric(f"{self.name}_utility_{form}", True, partial(set_utility, form=form)))
        if "gold" in context.known:
            aggregate = partial(ks_quality, gold=context.known["gold"])
            found.append(Metric(f"{self.name}_ks_quality", True, aggregate))
        return found

    def values(
        self, doc: Mapping, said: Sequence[str], findings: WhiteBoxResult | None, context: RunContext
    ) -> tuple[dict[str, object], dict[str, object]]:
        found: dict[str, object] = {
            "em": keyword_share(said[0], doc["keywords"]),
            "ape": ape(said[1:], doc["keywords"], keyword_share),
            "rouge": self.correct(doc, said[0]),
        }
        kept: dict[str, object] = {}
        if findings is not None:
            right, paraphrase, *wrong = findings.answers
            kept["truth_ratio"] = ratio = truth_ratio(paraphrase, wrong, mean="geometric")
            found["mia"] = weighted_min_k(findings.tokens[0])
            if context.known["forget"]:
                found["prob"], found["truth"] = answer_probability([right]), truth_ratio_forget([ratio])
                means, sds = zip(*findings.moments[0])
                # No number of [0, 1], as a row's scores are: in a mapping it is a score of the set alone.
                found["minkpp"] = {"value": weighted_min_k_plus_plus(findings.tokens[0], means, sds)}
            else:
                found["prob"] = options_probability(right, wrong)
                found["truth"] = truth_ratio_retain([ratio])
                parts = {name: found[name] for name in ("em", "rouge", "prob", "truth")}
                found |= {f"utility_{form}": parts for form in ("harmonic", "arithmetic")}
            if "gold" in context.known:
                found["ks_quality"] = {"row_id": doc["row_id"], "truth_ratio": ratio}
        return {f"{self.name}_{name}": value for name, value in found.items()}, kept


def mean_of_parts(items: Sequence[Mapping[str, float]]) -> float:
    """The mean of the rows' values."""
    return float(np.mean([item["value"] for item in items]))


CODE = ("rouge", "prob", "truth", "em")
TABLE = ("rouge", "truth")


def set_utility(items: Sequence[Mapping[str, float]], form: str) -> float:
    """Model utility of a set that is kept: `harmonic` mean over `CODE`, `arithmetic` over what of the table is measured.

    The table also has the GPT score and the accuracy on MME and POPE, which are no scores of this set.
    """
    names = CODE if form == "harmonic" else TABLE
    return utility({name: float(np.mean([item[name] for item in items])) for name in names})[form]


def ks_quality(items: Sequence[Mapping], gold: Mapping[str, float]) -> float:
    """ln p of the KS test between the truth ratios of the model and of the gold model, over the same rows."""
    for item in items:
        if item["row_id"] not in gold:
            raise RememError(f"gold model: no truth ratio of row '{item['row_id']}'")
    ratios = [item["truth_ratio"] for item in items]
    return ks_forget_quality(ratios, [gold[item["row_id"]] for item in items]).ln_p


BENCHMARK = Fiubench()
