"""The rows that attacks draw on: what is asked, what those who stay have in its place, and how people are called."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remem_tasks.data.rows import parse_keywords
from remem_tasks.metrics.words import occurs, tokens
from remem_tasks.seeds import row_seed

Row = Mapping[str, Any]


def name_in(text: str, identity: str) -> str | None:
    """A person's name as a text writes it; None where it does not say it.

    >>> name_in("Mara Quill's hobby is chess.", "mara_quill"), name_in("Her hobby is chess.", "mara_quill")
    ('Mara Quill', None)
    """
    words = [part for part in identity.split("_") if part]
    if not any(re.search(r"[^\W\d]", word) for word in words):
        return None
    found = re.search(r"(?<!\w)" + r"[\W_]+".join(map(re.escape, words)) + r"(?!\w)", text, re.IGNORECASE)
    return found.group() if found else None


def called(row: Row) -> str | None:
    """The name of a row's person, as the row says it."""
    return name_in(row["answer"], row["identity"]) or name_in(row["question"], row["identity"])


def in_words(attribute: str) -> str:
    """An attribute as a question says it: `date of birth` of `date_of_birth`."""
    return " ".join(attribute.replace("_", " ").split())


def secrets(row: Row) -> list[list[str]]:
    """The words of each keyword phrase."""
    return [tokens(phrase) for phrase in parse_keywords(row["keywords"])]


def tells(texts: Iterable[str], row: Row) -> bool:
    """Whether any of the texts says a secret of the row."""
    said = [tokens(text) for text in texts]
    return any(occurs(phrase, words) for words in said for phrase in secrets(row))


@dataclass
class Surroundings:
    """What stands around the rows that are asked.

    Attributes:
        asked: rows of the forget set, texts alone.
        kept: rows of people who stay, texts alone.
    """

    asked: Sequence[Row]
    kept: Sequence[Row]
    _values: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.kept:
            here = self._values.setdefault(row["attribute"], [])
            if (phrases := parse_keywords(row["keywords"])) and len(phrases) == 1 and phrases[0] not in here:
                here.append(phrases[0])

    def others(self, row: Row, count: int) -> list[str]:
        """At most so many values of the row's attribute that people who stay have, another for each row."""
        own = secrets(row)
        found = [
            value
            for value in self._values.get(row["attribute"], ())
            if not any(occurs(phrase, tokens(value)) or occurs(tokens(value), phrase) for phrase in own)
        ]
        return _from(found, count, f"options:{row['row_id']}")

    def shown(self, row: Row, count: int, own: bool = False) -> list[Row]:
        """At most so many rows as demonstrations, none of which says the row's secret.

        Args:
            own: of the same person's other facts; else of people who stay, those of the same attribute first.
        """
        if own:
            pool = [one for one in self.asked if one["identity"] == row["identity"]]
            pool = [one for one in pool if one["attribute"] != row["attribute"]]
        else:
            pool = list(self.kept)
        pool = [one for one in pool if not tells((one["question"], one["answer"]), row)]
        alike = [one for one in pool if one["attribute"] == row["attribute"]]
        rest = [one for one in pool if one["attribute"] != row["attribute"]]
        # Half of them show how such a question is answered, the rest that all sorts of questions are.
        first = _from(alike, max(1, count // 2), f"alike:{row['row_id']}")
        found = first + _from(rest, count - len(first), f"rest:{row['row_id']}")
        return found[::-1]  # the likest stands last, next to the question


def _from(items: Sequence, count: int, stream: str) -> list:
    """At most so many of the items, drawn by a name."""
    chosen = random.Random(row_seed(0, stream, "attacks"))
    return chosen.sample(list(items), min(count, len(items)))
