"""`remem data check`: what a data set holds, and what is wrong with it."""

from __future__ import annotations

from inspect import signature

from rich.table import Table

from remem_tasks.benchmarks.registry import data_of
from remem_tasks.data.report import DataReport
from remem_tasks.errors import RememError


def check(benchmark: str, source: str, pictures: bool = True, identity_rule: str | None = None) -> DataReport:
    """Read every set of a benchmark's data and report on it.

    Args:
        source: folder or Hub id, resolved.
        pictures: decode every picture too; else none is read, nor fetched from the Hub.
        identity_rule: how `image_path` names an identity, of data whose pictures do.

    Raises:
        RememError: no data set there, or one without such a rule.
    """
    data = data_of(benchmark)
    options = {} if identity_rule is None else {"identity_rule": identity_rule}
    if unknown := options.keys() - signature(data.check).parameters:
        raise RememError(
            f"--{unknown.pop().replace('_', '-')} is not for data in the shape of {data.HOME.name}"
        )
    return data.check(source, pictures=pictures, **options)


def tables_of(report: DataReport) -> list[Table]:
    """The report as rich tables."""
    found = []
    for sheet in report.sheets():
        table = Table(*sheet.heads, title=sheet.title)
        for place, column in enumerate(table.columns):
            column.justify = "left" if place < sheet.names else "right"
        for line in sheet.lines:
            table.add_row(*line)
        found.append(table)
    return found
