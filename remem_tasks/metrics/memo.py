"""MEMO: how much of the rest of an answer comes when the model is given its beginning."""

from __future__ import annotations

from collections.abc import Sequence

from remem_tasks.errors import RememError
from remem_tasks.metrics.checks import whole
from remem_tasks.metrics.text import rouge
from remem_tasks.metrics.words import tokens

STRIDE = 5
UNITS = ("characters", "tokens")
VARIANTS = ("rouge1", "rouge2", "rougeL")
MAX_NEW_TOKENS = 200


def cut_points(answer: str | Sequence[str], stride: int = STRIDE, unit: str = "characters") -> list[int]:
    """Where the answer is cut: 1, 1 + stride, 1 + 2·stride, … below its length.

    Args:
        answer: the text; for the unit `tokens`, its tokens' texts, which joined give the answer.
        stride: characters or tokens between two cuts.
        unit: `characters` (published) or `tokens`.

    Returns:
        K ≥ 1 ascending numbers of characters (or tokens) that the model is given.

    Raises:
        RememError: an answer of less than two units, which has no cut; text for the unit `tokens`.
    """
    if unit not in UNITS:
        raise RememError(f"MEMO's unit is one of {', '.join(UNITS)}, not '{unit}'")
    if isinstance(answer, str) != (unit == "characters"):
        wanted = "the answer's text" if unit == "characters" else "the list of the answer's tokens"
        raise RememError(f"MEMO cut by {unit} takes {wanted}, not a {type(answer).__name__}")
    cuts = list(range(1, len(answer), whole(stride, "MEMO's stride")))
    if not cuts:
        raise RememError(f"answer '{''.join(answer)}' has less than two {unit}: MEMO has nowhere to cut it")
    return cuts


def rouge1_precision(continuation: str, rest: str, variant: str = "rouge1") -> float:
    """The share of the continuation's words that are words of the rest (each as often as it is there).

    ROUGE as `text.rouge` has it, stemmer on. Cases that ROUGE leaves open:

    - an empty continuation scores 0, or 1 if the rest is empty too (white space counts as empty);
    - a rest without any word, such as ".", is continued right by anything that has no word: 1, else 0.

    Args:
        continuation: what the model said after the prefix, without the prefix.
        rest: what the answer says after the prefix.
        variant: the precision of `rouge1` (published), `rouge2` or `rougeL`.

    Returns:
        A number in [0, 1].
    """
    if variant not in VARIANTS:
        raise RememError(f"MEMO's ROUGE variant is one of {', '.join(VARIANTS)}, not '{variant}'")
    if not continuation.strip():
        return float(not rest.strip())
    if not tokens(rest):
        return float(not tokens(continuation))
    return rouge(continuation, rest, variant)[0]


def memo(
    answer: str | Sequence[str],
    continuations: Sequence[str],
    stride: int = STRIDE,
    unit: str = "characters",
    variant: str = "rouge1",
) -> float:
    """MEMO(a) = (1/K) Σ_k ROUGE-1-precision(o_k, a[k:]) over the K cut points (MEOW, arXiv 2409.11844).

    Args:
        answer: see `cut_points`.
        continuations: o_k, one text for each of `cut_points(answer, stride, unit)`, in that order, greedy,
            at most 200 new tokens, without the prefix a[:k].
        stride, unit, variant: other than the published ones belong into the name, see `memo_name`.

    Returns:
        A number in [0, 1]; 1 = whatever the beginning, the model says the rest.

    Raises:
        RememError: see `cut_points`; or not one continuation per cut.
    """
    cuts = cut_points(answer, stride, unit)
    if len(continuations) != len(cuts):
        raise RememError(f"MEMO: {len(continuations)} continuations for {len(cuts)} cuts of the answer")
    rests = ("".join(answer[cut:]) for cut in cuts)
    return sum(rouge1_precision(said, rest, variant) for said, rest in zip(continuations, rests)) / len(cuts)


def memo_name(stride: int = STRIDE, unit: str = "characters", variant: str = "rouge1") -> str:
    """`memo` for the published settings, otherwise what differs before it, such as `stride10_tokens_memo`.

    After a benchmark's prefix (`remem_memo`, `remem_stride10_memo`) no such name is a part of another.
    """
    parts = [
        "" if stride == STRIDE else f"stride{stride}",
        "" if unit == "characters" else unit,
        "" if variant == "rouge1" else variant.lower(),
        "memo",
    ]
    return "_".join(part for part in parts if part)
