"""The row: one question about one fictitious identity, with its picture.

The columns are those of the published set (`herbwood27/Remem`); the loader adds three more
(`row_id`, `identity`, `hop`), so that everything downstream asks the same names of a row.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence

from PIL import Image, ImageFile

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
COLUMNS = ("image", *TEXT_COLUMNS)
REQUIRED_TEXT = ("question", "answer", "keywords", "question_type", "image_path")
SPLITS = ("finetune", "forget1", "forget2", "forget3", "forget4", "retain", "test")


def parse_keywords(value: str) -> list[str]:
    """The phrases of a `keywords` cell: one phrase, or a JSON list of phrases.

    >>> parse_keywords("14 Elm Road")
    ['14 Elm Road']
    >>> parse_keywords('["14 Elm Road", "Brindle"]')
    ['14 Elm Road', 'Brindle']
    """
    if not isinstance(value, str):
        return []
    text = value.strip()
    if text.startswith("["):
        try:
            phrases = json.loads(text)
        except json.JSONDecodeError:
            phrases = [text]
        return [str(phrase).strip() for phrase in phrases if str(phrase).strip()]
    return [text] if text else []


def parse_hop(question_type: str) -> int:
    """The reasoning depth in a `question_type` such as `1-hop`; 0 where it names none."""
    match = re.search(r"(\d+)\s*-?\s*hop", str(question_type), flags=re.IGNORECASE)
    return int(match.group(1)) if match else 0


def _source(cell: Mapping) -> io.BytesIO | str:
    return io.BytesIO(cell["bytes"]) if cell.get("bytes") else cell["path"]


def check_image(cell: Mapping, row_name: str) -> None:
    """As `decode_image`, but without decoding where PIL can tell from headers and checksums.

    Raises:
        RememError: there is no picture, or its bytes cannot be read.
    """
    try:
        with Image.open(_source(cell)) as picture:
            picture.verify()
    except Exception:
        decode_image(cell, row_name)  # the judge: raises with the name of the row, unless it can be read


def decode_image(cell: Image.Image | Mapping, row_name: str) -> Image.Image:
    """A row's picture in RGB.

    Args:
        cell: what a `datasets` Image column holds: a PIL image, or `{"bytes": …, "path": …}`.
        row_name: how the error message calls the row.

    Raises:
        RememError: there is no picture, or its bytes cannot be read.
    """
    # lmms-eval tells PIL to fill up truncated files in grey; here a damaged picture is a fault.
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        if isinstance(cell, Image.Image):
            return cell.convert("RGB")
        if not cell or not (cell.get("bytes") or cell.get("path")):
            raise RememError(f"{row_name}: column 'image' is empty")
        with Image.open(_source(cell)) as picture:
            return picture.convert("RGB")
    except RememError:
        raise
    except Exception as error:
        reason = re.sub(r"<_io\.BytesIO[^>]*>", "its bytes", str(error)) or type(error).__name__
        raise RememError(f"{row_name}: column 'image' cannot be read ({reason})") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def check_columns(names: Sequence[str], source: str, split: str) -> None:
    """Raise a RememError that lists the missing columns, if any are missing."""
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise RememError(
            f"{source}, split '{split}': missing column(s) {', '.join(missing)}; found {', '.join(names)}"
        )


def check_text(columns: Mapping[str, Sequence[str]], split: str) -> None:
    """Raise a RememError that names split, row and column of the first cell that must not be empty.

    Args:
        columns: the text columns, each a sequence of N cells.
        split: named in the message.
    """
    for name in REQUIRED_TEXT:
        for index, cell in enumerate(columns[name]):
            if (
                not isinstance(cell, str)
                or not cell.strip()
                or (name == "keywords" and not parse_keywords(cell))
            ):
                raise RememError(f"split '{split}', row {index}: column '{name}' is empty")
