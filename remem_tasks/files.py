"""Output folders: never another's, and never half written under their own name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remem_tasks.errors import RememError


def write_whole(path: str | Path, text: str, errors: str = "strict") -> None:
    """Write or replace a UTF-8 file in one move, so that it is never half there; its folder is made.

    Args:
        errors: what becomes of characters that UTF-8 has not (halves of pairs), as in `str.encode`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", errors=errors)
    os.replace(temporary, path)


def write_json(path: str | Path, value: object) -> None:
    """Write or replace a JSON file, as `write_whole` does."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def check_empty(out: str | Path) -> Path:
    """`out`, unless it is a file or a folder that holds something (a RememError)."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RememError(f"output folder '{out}' is not empty")
    return out


def partial_of(out: Path) -> Path:
    """Where a folder is written until it is complete."""
    return out.with_name(out.name + ".partial")


def publish(written: Path, out: Path) -> None:
    """Give a complete folder its own name; `out` is absent or empty."""
    if out.exists():
        out.rmdir()
    written.rename(out)


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A folder to write to, which becomes `out` if the block ends well.

    Raises:
        RememError: `out` is not empty.
    """
    out = check_empty(out)
    partial = partial_of(out)
    shutil.rmtree(partial, ignore_errors=True)  # what a stopped call left
    partial.mkdir(parents=True)
    yield partial
    publish(partial, out)
