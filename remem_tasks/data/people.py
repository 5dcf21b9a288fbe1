"""Who is who: the one form in which people are compared, everywhere (forget, gold, retain, test, gate)."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable

from remem_tasks.errors import RememError
from remem_tasks.metrics.words import APOSTROPHES

# Letters of other scripts that are drawn as Latin ones, small or as the capital that begins a name (В, Η, Р).
DRAWN_ALIKE = str.maketrans(
    "авеһіјкӏмнорԛѕстуԝхαβεζηικμνορτυχϲϳıɑɡ",
    "abehijklmhopqsctywxabezhikmvoptuxcjiag",
)  # Cyrillic, Greek, phonetic
STROKES = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "ı": "i"}
)
"""Letters with a stroke or joined, which no Unicode form takes apart."""
SPELLED_OUT = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"}
)  # where a keyboard lacks them
TITLES = frozenset(
    ["dr", "doctor", "prof", "professor", "mr", "mrs", "ms", "miss", "mx", "sir", "dame", "herr", "frau", "mme", "madame", "phd", "md"]
)  # fmt: skip
LETTERS_AND_NUMBER = re.compile(r"(\D+)(\d+)")
NEAREST = 3  # names that an error offers for one that is not there


def _words(name: str) -> list[str]:
    """The runs of letters, digits and marks of a name, without invisible characters, case folded."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    words, word = [], ""
    for character in folded:
        category = unicodedata.category(character)
        if category == "Cf":  # joiners, soft hyphens, marks of direction: nothing that is seen
            continue
        if (category[0] in "LN" and character not in APOSTROPHES) or (word and category[0] == "M"):
            word += character
        elif word:
            words.append(word)
            word = ""
    return [*words, word] if word else words


def identity_key(name: str) -> str:
    """The form of a name in which two spellings of one person are the same text.

    Unicode forms (NFKC), case, and everything that is not a letter, digit or mark of a letter are evened out:
    blanks, underscores, hyphens and dots alike become one `_`, invisible characters go. Accents stay: they
    tell people apart. A name of signs alone stays as it is.

    >>> identity_key("Ada  Birch"), identity_key("ada_birch"), identity_key("ADA-BIRCH ")
    ('ada_birch', 'ada_birch', 'ada_birch')
    """
    return "_".join(_words(name)) or unicodedata.normalize("NFKC", name).strip()


def likenesses(key: str) -> tuple[str, ...]:
    """What names share that may well be one person's.

    Without accents, a title beside at least two other words, and zeros before a number: once also without cuts, once also
    without order. The same again with umlauts spelled out. Letters of other scripts that are drawn as Latin ones count as
    those. With a digit in it cuts and order stay, as `1_0` is neither `10` nor `0_1`, but between letters and a number there
    may be a cut or none.

    >>> likenesses("silva_josé")[:2]
    ('silvajose', 'jose_silva')
    """
    found: list[str] = []
    for spelled in dict.fromkeys((key, unicodedata.normalize("NFC", key).translate(SPELLED_OUT))):
        plain = "".join(
            character
            for character in unicodedata.normalize("NFKD", spelled)
            if not unicodedata.category(character).startswith("M")
        )
        words = plain.translate(STROKES).translate(DRAWN_ALIKE).split("_")
        bare = [word for word in words if word not in TITLES]
        words = bare if len(bare) > 1 else words
        words = [word.lstrip("0") or "0" if word.isdecimal() else word for word in words]
        cut = "_" if any(map(str.isdigit, "".join(words))) else ""
        found += [
            LETTERS_AND_NUMBER.sub(r"\1_\2", cut.join(words)).replace("__", "_"),
            "_".join(words if cut else sorted(words)),
        ]
    return tuple(found)


def look_alikes(keys: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different keys that may be one person each, sorted."""
    groups: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        for shared in likenesses(key):
            groups[shared].add(key)
    return sorted({tuple(sorted(group)) for group in groups.values() if len(group) > 1})


def nearest(key: str, known: Collection[str]) -> list[str]:
    """Up to NEAREST of the known names, those that look most like this one first."""
    return difflib.get_close_matches(key, sorted(known), n=NEAREST, cutoff=0.0)


def check_known(forgotten: Collection[str], known: Collection[str], forget: str, among: str) -> None:
    """Raise a RememError unless everybody who is to be forgotten is among the people of a set.

    Args:
        forgotten, known: keys of `identity_key`.
        forget, among: how messages call the two sets.
    """
    lacking = sorted(set(forgotten) - set(known))
    if not lacking:
        return
    shown = "; ".join(
        f"'{key}' (nearest: {', '.join(nearest(key, known)) or 'nobody'})" for key in lacking[:NEAREST]
    )
    more = f" and {len(lacking) - NEAREST} more" if len(lacking) > NEAREST else ""
    raise RememError(f"{forget} is about people who are not in {among}: {shown}{more}")
