"""Membership inference: scores that are higher for what was trained on, and how well they tell.

Each score is of one text; `auc` compares those of members (the forget set) with those of others that the
model never saw.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from remem_tasks.errors import RememError
from remem_tasks.metrics.checks import finite, log_probabilities, probability, same_length

MIN_K = (0.4, 0.1)
SMALLEST_SD = 1e-3


def _logprobs(values: ArrayLike, what: str = "log-probabilities of the tokens") -> np.ndarray:
    return finite(log_probabilities(values, what), what)


def loss_score(token_logprobs: ArrayLike) -> float:
    """Mean log-probability per token, the negative of the loss (Yeom et al. 2018, arXiv 1709.01604)."""
    return float(_logprobs(token_logprobs).mean())


def zlib_score(token_logprobs: ArrayLike, text: str) -> float:
    """`loss_score` over the bytes of the zlib-compressed text (Carlini et al. 2021, arXiv 2012.07805).

    Dividing by what a compressor needs keeps text that is plain anyway from looking like a member.
    """
    if not text:
        raise RememError("zlib score: empty text")
    return loss_score(token_logprobs) / len(zlib.compress(text.encode()))


def _lowest(values: np.ndarray, k: float) -> float:
    if not 0 < k <= 1:
        raise RememError(f"Min-K%: k = {k} is not in (0, 1]")
    count = max(1, math.floor(k * len(values) + 1e-9))
    return float(np.sort(values)[:count].mean())


def min_k(token_logprobs: ArrayLike, k: float = MIN_K[0]) -> float:
    """Min-K%: mean of the lowest k·n of n token log-probabilities (Shi et al. 2024, arXiv 2310.16789).

    k·n is rounded down, and at least one token counts.
    """
    return _lowest(_logprobs(token_logprobs), k)


def min_k_plus_plus(
    token_logprobs: ArrayLike, means: ArrayLike, sds: ArrayLike, k: float = MIN_K[0]
) -> float:
    """Min-K%++: as `min_k`, of (ln p(x_t) − μ_t) / σ_t (Zhang et al. 2024, arXiv 2404.02936).

    Args:
        token_logprobs: (T,) ln p(x_t | x_<t).
        means: (T,) μ_t = Σ_z p(z | x_<t) ln p(z | x_<t) over the vocabulary.
        sds: (T,) σ_t, the standard deviation of ln p(z | x_<t) under p. Below 1e-3, where the model is
            certain or indifferent and the quotient is noise, 1e-3 is used.
        k: the share of positions that count.
    """
    return _lowest(standardised(token_logprobs, means, sds), k)


def standardised(token_logprobs: ArrayLike, means: ArrayLike, sds: ArrayLike) -> np.ndarray:
    """(T,) (ln p(x_t) − μ_t) / max(σ_t, 1e-3) of Min-K%++; arguments as `min_k_plus_plus`."""
    logprobs = _logprobs(token_logprobs)
    means = _logprobs(means, "mean log-probabilities over the vocabulary")
    sds = finite(sds, "standard deviations over the vocabulary")
    same_length(logprobs, means, "log-probabilities of the tokens and their means")
    same_length(logprobs, sds, "log-probabilities of the tokens and their standard deviations")
    if sds.min() < 0:
        raise RememError(f"standard deviations over the vocabulary: {sds.min():.6g} is below 0")
    score: np.ndarray = (logprobs - means) / np.maximum(sds, SMALLEST_SD)
    return score


def reference_score(token_logprobs: ArrayLike, reference_logprobs: ArrayLike) -> float:
    """`loss_score` minus that of a reference model that never saw the text (arXiv 2012.07805).

    The two models may cut the text into different numbers of tokens.
    """
    reference = _logprobs(reference_logprobs, "log-probabilities of the reference model")
    return loss_score(token_logprobs) - float(reference.mean())


def auc(members: ArrayLike, others: ArrayLike) -> float:
    """P(member's score > other's score) + ½ P(equal): area under the ROC curve, by ranks.

    Args:
        members, others: (N,) and (M,) scores, higher for members.

    Returns:
        A number in [0, 1]: 0.5 = the attack cannot tell, 1 = it always can.
    """
    members, others = finite(members, "scores of members"), finite(others, "scores of others")
    n, m = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))[:n].sum()
    return float((ranks - n * (n + 1) / 2) / (n * m))


def privleak(auc_unlearned: float, auc_gold: float) -> float:
    """100 · ((1 − AUC) − (1 − AUC_gold)) / (1 − AUC_gold), in per cent (MUSE, arXiv 2407.06460).

    MUSE's AUC is higher for what the model never saw, one minus that of `auc`; here both arguments are as
    `auc` gives them.

    Returns:
        0 = as much told as of the gold model; below 0 = under-unlearned, −100 at worst; above 0 =
        over-unlearned.

    Raises:
        RememError: AUC_gold is 1, which leaves nothing to compare with.
    """
    unlearned, gold = probability(auc_unlearned, "AUC"), probability(auc_gold, "AUC of the gold model")
    if gold == 1:
        raise RememError(
            "privleak: the attack on the gold model has an AUC of 1, so the quotient has no value"
        )
    return 100 * (gold - unlearned) / (1 - gold)
