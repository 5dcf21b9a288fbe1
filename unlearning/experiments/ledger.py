"""What a long experiment has done, in its folder: a second call skips it, and another experiment is refused.

    ledger = Ledger(out, "sweep", identity)
    record, before = ledger.measured("runs/npo-1", make)

    records = Records(out)
    before = records.found("steps/npo", {"asked": command})    # None, where it was asked otherwise: it is done again

The identity (settings, digests of weights and rows) stands in `<out>/<kind>.json`; a record per piece of work in
`<out>/<name>.json`. Both are written whole, so that a kill leaves either the old state or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from remem_tasks.errors import RememError
from remem_tasks.files import write_json
from remem_tasks.reading import read_object

Record = dict[str, Any]


class Records:
    """A record per piece of work.

    Args:
        out: the experiment's folder.
        failed: whether a record is of work that failed and is to be tried again by the next call.
    """

    def __init__(self, out: str | Path, failed: Callable[[Record], bool] = lambda record: False) -> None:
        self.out, self.failed = Path(out), failed

    def file(self, name: str) -> Path:
        """Where the record of a piece of work lies."""
        return self.out / f"{name}.json"

    def found(self, name: str, asked: Mapping[str, Any] | None = None) -> Record | None:
        """The record of work that is done; None where it is not, or failed and is to be tried again.

        Args:
            asked: what it depends on, as JSON takes it; None too where the record says otherwise.
        """
        file = self.file(name)
        if not file.is_file():
            return None
        record = _read(file)
        if any(record.get(key) != value for key, value in (asked or {}).items()):
            return None
        return None if self.failed(record) else record

    def keep(self, name: str, record: Record) -> None:
        """Write the record of work that is done."""
        write_json(self.file(name), record)

    def drop(self, name: str) -> None:
        """Work that is begun anew is done no more."""
        self.file(name).unlink(missing_ok=True)

    def measured(self, name: str, make: Callable[[], Record]) -> tuple[Record, bool]:
        """(the record of that name, whether it was there); `make` does the work where it was not."""
        if (found := self.found(name)) is not None:
            return found, True
        self.keep(name, make())
        return _read(self.file(name)), False


class Ledger(Records):
    """The records of one experiment, whose folder holds no other's.

    Args:
        out: the experiment's folder; made if it is not there.
        kind: `sweep`, `study`, `reproduction`: how messages call it.
        identity: everything that its records depend on, as JSON takes it.
        failed: as of `Records`.

    Raises:
        RememError: the folder holds an experiment of another identity, or something else.
    """

    def __init__(
        self,
        out: str | Path,
        kind: str,
        identity: Mapping[str, Any],
        failed: Callable[[Record], bool] = lambda record: False,
    ) -> None:
        super().__init__(out, failed)
        wanted = json.loads(json.dumps(dict(identity)))
        file = self.file(kind)
        if file.is_file():
            found = _read(file)
            if other := [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]:
                told = ", ".join(f"{name} {found.get(name)!r}, not {wanted.get(name)!r}" for name in other)
                raise RememError(f"'{out}' holds a {kind} with {told}; its records cannot stand beside these")
        elif self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise RememError(f"output folder '{out}' is not empty and holds no {kind}")
        self.keep(kind, wanted)


def _read(file: Path) -> Record:
    return read_object(file, "remove it, and its work is done again")
