"""Exposure, alike for every benchmark: how secrets are asked about, and what the samples file keeps of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from remem_tasks.benchmarks.base import Setting
from remem_tasks.benchmarks.scoring_config import Suite
from remem_tasks.engine.draw import row_seed
from remem_tasks.metrics import secret_bits
from remem_tasks.whitebox import SecretFindings


def options(suite: Suite) -> dict[str, Any]:
    """How an `Inquiry` ranks its secrets: its options of those names."""
    return {
        "with_question": suite.cloze_context == "question",
        "estimator": suite.estimator,
        "rollouts": suite.rollouts,
        "seed": suite.rollout_seed,
    }


def some(others: Sequence[str], suite: Suite, row_id: str, place: int = 0) -> tuple[str, ...]:
    """At most `--references` of a secret's other values, drawn by the row.

    Args:
        place: of the secret in its row.
    """
    if len(others) > suite.references:
        seed = row_seed(suite.rollout_seed, row_id, f"references:{place}")
        others = random.Random(seed).sample(others, suite.references)
    return tuple(others)


def unavailable(setting: Setting) -> dict[str, str]:
    """Why Exposure is not available from this backend, under its name; empty where it is, or was not asked for."""
    if "exposure" in setting.suite.metrics and not setting.white_box:
        return {"exposure": "it needs the backend's log-probabilities (remem_hf gives them)"}
    return {name: why for name, why in setting.missing.items() if name == "exposure"}


def kept(secrets: Sequence[SecretFindings]) -> dict[str, list]:
    """Lists with an item a secret.

    Returns:
        `guess_rank`: Ĝ; `secret_bits`: −log2 P(s), None where it is infinite; `reference_rank`, among itself and
        `references` others; `guesses`: (text, ln p or share) pairs, the likeliest first.
    """
    bits = [secret_bits(sum(secret.logprobs)) for secret in secrets]
    return {
        "guess_rank": [secret.rank for secret in secrets],
        "secret_bits": [round(one, 4) if math.isfinite(one) else None for one in bits],
        "reference_rank": [secret.reference_rank for secret in secrets],
        "references": [secret.references for secret in secrets],
        "guesses": [[[text, round(value, 4)] for text, value in secret.guesses] for secret in secrets],
    }
