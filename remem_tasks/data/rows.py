"""The row that trainings and attacks ask, of every benchmark: question, answer, keywords, cloze prompt, picture.

Its columns are those of ReMem's published set; other benchmarks give their training rows in them.
"""

from __future__ import annotations

import hashlib

import datasets

from remem_tasks.data.cells import texts_of
from remem_tasks.errors import RememError

TEXT_COLUMNS = (
    "question",
    "answer",
    "keywords",
    "question_type",
    "qa_category",
    "attribute",
    "cloze_prompt",
    "image_path",
)


def parse_keywords(value: str) -> list[str]:
    """The phrases of a `keywords` cell: one phrase, or a list of phrases, see `cells.texts_of`.

    Raises:
        RememError: the cell holds a list that cannot be read, or a list in a list.

    >>> parse_keywords("14 Elm Road")
    ['14 Elm Road']
    >>> parse_keywords('["14 Elm Road", "Brindle"]')
    ['14 Elm Road', 'Brindle']
    """
    try:
        return texts_of(value)
    except RememError as error:
        raise RememError(f"column 'keywords' {error}") from None


def fingerprint(*tables: datasets.Dataset) -> str:
    """16 hex digits that change when any text cell of the tables does."""
    digest = hashlib.sha256()
    for table in tables:
        for name in TEXT_COLUMNS:
            for cell in table[name][:]:
                digest.update(str(cell).encode())
                digest.update(b"\0")
    return digest.hexdigest()[:16]
