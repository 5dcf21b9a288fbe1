"""The row: one question about one fictitious identity, with its picture.

The columns are those of the published set (`herbwood27/Remem`); the loader adds three more
(`row_id`, `identity`, `hop`), so that everything downstream asks the same names of a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import datasets

from remem_tasks.data.cells import emptiness, texts_of
from remem_tasks.data.rows import TEXT_COLUMNS
from remem_tasks.data.tables import PICTURE, TEXT
from remem_tasks.errors import RememError

COLUMNS = ("image", *TEXT_COLUMNS)
TEXTS: dict[str, datasets.Value] = dict.fromkeys(TEXT_COLUMNS, TEXT)
FEATURES = datasets.Features({"image": PICTURE, **TEXTS})  # as read: pictures undecoded
REQUIRED_TEXT = ("question", "answer", "keywords", "question_type", "image_path")
SPLITS = ("finetune", "forget1", "forget2", "forget3", "forget4", "retain", "test")


def parse_hop(question_type: str) -> int:
    """The reasoning depth in a `question_type` such as `1-hop`; 0 where it names none."""
    match = re.search(r"(?<!\d)(\d{1,2})\s*-?\s*hop", str(question_type), flags=re.IGNORECASE)
    return int(match.group(1)) if match else 0


def check_columns(names: Sequence[str], source: str, split: str) -> None:
    """Raise a RememError that lists the missing columns, if any are missing."""
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise RememError(
            f"{source}, split '{split}': missing column(s) {', '.join(missing)}; found {', '.join(names)}"
        )


def cell_faults(columns: Mapping[str, Sequence[str | None]], split: str) -> Iterator[str]:
    """The cells that no row can do without and that hold nothing, each with split, row and column.

    Args:
        columns: the text columns, each a sequence of N cells.
        split: named in the message.
    """
    for name in REQUIRED_TEXT:
        for index, cell in enumerate(columns[name]):
            why = emptiness(cell)
            if name == "keywords" and not why:
                try:
                    why = "" if texts_of(cell) else "holds an empty list"
                except RememError as error:
                    why = str(error)
            if why:
                yield f"split '{split}', row {index}: column '{name}' {why}"
