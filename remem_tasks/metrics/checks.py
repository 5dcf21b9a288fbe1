"""What the metrics accept as numbers; anything else is an error that names the argument."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from numpy.typing import ArrayLike

from remem_tasks.errors import RememError

ROUNDING = 1e-6  # how far float arithmetic may carry a probability above 1, or its logarithm above 0


def not_nan(values: ArrayLike, what: str) -> np.ndarray:
    """`values` as a (N,) float64 array, N ≥ 1, without NaN; infinities may pass."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RememError(f"{what}: not numbers ({error})") from error
    if array.ndim != 1:
        raise RememError(f"{what}: one row of numbers is needed, not an array of shape {array.shape}")
    if not array.size:
        raise RememError(f"{what}: empty")
    if np.isnan(array).any():
        raise RememError(f"{what}: NaN at index {int(np.isnan(array).argmax())}")
    return array


def finite(values: ArrayLike, what: str) -> np.ndarray:
    """`not_nan`, and no infinity either."""
    array = not_nan(values, what)
    if not np.isfinite(array).all():
        index = int((~np.isfinite(array)).argmax())
        raise RememError(f"{what}: {array[index]} at index {index}")
    return array


def log_probabilities(values: ArrayLike, what: str) -> np.ndarray:
    """(N,) natural logarithms of probabilities, −inf allowed; up to 1e-6 above 0 is rounding and becomes 0."""
    array = not_nan(values, what)
    if array.max() > ROUNDING:
        raise RememError(
            f"{what}: {array.max():.6g} at index {array.argmax()} is above 0, no log-probability"
        )
    return np.asarray(np.minimum(array, 0.0))


def log_probability(value: float, what: str) -> float:
    """`log_probabilities` of one number."""
    return float(log_probabilities([value], what)[0])


def probabilities(values: ArrayLike, what: str) -> np.ndarray:
    """(N,) numbers in [0, 1]; up to 1e-6 outside is rounding and is cut off."""
    array = not_nan(values, what)
    outside = (array < -ROUNDING) | (array > 1 + ROUNDING)
    if outside.any():
        index = int(outside.argmax())
        raise RememError(f"{what}: {array[index]:.6g} at index {index} is outside [0, 1]")
    return np.asarray(np.clip(array, 0.0, 1.0))


def probability(value: float, what: str) -> float:
    """`probabilities` of one number."""
    return float(probabilities([value], what)[0])


def whole(value: int, what: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RememError(f"{what}: '{value}' is not a whole number") from error
    if number != value or number < least:
        raise RememError(f"{what}: {value} is not a whole number of at least {least}")
    return number


def same_length(first: Sized, second: Sized, what: str) -> None:
    """Two things that belong together item by item."""
    if len(first) != len(second):
        raise RememError(f"{what}: {len(first)} and {len(second)} items, which do not pair")
