"""UMU-Bench: one number for what the text-only and the image-and-text question about a fact give.

Both numbers of a forget set are bad as long as one of the two ways still leads to the fact; both of a
retain set are bad as soon as one of them no longer does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from remem_tasks.errors import RememError
from remem_tasks.metrics.checks import not_nan, probability, same_length
from remem_tasks.metrics.probability import harmonic_mean


def _answers(unimodal: ArrayLike, multimodal: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    right = []
    for values, what in ((unimodal, "text-only answers"), (multimodal, "image-and-text answers")):
        array = not_nan(values, what)
        if not np.isin(array, (0, 1)).all():
            raise RememError(f"{what}: right is 1 and wrong is 0, there is nothing else")
        right.append(array == 1)
    same_length(right[0], right[1], "text-only and image-and-text answers")
    return right[0], right[1]


def accf(unimodal: ArrayLike, multimodal: ArrayLike) -> float:
    """AccF: the share of a forget set's N facts that are answered wrong both ways, in [0, 1].

    Args:
        unimodal, multimodal: (N,) 1 or True where the answer to the text-only question, to the one with
            the image, is right; the same facts in the same order.
    """
    text, image = _answers(unimodal, multimodal)
    return float((~text & ~image).mean())


def accr(unimodal: ArrayLike, multimodal: ArrayLike) -> float:
    """AccR: the share of a retain set's N facts that are answered right both ways; arguments as `accf`."""
    text, image = _answers(unimodal, multimodal)
    return float((text & image).mean())


def rlf(unimodal: float, multimodal: float) -> float:
    """RLF: contraharmonic mean (u² + m²) / (u + m) of a question's two ROUGE-L; 0 if both are 0.

    A forget set's RLF is the mean over its questions.

    It lies nearer to the larger of the two: forgetting one way only does not lower it much.

    Args:
        unimodal, multimodal: the question's ROUGE-L in [0, 1], text only and with the image.
    """
    u = probability(unimodal, "ROUGE-L, text only")
    m = probability(multimodal, "ROUGE-L, with the image")
    larger, smaller = max(u, m), min(u, m)
    if larger == 0:
        return 0.0
    # Divided by the larger, whose square could otherwise vanish.
    share = smaller / larger
    return larger * (1 + share**2) / (1 + share)


def rlr(unimodal: float, multimodal: float) -> float:
    """RLR: harmonic mean 2um / (u + m) of a question's two ROUGE-L, nearer to the smaller; see `rlf`."""
    u = probability(unimodal, "ROUGE-L, text only")
    return harmonic_mean([u, probability(multimodal, "ROUGE-L, with the image")])
