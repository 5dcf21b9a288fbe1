"""OFFSIDE's formulas that no other benchmark has."""

from __future__ import annotations

import math
import re
from collections import Counter

from remem_tasks.errors import RememError
from remem_tasks.metrics.words import tokens

EPSILON = 0.1
SAYS = (re.compile(r"[Tt]he answer is ([A-D])"), re.compile(r"^([A-D])$"))


def letter_of(reply: str) -> str:
    """The letter that a reply names: in `The answer is X`, or alone; else "" (released code).

    >>> letter_of("The answer is B."), letter_of(" C\\n"), letter_of("C: Oslo")
    ('B', 'C', '')
    """
    found = [match for pattern in SAYS if (match := pattern.search(reply.strip()))]
    return found[0][1] if found else ""


def bleu(reply: str, answer: str) -> float:
    """Sentence BLEU-4 against one reference, a count of 0 taken as 0.1 (smoothing method 1 of Chen and Cherry 2014).

    BLEU = BP · exp(¼ Σ_n ln p_n), p_n the clipped share of the reply's n-grams in the answer, BP = exp(1 − r/c) for a
    reply of c < r words. The words are those of `metrics.words.tokens`, where the released code has nltk's. Of a reply
    of fewer than four words, orders that it has no n-gram of count as 0.1 of 1.

    Raises:
        RememError: the answer has no word.
    """
    said, wanted = tokens(reply), tokens(answer)
    if not wanted:
        raise RememError(f"BLEU: the answer '{answer[:40]}' has no word")
    if not set(said) & set(wanted):
        return 0.0
    total = 0.0
    for order in range(1, 5):
        grams, reference = _grams(said, order), _grams(wanted, order)
        shared = sum(min(count, reference[gram]) for gram, count in grams.items())
        total += math.log((shared or EPSILON) / max(1, sum(grams.values())))
    brevity = 1.0 if len(said) >= len(wanted) else math.exp(1 - len(wanted) / len(said))
    return brevity * math.exp(total / 4)


def _grams(words: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))
