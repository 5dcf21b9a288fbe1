"""Text and JSON files of others: read whole and within bounds, or refused in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError

DIGITS = 300  # no float has more
MOST_BYTES = 512 * 2**20
"""Of a file that is read at once; JSON takes about ten times as much in memory."""


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not a score")


def parse_json(text: str, where: str, constants: bool = False) -> Any:
    """JSON of others.

    Args:
        where: how the message begins; it names the file, and the line where there are several.
        constants: whether NaN and Infinity pass (for files where only some numbers are scores).

    Raises:
        RememError: half written, no JSON, nested too deep, or a number of more than DIGITS digits.
    """
    try:
        return json.loads(text, parse_constant=None if constants else _constant, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise RememError(f"{where}: half written or no JSON ({why})") from error


def read_text(file: str | Path, most: int = MOST_BYTES) -> str:
    """A text file of others.

    Args:
        most: bytes that are read at most.

    Raises:
        RememError: it is not there, cannot be read, is larger than `most`, or is not UTF-8.
    """
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(most + 1)
        if len(raw) > most:
            raise RememError(f"'{file}' cannot be read: it has more than {most:,} bytes")
        return raw.decode("utf-8")
    except OSError as error:
        raise RememError(f"'{file}' cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RememError(f"'{file}' cannot be read: byte {error.start} is not UTF-8") from error


def read_object(file: str | Path, mend: str = "") -> dict[str, Any]:
    """A JSON object in a file: a configuration, a record.

    Args:
        mend: what a message ends with: what is to be done about it.

    Raises:
        RememError: it cannot be read, is not JSON, or is not an object.
    """
    mend = mend and f"; {mend}"
    try:
        found = parse_json(read_text(file), f"'{file}' cannot be read", constants=True)
    except RememError as error:
        raise RememError(f"{error}{mend}") from error
    if not isinstance(found, dict):
        raise RememError(f"'{file}' holds no JSON object, but a {type(found).__name__}{mend}")
    return found
