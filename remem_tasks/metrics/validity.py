"""Metrics on trial: does a metric tell models that know from models that never did, and is it the same after a knock?

Faithfulness is the area under the ROC curve of a metric over a pool of models that learned the facts against a pool that
never saw them (`membership.auc`). Robustness is in the symmetric form of UDS (arXiv 2605.24614): of what relearning adds
to an unlearned model against what it adds to the model that never knew (R), and of the value before and after
quantisation (Q).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from remem_tasks.metrics.checks import finite
from remem_tasks.metrics.membership import auc
from remem_tasks.metrics.probability import harmonic_mean

EPS = 1e-8
"""What keeps the quotient of two zeros at zero."""
UTILITY = 0.8
"""The share of the starting model's retain score that an unlearned model has to have left to be counted."""


def alike(one: float, other: float, eps: float = EPS) -> float:
    """1 − clip(|one − other| / (|one| + |other| + ε), 0, 1): 1 of equal numbers, 0 of numbers of opposite signs.

    Raises:
        RememError: a number that is NaN or infinite.
    """
    a, b = (float(value) for value in finite([one, other], "values before and after"))
    return 1.0 - min(1.0, abs(a - b) / (abs(a) + abs(b) + eps))


def relearning_robustness(before: float, after: float, gold_before: float, gold_after: float) -> float:
    """R of one model: `alike` of what the same training adds to it and to the model that never knew.

    Below 1 where it comes back faster than it is learned (something was left), or more slowly.
    """
    return alike(after - before, gold_after - gold_before)


def quantisation_robustness(before: float, after: float) -> float:
    """Q of one model: `alike` of a metric's value before and after the weights were made coarser."""
    return alike(before, after)


def threshold(known: ArrayLike, ignorant: ArrayLike) -> float:
    """The value at or below which a model looks as if it never knew: it tells the two pools apart best.

    Of all cuts halfway between neighbouring values the one with the largest share of `known` above less share of
    `ignorant` above (Youden's J); of several the lowest, which calls the fewest models forgetful.

    Args:
        known, ignorant: (N,) and (M,) values of a metric that is higher where more is known.
    """
    above, below = (
        finite(known, "values of models that know"),
        finite(ignorant, "values of those that do not"),
    )
    values = np.unique(np.concatenate([above, below]))
    cuts = [*((values[:-1] + values[1:]) / 2), values[-1]] if len(values) > 1 else [values[0]]
    worth = [float((above > cut).mean() - (below > cut).mean()) for cut in cuts]
    return float(cuts[int(np.argmax(worth))])


@dataclass(frozen=True)
class Knocked:
    """One metric of one unlearned model; values as the metric has them.

    Attributes:
        utility: of its retain score, the share of the starting model's.
        value, relearned, quantised: as it is; after relearning; after quantisation.
        gold, gold_relearned: of the model that never knew.
    """

    utility: float
    value: float
    relearned: float
    quantised: float
    gold: float
    gold_relearned: float


@dataclass(frozen=True)
class Judgement:
    """What the trial says of a metric; None where no model was left to ask.

    Attributes:
        faithfulness: area under the curve, 0.5 = it cannot tell.
        cut: `threshold` of the two pools, in the metric's own sign.
        relearning, quantisation: means of R and Q over the models that pass both filters.
        robustness: their harmonic mean; overall: that of faithfulness and robustness.
        kept, models: how many unlearned models passed, of how many.
    """

    faithfulness: float
    cut: float
    relearning: float | None
    quantisation: float | None
    robustness: float | None
    overall: float | None
    kept: int
    models: int

    def record(self) -> dict[str, float | int | None]:
        return asdict(self)


def judge(
    known: ArrayLike,
    ignorant: ArrayLike,
    unlearned: Sequence[Knocked],
    higher: bool = True,
    least: float = UTILITY,
) -> Judgement:
    """The trial of one metric.

    Two filters stand before the means, as in UDS: a model that lost its utility says nothing of forgetting, and one that
    the metric itself still calls knowing has nothing to come back.

    Args:
        known, ignorant: (N,) and (M,) values over the pools.
        higher: whether a higher value says that more is known.
        least: relative utility that a model needs.
    """
    sign = 1.0 if higher else -1.0
    above = sign * finite(known, "values of models that know")
    below = sign * finite(ignorant, "values of models that do not")
    cut = threshold(above, below)
    kept = [one for one in unlearned if one.utility >= least and sign * one.value <= cut]
    faithfulness = auc(above, below)
    if not kept:
        return Judgement(faithfulness, sign * cut, None, None, None, None, 0, len(unlearned))
    relearning = float(
        np.mean(
            [relearning_robustness(one.value, one.relearned, one.gold, one.gold_relearned) for one in kept]
        )
    )
    quantisation = float(np.mean([quantisation_robustness(one.value, one.quantised) for one in kept]))
    robustness = harmonic_mean([relearning, quantisation])
    return Judgement(
        faithfulness,
        sign * cut,
        relearning,
        quantisation,
        robustness,
        harmonic_mean([faithfulness, robustness]),
        len(kept),
        len(unlearned),
    )
