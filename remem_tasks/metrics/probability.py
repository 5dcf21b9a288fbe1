"""Scores from the probability of given answers: TOFU's family (arXiv 2401.06121), as CLEAR and FIUBench use it.

All log-probabilities are natural. A length-normalised log-probability of a text is (1/n) Σ ln p(token_i),
the negative of the mean loss of its n tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, logsumexp, rel_entr
from scipy.stats import ks_2samp

from remem_tasks.errors import RememError
from remem_tasks.metrics.checks import (
    finite,
    log_probabilities,
    log_probability,
    not_nan,
    probabilities,
    same_length,
    whole,
)


def answer_probability(token_logprobs: ArrayLike) -> float:
    """P(a)^(1/n) = exp(−mean NLL) of the answer's n tokens, in [0, 1] (TOFU)."""
    return math.exp(log_probabilities(token_logprobs, "log-probabilities of the answer's tokens").mean())


def options_probability(right: float, wrong: ArrayLike) -> float:
    """p / (p + Σ wrong): the right answer's share among the options, in [0, 1].

    Args:
        right: length-normalised log-probability of the right answer.
        wrong: (W,) the same of the wrong ones.

    Raises:
        RememError: all options have probability 0.
    """
    right = log_probability(right, "log-probability of the right option")
    wrong = log_probabilities(wrong, "log-probabilities of the wrong options")
    total = logsumexp([right, *wrong])
    if total == -math.inf:
        raise RememError("options: all have probability 0, so none has a share")
    return math.exp(min(right - total, 0.0))


def truth_ratio(paraphrase: float, perturbed: ArrayLike, mean: str = "arithmetic") -> float:
    """r = mean_j P(perturbed_j)^(1/n_j) / P(paraphrase)^(1/n): wrong over right (TOFU).

    Args:
        paraphrase: length-normalised log-probability of the paraphrased right answer.
        perturbed: (J,) the same of the perturbed, wrong answers.
        mean: `arithmetic` as in the paper; `geometric`, exp of the mean log-probability, as in the code
            released with it (which also inverts the ratio; this function does not).

    Returns:
        A number in [0, inf]: small = the model knows what is true, 1 = it cannot tell, large = it prefers
        what is wrong. Beyond the range of a float it is 0 or inf.

    Raises:
        RememError: right and wrong answers all have probability 0.
    """
    paraphrase = log_probability(paraphrase, "log-probability of the paraphrased answer")
    perturbed = log_probabilities(perturbed, "log-probabilities of the perturbed answers")
    if mean not in ("arithmetic", "geometric"):
        raise RememError(f"truth ratio: the mean is arithmetic or geometric, not '{mean}'")
    wrong = logsumexp(perturbed) - math.log(len(perturbed)) if mean == "arithmetic" else perturbed.mean()
    if wrong == paraphrase == -math.inf:
        raise RememError("truth ratio: right and wrong answers all have probability 0")
    with np.errstate(over="ignore"):
        return float(np.exp(np.float64(wrong) - paraphrase))


def _ratios(values: ArrayLike, what: str) -> np.ndarray:
    ratios = not_nan(values, what)
    if ratios.min() < 0:
        raise RememError(f"{what}: {ratios.min():.6g} at index {ratios.argmin()} is below 0")
    return ratios


def truth_ratio_forget(ratios: ArrayLike) -> float:
    """mean min(r, 1/r) over the rows of a forget set, in [0, 1]: 1 = right and wrong are equally likely."""
    ratios = _ratios(ratios, "truth ratios")
    with np.errstate(divide="ignore", over="ignore"):
        return float(np.minimum(ratios, 1 / ratios).mean())


def truth_ratio_retain(ratios: ArrayLike) -> float:
    """mean max(0, 1 − r) over the rows of a set to be kept, in [0, 1]: 1 = the wrong answers are ruled out."""
    return float(np.maximum(0, 1 - _ratios(ratios, "truth ratios")).mean())


class KSForgetQuality(NamedTuple):
    """p-value of the two-sample Kolmogorov-Smirnov test, its natural logarithm, and the statistic D."""

    p_value: float
    ln_p: float
    statistic: float

    @property
    def log10_p(self) -> float:
        return self.ln_p / math.log(10)


def _ln_p_of_equal_sizes(n: int, steps: int) -> float:
    """ln P(D ≥ steps/n) for two sets of n values: 2 Σ_k (−1)^(k−1) C(2n, n − k·steps) / C(2n, n), exact.

    Summed as logarithms, since p is often below the smallest float.
    """
    if steps == 0:
        return 0.0
    k = np.arange(1, n // steps + 1)
    # ln C(2n, n − j) − ln C(2n, n)
    terms = 2 * gammaln(n + 1) - gammaln(n - k * steps + 1) - gammaln(n + k * steps + 1)
    total = ((-1.0) ** (k - 1) * np.exp(terms - terms[0])).sum()
    return min(math.log(2) + float(terms[0]) + math.log(total), 0.0)


def ks_forget_quality(unlearned: ArrayLike, gold: ArrayLike) -> KSForgetQuality:
    """Whether the truth ratios of the unlearned and of the gold model could come from one distribution.

    TOFU publishes the p-value, CLEAR's first version its natural logarithm. Exact for two sets of one size;
    otherwise as scipy has it, exact up to 10 000 rows. The result is the same for r and for 1/r. Where p of
    sets of different size is below the smallest float, ln p is ln 2 − 2 D² NM / (N + M), asymptotically.

    Args:
        unlearned, gold: (N,) and (M,) truth ratios of forget rows.

    Returns:
        p in [0, 1] and ln p ≤ 0: 1 and 0 = not to be told from the gold model.
    """
    unlearned = _ratios(unlearned, "truth ratios of the unlearned model")
    gold = _ratios(gold, "truth ratios of the gold model")
    n, m = len(unlearned), len(gold)
    test = ks_2samp(unlearned, gold, method="asymp" if n == m else "auto")
    p, statistic = float(test.pvalue), float(test.statistic)
    if n == m:
        steps = round(statistic * n)
        ln_p = _ln_p_of_equal_sizes(n, steps)
        p, statistic = math.exp(ln_p), steps / n
    elif p > 0:
        ln_p = math.log(p)
    else:
        ln_p = math.log(2) - 2 * statistic**2 * n * m / (n + m)
    return KSForgetQuality(p, ln_p, statistic)


def jsd_forget_quality(
    unlearned: ArrayLike, gold: ArrayLike, bins: int | None = None, base: float = math.e
) -> float:
    """1 − Jensen-Shannon distance between the unlearned and the gold model (CLEAR's later forget quality).

    Two readings of what the distributions are:

    - over the rows (the default, as in CLEAR's released code): the N values of each model, divided by
      their sum, are a distribution over the N rows, so the rows must be the same in the same order. It
      tells r from 1/r, and no factor common to all rows matters;
    - over `bins` (ours): histograms of r / (1 + r), which lies in [0, 1], in bins of equal width, the last
      one closed. The order of rows does not matter and r and 1/r are alike but for values on an edge.

    Args:
        unlearned, gold: (N,) and (M,) truth ratios; N = M without `bins`.
        bins: how many bins; None compares row by row.
        base: of the logarithm; e as released, 2 for a result that spans [0, 1].

    Returns:
        A number in [1 − √log_base 2, 1], with base e [0.167, 1]; 1 = the same distribution.

    Raises:
        RememError: row by row, values that do not pair, are infinite or all 0.
    """
    unlearned = _ratios(unlearned, "truth ratios of the unlearned model")
    gold = _ratios(gold, "truth ratios of the gold model")
    if not base > 1:
        raise RememError(f"Jensen-Shannon distance: base {base} is not above 1")
    if bins is None:
        same_length(unlearned, gold, "truth ratios of the unlearned and of the gold model")
        for values, what in ((unlearned, "unlearned"), (gold, "gold")):
            if not finite(values, f"truth ratios of the {what} model").any():
                raise RememError(f"truth ratios of the {what} model: all 0, which is no distribution")
        counts = [values / values.max() for values in (unlearned, gold)]
    else:
        edges = np.linspace(0, 1, whole(bins, "number of bins", least=2) + 1)
        with np.errstate(divide="ignore", over="ignore"):
            # 1 / (1 + 1/r) is r / (1 + r), also for r = 0 and r = inf.
            counts = [np.histogram(1 / (1 + 1 / values), edges)[0] for values in (unlearned, gold)]
    first, second = (count / count.sum() for count in counts)
    middle = (first + second) / 2
    divergence = (rel_entr(first, middle) + rel_entr(second, middle)).sum() / 2
    # Rounding can leave a vanishing divergence just below 0.
    return 1 - math.sqrt(max(float(divergence), 0.0) / math.log(base))


def harmonic_mean(parts: ArrayLike) -> float:
    """K / Σ 1/part of K parts in [0, 1]; 0 as soon as one part is 0."""
    parts = probabilities(parts, "parts of the harmonic mean")
    # Scaled by the smallest, so that no part is small enough for 1/part to overflow.
    return float(parts.min() * len(parts) / (parts.min() / parts).sum()) if parts.min() > 0 else 0.0


def model_utility(parts: ArrayLike) -> float:
    """Harmonic mean of probability, ROUGE-L recall and retain truth ratio over the sets to be kept (TOFU)."""
    return harmonic_mean(parts)
