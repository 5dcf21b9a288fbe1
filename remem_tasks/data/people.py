"""Who is who: the one form in which people are compared, everywhere (forget, gold, retain, test, gate)."""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable

from remem_tasks.errors import RememError

# Letters of other scripts that are drawn as Latin ones, small or as the capital that begins a name (В, Η, Р).
DRAWN_ALIKE = str.maketrans(
    "авеһіјкӏмнорԛѕстуԝхαβεζηικμνορτυχϲϳıɑɡ",
    "abehijklmhopqsctywxabezhikmvoptuxcjiag",
)  # Cyrillic, Greek, phonetic
NEAREST = 3  # names that an error offers for one that is not there


def _words(name: str) -> list[str]:
    """The runs of letters, digits and marks of a name, without invisible characters, case folded."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    words, word = [], ""
    for character in folded:
        category = unicodedata.category(character)
        if category == "Cf":  # joiners, soft hyphens, marks of direction: nothing that is seen
            continue
        if category[0] in "LN" or (word and category[0] == "M"):
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


def likenesses(key: str) -> tuple[str, str]:
    """What names share that may well be one person's: accents and cuts left out; accents and order left out.

    Letters of other scripts that are drawn as Latin ones count as those. With a digit in it the cuts stay, as `1_0` is
    not `10`.

    >>> likenesses("silva_josé")
    ('silvajose', 'jose_silva')
    """
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", key)
        if not unicodedata.category(character).startswith("M")
    )
    plain = plain.translate(DRAWN_ALIKE)
    cut = "_" if any(map(str.isdigit, plain)) else ""
    words = plain.split("_")
    return cut.join(words), "_".join(sorted(words))


def look_alikes(keys: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different keys that may be one person each, sorted."""
    groups: dict[tuple[int, str], set[str]] = defaultdict(set)
    for key in keys:
        for way, shared in enumerate(likenesses(key)):
            groups[way, shared].add(key)
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
