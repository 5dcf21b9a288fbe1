"""`run.json`, the record of a training, as others read it.

Its `status` is `running`, `finished`, `interrupted` or `failed`. A process that is killed (kill −9, a machine that goes
down) leaves `running` behind; the lock of its output, which the system frees, tells that nobody is at work any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.files import is_held
from remem_tasks.reading import read_object

RECORD = "run.json"
GONE = "its process is gone without a word: it was killed, or its machine went down"
OBJECTS = ("identity", "arguments", "data", "gate", "options", "figures", "notes", "weights", "versions")
"""Parts of a record that are objects, or null."""


def read_record(folder: str | Path, ours: bool = False) -> dict[str, Any]:
    """The record in a folder; one that says `running` though nobody writes to the folder says `interrupted`.

    Args:
        ours: whether this process is about to write there, so that whatever ran before is at an end.

    Returns:
        An empty dictionary where there is no record.

    Raises:
        RememError: it cannot be read, or a part of it is of another kind.
    """
    path = Path(folder) / RECORD
    if not path.exists():
        return {}
    record = read_object(path)
    for name in OBJECTS:
        if not isinstance(record.get(name), dict | None):
            raise RememError(f"'{path}': '{name}' is a {type(record[name]).__name__}, not an object")
    if record.get("status") == "running" and not is_held(folder, by_others=ours):
        record |= {"status": "interrupted", "stopped": GONE}
    return record


def unfinished(record: Mapping[str, Any]) -> str:
    """In words, that a training did not end well; "" if it did, or its record does not say how it ended."""
    told = {"running": "is running", "interrupted": "was interrupted", "failed": "failed"}
    status = told.get(str(record.get("status")))
    if status is None:
        return ""
    why = record.get("stopped")
    return f"its training {status}{f' ({why})' if isinstance(why, str) and why else ''}"
