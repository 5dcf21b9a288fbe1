"""What a model's probabilities say of a whole answer: `--metrics membership,memorisation`, of every benchmark alike.

Membership: how likely the right answer is, by four scores, and whether they tell it from answers to the same question
that nobody was trained on. Memorisation: how much of the right answer greedy decoding says, given the true tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from remem_tasks.benchmarks.base import Benchmark, Metric, RunContext
from remem_tasks.data.faults import row_name
from remem_tasks.errors import RememError
from remem_tasks.metrics import (
    auc,
    exact_memorisation,
    extraction_strength,
    loss_score,
    min_k,
    min_k_plus_plus,
    zlib_score,
)
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult, WholeAnswer

FAMILIES = ("membership", "memorisation")
NO_OTHERS = "no row has an answer beside it that nobody was trained on"


def _min_k(one: WholeAnswer, text: str, k: float) -> float:
    return min_k(one.logprobs, k)


def _min_k_plus_plus(one: WholeAnswer, text: str, k: float) -> float:
    return min_k_plus_plus(one.logprobs, one.means, one.sds, k)


MEMBERSHIP: Mapping[str, Callable[[WholeAnswer, str], float]] = {
    "loss": lambda one, text: loss_score(one.logprobs),
    "zlib": lambda one, text: zlib_score(one.logprobs, text),
    "mink40": partial(_min_k, k=0.4),
    "mink10": partial(_min_k, k=0.1),
    "minkpp40": partial(_min_k_plus_plus, k=0.4),
    "minkpp10": partial(_min_k_plus_plus, k=0.1),
}
"""Scores of an answer, higher for members; no name is part of another."""
MEMORISATION = {"exact_memorisation": exact_memorisation, "extraction_strength": extraction_strength}


def _measured(context: RunContext) -> tuple[str, ...]:
    return tuple(name for name in FAMILIES if context.white_box and name in context.scoring.metrics)


def texts_of(benchmark: Benchmark, doc: Mapping[str, Any], context: RunContext) -> tuple[str, ...]:
    """The right answer of a row, then those beside it; nothing where neither family is measured."""
    right, families = benchmark.target(doc), _measured(context)
    if not families or not right.strip():
        return ()
    others = benchmark.wrong_answers(doc, context) if "membership" in families else ()
    return right, *(one for one in others if one.strip())


def asked_with(
    request: WhiteBoxRequest | None, benchmark: Benchmark, doc: Mapping[str, Any], context: RunContext
) -> WhiteBoxRequest | None:
    """What is asked of a white box about a row: the benchmark's own request, and these answers token by token."""
    texts = texts_of(benchmark, doc, context)
    if not texts:
        return request
    return replace(request or WhiteBoxRequest(doc["row_id"], row_name(doc)), wholes=texts)


def missing_of(
    benchmark: Benchmark, docs: Sequence[Mapping[str, Any]], context: RunContext
) -> dict[str, str]:
    """Why the area under the curve is not available, by name."""
    known = "member_auc" in context.missing or "membership" not in _measured(context)
    if known or any(benchmark.wrong_answers(doc, context) for doc in docs):
        return {}
    return {"member_auc": NO_OTHERS}


def metrics_of(benchmark: Benchmark, split: str, context: RunContext) -> list[Metric]:
    """The metrics of the families that are measured; on a forget set lower is better."""
    higher, families = not split.startswith("forget"), _measured(context)
    found = []
    if "memorisation" in families:
        found += [Metric(f"{benchmark.name}_{name}", higher) for name in MEMORISATION]
    if "membership" in families:
        found += [Metric(f"{benchmark.name}_member_{name}", higher, mean_of_right) for name in MEMBERSHIP]
        if "member_auc" not in context.missing:
            found += [Metric(f"{benchmark.name}_member_auc_{name}", higher, auc_of) for name in MEMBERSHIP]
    return found


def scores_of(
    benchmark: Benchmark, doc: Mapping[str, Any], context: RunContext, findings: WhiteBoxResult | None
) -> dict[str, object]:
    """A row's scores. Those of membership are no numbers of [0, 1], as a row's are: in a mapping each is of the set alone.

    Raises:
        RememError: names the row; a token of its answer has probability 0.
    """
    texts = texts_of(benchmark, doc, context)
    if findings is None or not texts:
        return {}
    found: dict[str, object] = {}
    right, *others = findings.wholes
    families = _measured(context)
    try:
        if "memorisation" in families:
            for name, score in MEMORISATION.items():
                found[f"{benchmark.name}_{name}"] = score(right.predicted, right.tokens)
        for name, of in MEMBERSHIP.items() if "membership" in families else ():
            item = {
                "right": of(right, texts[0]),
                "others": [of(one, text) for one, text in zip(others, texts[1:])],
            }
            found[f"{benchmark.name}_member_{name}"] = item
            if others:
                found[f"{benchmark.name}_member_auc_{name}"] = item
    except RememError as error:
        raise RememError(f"{row_name(doc)}: {error}") from error
    return found


def mean_of_right(items: Sequence[Mapping[str, Any]]) -> float:
    """The mean of the right answers' scores."""
    return float(sum(item["right"] for item in items) / len(items))


def auc_of(items: Sequence[Mapping[str, Any]]) -> float:
    """Whether the score tells the right answers from the others, of all rows together; 0.5: it cannot."""
    return auc([item["right"] for item in items], [other for item in items for other in item["others"]])
