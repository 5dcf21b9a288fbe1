"""What the samples file keeps of the secrets of a row; later readers find it under the same keys for every benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence

from remem_tasks.inquiry import SecretFindings
from remem_tasks.metrics import secret_bits


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
