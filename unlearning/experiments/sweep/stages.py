"""The rows that tuning and reporting train on and are scored on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import datasets

from remem_tasks.benchmarks.remem.data import load_split
from remem_tasks.errors import RememError
from unlearning.data import spread
from unlearning.experiments.sweep.plan import SweepPlan


@dataclass(frozen=True)
class Stage:
    """The rows that a stage trains to forget (a split) and those it is scored on, by name."""

    forget: str
    tables: Mapping[str, datasets.Dataset]


def contents(rows: datasets.Dataset) -> set[tuple[str, str]]:
    """What makes a row: its question and its picture."""
    return set(zip(rows["question"][:], rows["image_path"][:]))


def split_per_person(rows: datasets.Dataset) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Every other row of each person here, the others there; a row that comes twice is in one half alone."""
    places: dict[str, dict[tuple[str, str], int]] = {}
    sides: tuple[list[int], list[int]] = ([], [])
    asked = zip(rows["identity"][:], rows["question"][:], rows["image_path"][:])
    for index, (identity, *content) in enumerate(asked):
        seen = places.setdefault(identity, {})
        sides[seen.setdefault(tuple(content), len(seen)) % 2].append(index)
    return rows.select(sides[0]), rows.select(sides[1])


def check_disjoint(tuning: Stage, reporting: Stage) -> None:
    """Raise a RememError if a row is scored in both stages, or a person is to be forgotten in both."""
    for (one, here), (two, there) in itertools.product(tuning.tables.items(), reporting.tables.items()):
        if both := contents(here) & contents(there):
            raise RememError(
                f"{len(both)} rows are scored in tuning ({one}) and in reporting ({two}): {min(both)}"
            )
    people = [set(stage.tables["forget"]["identity"][:]) for stage in (tuning, reporting)]
    if both := people[0] & people[1]:
        raise RememError(f"{', '.join(sorted(both))} would be judged by what chose the settings")


def stages(plan: SweepPlan, identity_rule: str | None = None) -> tuple[Stage, Stage]:
    """The rows of tuning and reporting.

    Returns:
        tuning: `forget` (the split `tune`) and `retain` (half of the rows about people who stay).
        reporting: `forget` (rows of `report` about people who are not in `tune`), `retain` (the other half),
            `test_kept` and `test_forgotten` (rows of `test` about who stays and about those people).

    Raises:
        RememError: a split is missing, a set would be empty, or the stages share a row.
    """

    def load(split: str) -> datasets.Dataset:
        return load_split(plan.data, split, identity_rule)

    def about(rows: datasets.Dataset, wanted: Callable[[str], bool]) -> datasets.Dataset:
        return rows.select([index for index, who in enumerate(rows["identity"][:]) if wanted(who)])

    tune, report, test = load(plan.tune), load(plan.report), load(plan.test)
    tuned = set(tune["identity"][:])
    gone = tuned | set(report["identity"][:])
    own = gone - tuned
    first, second = split_per_person(about(load(plan.retain), lambda who: who not in gone))
    tables = {
        "forget": about(report, lambda who: who in own),
        "retain": second,
        "test_kept": about(test, lambda who: who not in gone),
        "test_forgotten": about(test, lambda who: who in own),
    }
    both = (Stage(plan.tune, {"forget": tune, "retain": first}), Stage(plan.report, tables))
    for stage in both:
        for name, rows in stage.tables.items():
            if not len(rows):
                raise RememError(
                    f"no rows '{name}' to score: split '{plan.report}' needs people that '{plan.tune}' lacks, and "
                    f"'{plan.retain}' and '{plan.test}' people whom neither forgets"
                )
    check_disjoint(*both)
    return tuple(
        Stage(stage.forget, {name: spread(rows, plan.max_rows) for name, rows in stage.tables.items()})
        for stage in both
    )
