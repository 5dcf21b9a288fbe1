"""How much of an answer the model predicts token by token when it is given all tokens before.

Both scores as in OpenUnlearning (arXiv 2506.12618); the first goes back to Tirumala et al. 2022
(arXiv 2205.10770), the second to Carlini et al. 2021 (arXiv 2012.07805).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from remem_tasks.errors import RememError
from remem_tasks.metrics.checks import same_length


def _right(predicted: ArrayLike, target: ArrayLike) -> np.ndarray:
    predicted, target = np.asarray(predicted), np.asarray(target)
    for values, what in ((predicted, "predicted tokens"), (target, "tokens of the answer")):
        if values.ndim != 1 or not values.size:
            raise RememError(f"{what}: one row of at least one token is needed, not shape {values.shape}")
        if not np.issubdtype(values.dtype, np.integer):
            raise RememError(f"{what}: token ids are whole numbers, not {values.dtype}")
    same_length(predicted, target, "predicted tokens and tokens of the answer")
    return np.asarray(predicted == target)


def exact_memorisation(predicted: ArrayLike, target: ArrayLike) -> float:
    """The share of the answer's n tokens that are the argmax given the true tokens before.

    Args:
        predicted: (n,) argmax token at each position of the answer, teacher-forced.
        target: (n,) the answer's tokens.

    Returns:
        A number in [0, 1]; 1 = greedy decoding says the answer word for word.
    """
    return float(_right(predicted, target).mean())


def extraction_strength(predicted: ArrayLike, target: ArrayLike) -> float:
    """ES = 1 − k/n with the smallest k such that all tokens from k on are predicted.

    Given k tokens, greedy decoding says the remaining n − k: 1 = all of them from nothing; 0 = the last
    token is wrong, so k = n.

    Args:
        predicted, target: see `exact_memorisation`.
    """
    right = _right(predicted, target)
    wrong = np.flatnonzero(~right)
    prefix = int(wrong[-1]) + 1 if wrong.size else 0
    return (len(right) - prefix) / len(right)
