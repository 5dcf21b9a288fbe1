"""What a data set in MLLMU-Bench's shape holds, and what is wrong with it."""

from __future__ import annotations

from collections import Counter

from remem_tasks.benchmarks.mllmu.data import (
    ASKED,
    FINETUNE,
    FORGET,
    HOME,
    RETAIN,
    questions_of,
    rows_of_config,
    told_rows,
)
from remem_tasks.data.faults import CANNOT
from remem_tasks.data.people import check_known, look_alikes
from remem_tasks.data.report import ConfigReport
from remem_tasks.data.source import (
    known_configs,
    non_empty,
    read_config,
    table_of,
)
from remem_tasks.errors import RememError


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every config and report on it.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    report = ConfigReport()
    people: dict[str, set[str]] = {}
    for config in known_configs(source, HOME):
        try:
            rows, counts = rows_of_config(source, config)
        except RememError as error:
            report.fault("config cannot be used", str(error))
            continue
        if not rows:
            report.fault("config without rows", f"config '{config}'")
        faults: list[str] = []
        if config == FINETUNE and rows and "metadata" in rows[0]:
            asked = table_of([], ASKED)
            told = [
                one
                for place, row in enumerate(rows)
                for one in told_rows(
                    row["metadata"], f"config '{config}', row {place}", config, {"place": place}, faults
                )
            ]
            ids = Counter(row["ID"] for row in rows if non_empty(row["ID"]))
            for one in (one for one, count in ids.items() if count > 1):
                report.fault("ID that comes twice", f"config '{config}': {one}")
        else:
            asked, told = questions_of(source, config, faults), []
        for fault in faults:
            report.fault(CANNOT, fault)
        people[config] = {row["ID"] for row in rows if non_empty(row["ID"])}
        kinds = Counter(
            f"{kind} {modality}" for kind, modality in zip(asked["kind"][:], asked["modality"][:])
        )
        report.counts[config] = Counter(rows=len(rows), pictures=sum(counts), told=len(told)) + kinds
        if pictures:
            report.check_pictures(read_config(source, config, HOME), f"config '{config}'")
    for group in look_alikes(set().union(*people.values())):
        report.fault("people whose names are alike", ", ".join(group[:5]))
    for forget, retain in zip(FORGET, RETAIN):
        if forget not in people or retain not in people:
            missing = retain if forget in people else forget
            report.fault("config without its partner", f"'{forget}' and '{retain}': there is no '{missing}'")
            continue
        if both := people[forget] & people[retain]:
            report.fault("retain shows forgotten people", f"'{retain}': {', '.join(sorted(both)[:5])}")
        memorised = people.get(FINETUNE) or people.get("Full_Set")
        try:
            check_known(people[forget], memorised or people[forget], f"'{forget}'", "what is memorised")
        except RememError as error:
            report.fault("forgotten people who were never memorised", str(error))
        if lacking := people[forget] - people.get("Test_Set", people[forget]):
            report.fault("Test_Set lacks forgotten people", f"'{forget}': {', '.join(sorted(lacking)[:5])}")
    return report
