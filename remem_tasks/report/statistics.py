"""How sure a score is: Wilson's interval, paired bootstrap over rows, distances between distributions.

Pure functions of arrays. Rows are the unit of resampling; people and attributes are taken as they are, so
an interval says what other rows about the same people would have given, not what other people would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from remem_tasks.errors import RememError
from remem_tasks.metrics import jsd_forget_quality, ks_forget_quality
from remem_tasks.metrics.checks import finite, probabilities, probability, whole

DRAWS = 1000
BINS = 10  # of exposure, for the Jensen-Shannon distance


def wilson(mean: float, rows: int, confidence: float = 0.95, sides: int = 2) -> tuple[float, float]:
    """Wilson's interval (1927) of a mean of `rows` numbers in [0, 1].

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n). Exact in kind for shares; for other numbers in
    [0, 1] it is wider than need be, as their variance is at most p(1−p).

    Args:
        sides: 2 for an interval of that confidence, 1 where each bound alone has it.
    """
    p, n = probability(mean, "mean"), whole(rows, "rows")
    z = float(norm.ppf(1 - (1 - confidence) / sides))
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def resampled(rows: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, rows) float32: how often each row comes in each bootstrap sample of that many rows."""
    rng = np.random.default_rng(seed)
    rows, draws = whole(rows, "rows"), whole(draws, "bootstrap draws")
    picked = rng.integers(rows, size=(draws, rows)) + rows * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float32)


def resampled_means(values: ArrayLike, weights: np.ndarray) -> np.ndarray:
    """(draws, models) means of the bootstrap samples.

    Args:
        values: (rows, models); NaN where a row has no such score, and left out of the mean.
        weights: (draws, rows) of `resampled`; sharing them is what makes models paired.
    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    sums = weights @ np.where(known, values, 0.0)
    counts = weights @ known.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / counts  # NaN in a draw that holds no row with the score


@dataclass(frozen=True)
class Difference:
    """first − second, its 95 % interval and the two-sided bootstrap p-value."""

    mean: float
    low: float
    high: float
    p: float
    rows: int


def interval(draws: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap means."""
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(np.asarray(draws, dtype=np.float64), [tail, 100 - tail])
    return float(low), float(high)


def p_value(draws: ArrayLike) -> float:
    """Two-sided: 2 min(#{d ≤ 0}, #{d ≥ 0}) with one draw added to each side, so never 0; at most 1."""
    found = np.asarray(draws, dtype=np.float64)
    found = found[~np.isnan(found)]
    least = min((found <= 0).sum(), (found >= 0).sum())
    return min(1.0, 2 * (float(least) + 1) / (len(found) + 1))


def paired_difference(
    first: ArrayLike, second: ArrayLike, draws: int = DRAWS, seed: int = 0, weights: np.ndarray | None = None
) -> Difference:
    """Paired bootstrap of two models' scores on the same rows.

    Args:
        first, second: (rows,) in the same order of rows; rows that either lacks (NaN) are left out.

    Raises:
        RememError: other numbers of rows, or no row that both have.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise RememError(f"paired bootstrap: {first.shape} and {second.shape} scores do not pair")
    gaps = first - second
    known = ~np.isnan(gaps)
    if not known.any():
        raise RememError("paired bootstrap: no row that both models have")
    if weights is None:
        weights = resampled(len(gaps), draws, seed)
    means = resampled_means(gaps[:, None], weights)[:, 0]
    # In doubles a sum of equal numbers has rounding that would decide the sign of a difference of 0.
    means = np.where(np.abs(means) < 1e-12, 0.0, means)
    return Difference(float(gaps[known].mean()), *interval(means), p_value(means), int(known.sum()))


def distances(model: ArrayLike, gold: ArrayLike) -> dict[str, float]:
    """How far the distribution of a score in [0, 1] over the rows is from the gold model's.

    Returns:
        `ks`: the largest gap between the two cumulative distributions, `ks_p` its p-value, and `jsd`:
        the Jensen-Shannon distance (base 2) of histograms of BINS bins. 0 = alike, 1 = apart.
    """
    model = probabilities(finite(model, "scores of the model"), "scores of the model")
    gold = probabilities(finite(gold, "scores of the gold model"), "scores of the gold model")
    test = ks_forget_quality(model, gold)
    with np.errstate(
        divide="ignore"
    ):  # odds, as the function bins r / (1 + r); 1 becomes inf, which may pass
        odds = [values / (1 - values) for values in (model, gold)]
    return {
        "ks": float(test.statistic),
        "ks_p": float(test.p_value),
        "jsd": 1 - jsd_forget_quality(*odds, bins=BINS, base=2),
    }


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation (n − 1) over seeds; None for one seed."""
    array = finite(values, "scores of the seeds")
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names that no other beats: first to be small, second to be large; by the first.

    A point is beaten by one that is at least as good in both and better in one.
    """

    def beaten(name: str) -> bool:
        x, y = points[name]
        return any(
            other[0] <= x and other[1] >= y and other != (x, y)
            for key, other in points.items()
            if key != name
        )

    return sorted((name for name in points if not beaten(name)), key=lambda name: (*points[name], name))
