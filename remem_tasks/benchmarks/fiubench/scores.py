"""FIUBench's formulas that no other benchmark has: strings and numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from remem_tasks.errors import RememError
from remem_tasks.metrics.checks import finite, log_probabilities
from remem_tasks.metrics.membership import standardised
from remem_tasks.metrics.probability import harmonic_mean

MIA_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
MIA_WEIGHTS = (0.3, 0.3, 0.2, 0.1, 0.1)
QUALITY_WEIGHTS = {"ks": 0.5, "em": 0.15, "mia": 0.2, "ape": 0.15}


def keyword_share(reply: str, keywords: Sequence[str]) -> float:
    """Σ_k 1/|K| over the keywords k that are substrings of the reply, both in lower case (released code).

    Args:
        keywords: K, at least one.

    Raises:
        RememError: there is none, or an empty one, which every reply would contain.
    """
    if not keywords or not all(keyword.strip() for keyword in keywords):
        raise RememError("keywords: at least one is needed, and none may be empty")
    return sum(keyword.lower() in reply.lower() for keyword in keywords) / len(keywords)


def weighted_min_k(token_logprobs: ArrayLike) -> float:
    """MIA = Σ_k w_k · exp(mean of the lowest ⌊k·n⌋ of the n values), k = .1 … .5, w = .3 .3 .2 .1 .1 (released code).

    A share that holds no token (⌊k·n⌋ = 0, short answers) counts nothing, as there.

    Args:
        token_logprobs: (T,) ln p of the answer's tokens; the first is left out, as there, so n = T − 1.

    Returns:
        A number in [0, 1]; 0 for an answer of fewer than three tokens.
    """
    return _weighted(log_probabilities(token_logprobs, "log-probabilities of the answer's tokens")[1:])


def weighted_min_k_plus_plus(token_logprobs: ArrayLike, means: ArrayLike, sds: ArrayLike) -> float:
    """As `weighted_min_k`, of Min-K%++'s (ln p(x_t) − μ_t) / σ_t in place of ln p (released code).

    There a σ of 0 gives no number; here σ is 1e-3 at least, as in `min_k_plus_plus`.

    Args:
        token_logprobs, means, sds: (T,) as `min_k_plus_plus` has them; the first token is left out.

    Returns:
        A number above 0, which may be above 1; 0 for an answer of fewer than three tokens.
    """
    return _weighted(standardised(token_logprobs, means, sds)[1:])


def _weighted(values: np.ndarray) -> float:
    values, total = np.sort(values), 0.0
    for share, weight in zip(MIA_SHARES, MIA_WEIGHTS):
        if count := math.floor(share * len(values) + 1e-9):
            total += weight * math.exp(values[:count].mean())
    return total


def utility(parts: Mapping[str, float]) -> dict[str, float]:
    """Both readings of model utility over a retain set's means: the code's harmonic and the table's arithmetic one.

    Args:
        parts: name → mean in [0, 1]; the code takes ROUGE, probability, truth ratio, EM and GPT score where measured; the
            table ROUGE, GPT score, truth ratio and the accuracy of MME and POPE.
    """
    values = finite(list(parts.values()), "parts of the utility")
    return {"harmonic": harmonic_mean(values), "arithmetic": float(values.mean())}


def forget_quality(methods: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """.5·norm(log KS p) + .15·(1 − EM) + .2·(1 − MIA) + .15·(1 − APE) of each method (the paper's average of table 2).

    norm is (x − min) / (max − min) over the methods given, so a method's value depends on the others beside it, and
    numbers of two tables cannot be compared. Where all have one log p, norm is 1.

    Args:
        methods: name → {ks: log p, em, mia, ape}.

    Raises:
        RememError: a method lacks one of the four.
    """
    for name, values in methods.items():
        if lacking := QUALITY_WEIGHTS.keys() - values.keys():
            raise RememError(f"forget quality of '{name}': no {', '.join(sorted(lacking))}")
    logs = finite([values["ks"] for values in methods.values()], "log p")
    low, high = logs.min(), logs.max()
    return {
        name: sum(
            weight * ((values["ks"] - low) / (high - low) if high > low else 1.0)
            if part == "ks"
            else weight * (1 - values[part])
            for part, weight in QUALITY_WEIGHTS.items()
        )
        for name, values in methods.items()
    }
