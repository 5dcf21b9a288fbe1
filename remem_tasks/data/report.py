"""What `remem data check` finds in a data set, whichever benchmark's."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import datasets

from remem_tasks.data.faults import CANNOT
from remem_tasks.data.pictures import decode_image
from remem_tasks.data.tables import PICTURES
from remem_tasks.errors import RememError

MAX_EXAMPLES = 5
"""Places that are named for each kind of fault."""


class Sheet(NamedTuple):
    """One table of a report; the first `names` columns are names, the others numbers."""

    title: str
    heads: list[str]
    lines: list[list[str]]
    names: int = 1


Counts = Callable[[str, datasets.Dataset], "Counter[str]"]
"""(name of a set, its questions) → what is counted of it."""


def distinct(**columns: str) -> Counts:
    """Counts the rows of a set, and under names of their own the different values of some columns."""

    def count(name: str, rows: datasets.Dataset) -> Counter[str]:
        return Counter(
            rows=len(rows), **{head: len(set(rows[column][:])) for head, column in columns.items()}
        )

    return count


@dataclass
class DataReport(abc.ABC):
    """What `remem data check` found in a data set.

    Attributes:
        counts: set → what was counted → number.
        faults: kind → where it was found. A run stops on them.
        remarks: kind → where something is unusual, which is no fault.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, kind: str, where: str) -> None:
        self.faults.setdefault(kind, []).append(where)

    def remark(self, kind: str, where: str) -> None:
        self.remarks.setdefault(kind, []).append(where)

    @abc.abstractmethod
    def sheets(self) -> list[Sheet]:
        """The report as tables."""


@dataclass
class ConfigReport(DataReport):
    """What was found in a data set of configs."""

    def sheets(self) -> list[Sheet]:
        """What was counted in each config."""
        names = list(dict.fromkeys(name for counts in self.counts.values() for name in counts))
        lines = [
            [name, *(str(counts[one]) if one in counts else "-" for one in names)]
            for name, counts in self.counts.items()
        ]
        return [Sheet("Configs", ["config", *names], lines)]

    def walk(
        self,
        names: Iterable[str],
        source: str,
        questions_of: Callable[[str, str, list[str]], datasets.Dataset],
        counts: Counts,
        *,
        what: str = "set",
        lacking: Callable[[str], str] = lambda name: "",
        told: Callable[[str], bool] = lambda name: True,
        left_out: bool = False,
    ) -> Iterator[tuple[str, datasets.Dataset, int]]:
        """Ask set after set, count it, and hand over (its name, its questions, how many of its rows cannot be asked).

        A set that cannot be used at all is a fault, and is not handed over.

        Args:
            questions_of: (data, name of a set, faults) → its questions.
            counts: what is counted of it.
            what: how messages call what is asked.
            lacking: why a set cannot be asked, a kind of remark; "" where it can.
            told: whether rows that cannot be asked are faults here; see `questions`.
            left_out: whether they are counted.
        """
        for name in names:
            if why := lacking(name):
                self.remark(why, name)
                continue
            ask = partial(questions_of, source, name)
            rows, left = self.questions(f"{what} cannot be used", ask, told(name))
            if rows is None:
                continue
            found = counts(name, rows)
            self.counts[name] = found + Counter({"left out": left}) if left_out else found
            yield name, rows, left

    def questions(
        self, unusable: str, ask: Callable[[list[str]], datasets.Dataset], told: bool = True
    ) -> tuple[datasets.Dataset | None, int]:
        """What a set asks, and how many of its rows cannot be asked; each of them is a fault.

        Args:
            unusable: the kind of fault of a set that cannot be used at all; its questions are then None.
            ask: gives the questions and adds to a list what is wrong with rows that are left out.
            told: whether those rows are faults here; False for a set whose rows are in another one that tells them.
        """
        faults: list[str] = []
        try:
            rows = ask(faults)
        except RememError as error:
            self.fault(unusable, str(error))
            return None, 0
        for fault in faults if told else ():
            self.fault(CANNOT, fault)
        return rows, len(faults)

    def check_filled(self, table: datasets.Dataset, file: str) -> None:
        """A file without records is a fault: scoring has nothing of it to ask."""
        if not len(table):
            self.fault("file without records", f"'{file}'")

    def check_pictures(self, table: datasets.Dataset, where: str, seen: set[str] | None = None) -> None:
        """Decode every picture of a table; one that cannot be is a fault.

        Args:
            where: how the message calls the table.
            seen: paths of pictures that are not decoded again; gets those that are.
        """
        name = next((name for name in PICTURES if name in table.column_names), None)
        if name is None:
            return
        for place, row in enumerate(table.select_columns([name])):
            for cell in (row[name] or []) if name == "images" else [row[name]]:
                if cell is None and name == "image":
                    continue  # a row of text alone; a list holds none that is null
                if seen is not None and cell is not None:
                    if cell["path"] in seen:
                        continue
                    seen.add(cell["path"])
                try:
                    decode_image(cell, f"{where}, row {place}")
                except RememError as error:
                    self.fault("unreadable picture", str(error))
