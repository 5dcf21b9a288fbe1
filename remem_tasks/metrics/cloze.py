"""How a secret goes on after its cloze prompt: read from the row's answer, which is what a model was taught.

A cell of keywords may be lower-cased, and a cloze prompt may end before an article, in a blank or in a colon. The
answer says how the secret is written, what stands between and whether there is a space: `She earns $` goes on with
`48,250`, `She is` with `a nurse`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remem_tasks.metrics.words import begins, length, occurs, tokens

BLANK = re.compile(r"_{2,}|\[(?:mask|blank)\]|<(?:mask|blank)>|\.{3,}|…", re.IGNORECASE)


SIGNS = "+#-\u2010\u2011\u2012\u2013\u2212\u266f"  # make another word of the letters before them, where nothing is joined on
NEAR = 32  # characters behind a phrase that can say where its last word ends


@dataclass(frozen=True)
class Continuation:
    """A secret behind the beginning of an answer.

    Attributes:
        before: the beginning, without space at its end; empty where the secret begins the answer.
        text: what follows, with the space between them, if there is one.
        after: the rest of the answer.
    """

    before: str
    text: str
    after: str = ""


def stem(cloze: str) -> str:
    """A cloze prompt up to its blank, without a colon or space at the end.

    >>> stem("She was born in ___ ."), stem("Phone: "), stem("She earns $")
    ('She was born in', 'Phone', 'She earns $')
    """
    return BLANK.split(cloze, maxsplit=1)[0].rstrip().rstrip(":：").rstrip()


def _whole(text: str, start: int, end: int, goes_on: bool = False) -> bool:
    """Whether a part of a text begins and ends where words do: `C` is not a part of `C++`.

    Args:
        goes_on: whether a sign at its end may belong to what follows: `X-` of `X-1234` is no letter with a minus.
    """

    def inside(left: str, right: str) -> bool:
        if not (left and right) or "Lo" in (unicodedata.category(left[-1]), unicodedata.category(right[0])):
            return False  # scripts without capitals join on particles, or have no spaces
        return len(tokens(left[-1] + right[0])) == 1 and bool(tokens(left[-1]) and tokens(right[0]))

    if inside(text[:start], text[start:end]) or inside(text[start:end], text[end:]):
        return False
    near = text[end : end + NEAR]
    said = tokens(text[start:end] + near)
    if goes_on and tokens(near[:1]) and begins(tokens(text[start:end].rstrip(SIGNS)), said):
        return True
    return begins(tokens(text[start:end]), said)


ALIKE = (
    "-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d",
    "'\u2018\u2019\u02bc\uff07",
    '"\u201c\u201d\u201e\uff02',
)
"""Signs that keyboards and editors write for one another."""


def _either(character: str) -> str:
    """A pattern of a character, and of those that are written for it."""
    return next((f"[{re.escape(signs)}]" for signs in ALIKE if character in signs), re.escape(character))


def _literally(text: str, wanted: str, start: int) -> Iterator[tuple[int, int]]:
    """Where a text says something in these letters, large or small, and any space between its words."""
    pattern = r"\s+".join("".join(map(_either, word)) for word in wanted.split())
    for found in re.finditer(pattern, text[start:], re.IGNORECASE) if pattern else ():
        yield start + found.start(), start + found.end()


def _by_words(text: str, wanted: str, start: int) -> tuple[int, int] | None:
    """Where a text first says something word by word, however it is written."""
    words, said = tokens(wanted), tokens(text[start:])
    place = next((at for at in range(len(said)) if begins(words, said, at)), None)
    if not words or place is None:
        return None
    rest = said[place:]
    found = rest[: length(words, rest)]
    begin = max((at for at in range(start, len(text)) if tokens(text[at:]) == rest), default=None)
    if begin is None:
        return None
    end = next((at for at in range(begin + 1, len(text) + 1) if tokens(text[begin:at]) == found), None)
    return None if end is None else (begin, end)


def _find(text: str, wanted: str, start: int, goes_on: bool = False) -> tuple[int, int] | None:
    for place in _literally(text, wanted, start):
        if _whole(text, *place, goes_on):
            return place
    return _by_words(text, wanted, start)


def continuations(answer: str, cloze: str, phrases: Sequence[str]) -> list[Continuation | None]:
    """How each phrase goes on after the cloze prompt, each for itself.

    The beginning is the answer's own text from where it says the cloze prompt up to the phrase. What stands
    between them is given to the model, another phrase too.

    Args:
        answer: the row's answer.
        cloze: its cloze prompt.
        phrases: the row's keyword phrases, in any letters.

    Returns:
        One a phrase; None where the answer does not say the cloze prompt and the phrase behind it.
    """
    begin = stem(cloze)
    led = _find(answer, begin, 0, goes_on=True) if tokens(begin) else None
    if led is None and not tokens(begin):
        led = (0, 0)
    found: list[Continuation | None] = []
    for phrase in phrases:
        place = _find(answer, phrase, led[1]) if led is not None else None
        if led is None or place is None:
            found.append(None)
            continue
        before = answer[led[0] : place[0]]
        kept = before.rstrip()
        space = before[len(kept) :] * bool(kept)
        found.append(Continuation(kept.lstrip(), space + answer[slice(*place)], answer[place[1] :]))
    return found


def cloze_fault(answer: str, cloze: str, phrases: Sequence[str]) -> str:
    """What is wrong with a cloze prompt, in words; empty where every phrase can be asked for with it."""
    begin = stem(cloze)
    if not tokens(begin) and not (begin and answer.lstrip().startswith(begin)):
        return "no cloze prompt"
    if any(occurs(tokens(phrase), tokens(stem(cloze))) for phrase in phrases):
        return "keyword in the cloze prompt"
    if any(one is None for one in continuations(answer, cloze, phrases)):
        return "cloze prompt does not lead to the keyword"
    return ""
