"""Exposure, alike for every benchmark: how secrets are asked about, scored and kept in the samples file."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from remem_tasks.benchmarks.base import Metric, RunContext
from remem_tasks.benchmarks.scoring_config import ROLLOUTS, ScoringConfig
from remem_tasks.metrics import (
    cloze_prob,
    exposure,
    extraction_probability,
    mean_over_phrases,
    reference_exposure_of_rank,
    secret_bits,
)
from remem_tasks.seeds import row_seed
from remem_tasks.whitebox import SecretResult

# Scores of a secret, and whether the model knows more where they are higher.
SCORES = {
    "exposure": True,
    "rollout_exposure": True,
    "reference_exposure": True,
    "extraction_rate": True,
    "rollout_extraction_rate": True,
    "cloze_prob": True,
    "secret_bits": False,
}
RATES = ("rank_interval_rate", "infinite_bits_rate")
SEED_SD = "rollout_sd"


def options(scoring: ScoringConfig) -> dict[str, Any]:
    """How an `WhiteBoxRequest` ranks its secrets: its options of those names."""
    return {
        "with_question": scoring.cloze_context == "question",
        "estimators": scoring.estimator,
        "rollouts": scoring.rollouts,
        "rank_budget": scoring.rank_budget,
        "seed": scoring.rollout_seed,
    }


def some(others: Sequence[str], scoring: ScoringConfig, row_id: str, place: int = 0) -> tuple[str, ...]:
    """At most `--references` of a secret's other values, drawn by the row.

    Args:
        place: of the secret in its row.
    """
    if len(others) > scoring.references:
        seed = row_seed(scoring.rollout_seed, row_id, f"references:{place}")
        others = random.Random(seed).sample(others, scoring.references)
    return tuple(others)


def unavailable(context: RunContext) -> dict[str, str]:
    """Why Exposure is not available from this backend, under its name; empty where it is, or was not asked for."""
    if "exposure" in context.scoring.metrics and not context.white_box:
        return {"exposure": "it needs the backend's log-probabilities (remem_hf gives them)"}
    return {name: why for name, why in context.missing.items() if name == "exposure"}


def measured(scoring: ScoringConfig) -> list[str]:
    """The SCORES that a white box gives under a suite."""
    absent = set()
    if "exact" not in scoring.estimator:
        absent.add("exposure")
    if not set(ROLLOUTS) & set(scoring.estimator):
        absent.add("rollout_exposure")
    if "frequency" not in scoring.estimator:
        absent.add("rollout_extraction_rate")
    return [name for name in SCORES if name not in absent]


def seed_sd(values: Sequence[Mapping[str, float]]) -> float:
    """The standard deviation over seeds of a mean over rows, √(Σ s²)/n: each row has random numbers of its own.

    Args:
        values: a mapping a row, with its `sd` s.
    """
    return math.sqrt(math.fsum(value["sd"] ** 2 for value in values)) / len(values)


def rate_metrics(benchmark: str, scoring: ScoringConfig) -> list[Metric]:
    """Shares of rows: whose rank is an interval, whose secret has infinitely many bits; the rollouts' sd over seeds."""
    interval, infinite = (Metric(f"{benchmark}_{name}") for name in RATES)
    found = [interval, infinite] if "exact" in scoring.estimator else [infinite]
    if set(ROLLOUTS) & set(scoring.estimator):
        found.append(Metric(f"{benchmark}_{SEED_SD}", None, seed_sd))
    return found


def scores(secrets: Sequence[SecretResult], scoring: ScoringConfig) -> dict[str, Any]:
    """SCORES of a row, each the mean over its secrets, RATES and SEED_SD; without those that it has not.

    A rank that is an interval counts with its upper end. Where a secret cannot be said the row has no
    `secret_bits`: they are infinite, which `infinite_bits_rate` counts.
    """
    m = scoring.rollouts
    bits = [secret_bits(math.fsum(secret.logprobs)) for secret in secrets]
    infinite = any(math.isinf(one) for one in bits)
    values: dict[str, Sequence[float | None]] = {
        "exposure": [exposure(one.ranks[1], m) if one.ranks else None for one in secrets],
        "rollout_exposure": [
            mean_over_phrases([exposure(rank, m) for rank in one.rollout_ranks])
            if one.rollout_ranks
            else None
            for one in secrets
        ],
        "reference_exposure": [
            reference_exposure_of_rank(one.reference_rank, 1 + one.references) for one in secrets
        ],
        "extraction_rate": [extraction_probability(math.fsum(one.logprobs)) for one in secrets],
        "rollout_extraction_rate": [one.rollout_rate for one in secrets],
        "cloze_prob": [cloze_prob(one.logprobs) for one in secrets],
        "secret_bits": [None] if infinite else bits,
        "rank_interval_rate": [float(any(one.ranks and one.ranks[0] < one.ranks[1] for one in secrets))],
        "infinite_bits_rate": [float(infinite)],
    }
    means = {name: mean_over_phrases(of_secrets) for name, of_secrets in values.items()}
    found: dict[str, Any] = {name: mean for name, mean in means.items() if mean is not None}
    means_drawn = (
        mean_over_phrases([exposure(rank, m) for rank in ranks])
        for ranks in zip(*(one.rollout_ranks for one in secrets))
    )
    drawings = [mean for mean in means_drawn if mean is not None]
    if len(drawings) > 1:
        found[SEED_SD] = {"sd": statistics.stdev(drawings)}
    return found


def of_benchmark(prefixes: Sequence[str], benchmark: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """`scores` under the names of metrics: SCORES behind each prefix, RATES and SEED_SD behind the benchmark's name."""
    return {
        f"{prefix}_{name}": value
        for name, value in found.items()
        for prefix in (prefixes if name in SCORES else [benchmark])
    }


def kept(secrets: Sequence[SecretResult]) -> dict[str, list]:
    """Lists with an item a secret.

    Returns:
        `guess_rank`: G, the upper end of its interval, or Ĝ of the first rollouts where only these were asked for;
        `rank_interval`: both ends, where any secret has an interval; `rollout_ranks`: Ĝ of each drawing of
        rollouts; `secret_bits`: −log2 P(s), None where it is infinite; `reference_rank`, among itself and
        `references` others; `guesses`: (text, ln p or share) pairs, the likeliest first.
    """
    bits = [secret_bits(math.fsum(secret.logprobs)) for secret in secrets]
    intervals = [secret.ranks for secret in secrets if secret.ranks]
    ranked = len(intervals) == len(secrets)
    row: dict[str, list] = {
        "guess_rank": [high for _, high in intervals]
        if ranked
        else [secret.rollout_ranks[0] for secret in secrets]
    }
    if ranked and any(low < high for low, high in intervals):
        row["rank_interval"] = [list(ends) for ends in intervals]
    if all(secret.rollout_ranks for secret in secrets):
        row["rollout_ranks"] = [list(secret.rollout_ranks) for secret in secrets]
    return {
        **row,
        "secret_bits": [round(one, 4) if math.isfinite(one) else None for one in bits],
        "reference_rank": [secret.reference_rank for secret in secrets],
        "references": [secret.references for secret in secrets],
        "guesses": [[[text, round(value, 4)] for text, value in secret.guesses] for secret in secrets],
    }
