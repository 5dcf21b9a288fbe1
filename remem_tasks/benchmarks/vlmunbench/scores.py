"""VLM-UnBench's scores: strings and numbers in, numbers out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from remem_tasks.errors import RememError

DIGIT = re.compile(r"\b([0-3])\b")


def digit_of(reply: str) -> str:
    """The first of the digits 0 to 3 that stands alone in a reply (released code); "" if none does.

    >>> digit_of("I think it is 2) a dog"), digit_of("13 dogs")
    ('2', '')
    """
    found = DIGIT.search(reply)
    return found[1] if found else ""


def likeliest(logprobs: Sequence[float]) -> int:
    """The option whose digit is the likeliest, of several the first (released code).

    Args:
        logprobs: of each option's digit, at least one.

    Raises:
        RememError: there is none.
    """
    if not logprobs:
        raise RememError("no option to choose from")
    return max(range(len(logprobs)), key=lambda place: logprobs[place])


def macro(items: Sequence[Mapping]) -> float:
    """Accuracy of each concept, then the mean over concepts, each as much as any other.

    Args:
        items: each with its `concept` and its `value` in [0, 1]; at least one.

    Raises:
        RememError: there is none.
    """
    if not items:
        raise RememError("no item to average")
    of: dict[str, list[float]] = defaultdict(list)
    for item in items:
        of[item["concept"]].append(item["value"])
    return sum(sum(values) / len(values) for values in of.values()) / len(of)
