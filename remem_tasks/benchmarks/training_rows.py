"""The rows that a run trains on, alike for every benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets

from remem_tasks.binding import digest_of_json
from remem_tasks.data.faults import REFUSE, Fault, settle
from remem_tasks.data.people import look_alikes
from remem_tasks.data.rows import fingerprint
from remem_tasks.data.source import pictures_digest
from remem_tasks.errors import RememError

MODALITIES = ("joint", "text", "image")


@dataclass(frozen=True)
class Wanted:
    """What a run wants to train on.

    Attributes:
        source: folder or Hub id, resolved.
        rows_from: `finetune` (all of it), `retain` (without the people of the forget set) or `pairs`.
        forget: name of the forget set.
        finetune: what the model memorised; None for the usual one.
        identity_rule: of ReMem's rows.
        alternatives: whether wrong answers beside the forget rows are wanted, where there are some.
        modality: `joint`, `text` or `image` rows.
        faults: what becomes of faulty rows: `refuse` or `allow`, see `data.faults.settle`.
        caption_questions: of CLEAR's captions: `own` or `published`; None for `$REMEM_CAPTION_QUESTIONS`, else own.
    """

    source: str
    rows_from: str
    forget: str
    finetune: str | None = None
    identity_rule: str | None = None
    alternatives: bool = False
    modality: str = "joint"
    faults: str = REFUSE
    caption_questions: str | None = None


@dataclass
class TrainingRows:
    """The tables of a run; `forget` and `retain` are None for a method that does not use them.

    Attributes:
        benchmark: whose rows they are.
        alternatives: plausible other answers by row id of a forget row, where the data set has them.
        faults: what was let pass, for the run's record.
    """

    train: datasets.Dataset
    forget: datasets.Dataset | None
    retain: datasets.Dataset | None
    benchmark: str
    alternatives: dict[str, list[str]] | None = None
    faults: str = ""

    @property
    def tables(self) -> list[datasets.Dataset]:
        """The distinct tables that are trained on."""
        return [self.forget, self.retain] if self.forget is not None else [self.train]

    def fingerprint(self) -> str:
        """Changes when any text that the run trains on does."""
        return fingerprint(*(table for table in self.tables if table is not None))

    def pictures(self) -> str:
        """Changes when any picture that the run trains on does, or a row is asked with or without one."""
        found = [
            (pictures_digest(table), table["text_only"][:] if "text_only" in table.column_names else [])
            for table in self.tables
        ]
        return digest_of_json(found)[:16]

    def wrong_answers(self) -> str | None:
        """Changes when any other answer that stands beside the rows does; None where there are none."""
        return None if self.alternatives is None else digest_of_json(self.alternatives)[:16]


def sets_of_configs(
    wanted: Wanted,
    benchmark: str,
    usual: str,
    retain_of: Callable[[str], str],
    training_rows: Callable[[str, str, str], datasets.Dataset],
    check_people: Callable[[str, str], None] | None = None,
    told: Sequence[str] = (),
    people_of: Callable[[str, str], set[str]] | None = None,
    distinct_by: Sequence[str] = ("question", "answer"),
    retained_is_part: bool = False,
) -> TrainingRows:
    """The rows of a data set whose forget and retain sets are configs: a forget set has a retain set of its own.

    Args:
        usual: the config that a model memorises.
        retain_of: forget set to retain set.
        training_rows: (source, config, modality) to rows in the columns of ReMem.
        check_people: (source, forget set) raises a RememError if its people were never memorised, or are retained.
        told: to which `training_rows` adds what is to be told of faulty rows that it leaves out.
        people_of: (source, config) to the keys of its people; a name to be forgotten that looks like one to be
            retained is a fault.
        distinct_by: columns in which no row to forget may be like one to retain.
        retained_is_part: whether the retain set is a part of what is left without the forget set: gold, which is to have
            seen all of that, is then trained on what the model memorised without the rows to forget.
    """
    if wanted.identity_rule:
        raise RememError("--identity_rule is for data in the shape of ReMem")
    source, forget = wanted.source, wanted.forget

    def read(names: Sequence[str]) -> datasets.Dataset:
        tables = [training_rows(source, name, wanted.modality) for name in names]
        return datasets.concatenate_datasets(tables) if len(tables) > 1 else tables[0]

    def made(
        train: datasets.Dataset,
        forgotten: datasets.Dataset | None = None,
        retained: datasets.Dataset | None = None,
    ) -> TrainingRows:
        return TrainingRows(
            train,
            forgotten,
            retained,
            benchmark,
            faults=" ".join(dict.fromkeys(filter(None, [*told, alike]))),
        )

    alike = ""
    sets = [name.strip() for name in (wanted.finetune or usual).split(",") if name.strip()]
    if wanted.rows_from == "finetune":
        return made(read(sets))
    retain = retain_of(forget)
    if check_people:
        check_people(source, forget)
    if people_of:
        forgotten = people_of(source, forget)
        groups = look_alikes(forgotten | people_of(source, retain))
        alike = settle(
            [
                Fault("people whose names are alike", f"{', '.join(group)} ('{forget}' and '{retain}')")
                for group in groups
                if 0 < len(forgotten.intersection(group)) < len(group)
            ],
            wanted.faults,
            source,
        )
    if wanted.rows_from == "retain":
        if usual not in sets:
            raise RememError(
                f"--finetune_split {wanted.finetune}: '{retain}' is '{usual}' without '{forget}'"
            )
        if retained_is_part:
            rows, gone = read(sets), set(_keys(read([forget]), distinct_by))
            return made(
                rows.select([place for place, key in enumerate(_keys(rows, distinct_by)) if key not in gone])
            )
        kept_sets = [retain if name == usual else name for name in sets]
        return made(read(kept_sets))
    to_forget, kept = read([forget]), read([retain])
    asked = [set(_keys(rows, distinct_by)) for rows in (to_forget, kept)]
    if both := asked[0] & asked[1]:
        raise RememError(
            f"{source}: {len(both)} questions with one answer are in '{forget}' and in '{retain}', "
            f"such as '{min(both)[0]}'"
        )
    return made(to_forget, to_forget, kept)


def training_sets_of(
    benchmark: str,
    usual: str,
    retain_of: Callable[[str], str],
    training_rows: Callable[..., datasets.Dataset],
    **more: Any,
) -> Callable[[Wanted], TrainingRows]:
    """`training_sets` of a benchmark that leaves out few faulty rows and tells them.

    Args:
        benchmark, usual, retain_of: as of `sets_of_configs`, and `more`: what else it takes.
        training_rows: (source, config, modality, choice=…, told=…) to rows in the columns of ReMem.
    """

    def training_sets(wanted: Wanted) -> TrainingRows:
        """What a run trains on; see `Wanted`."""
        told: list[str] = []
        read = partial(training_rows, choice=wanted.faults, told=told)
        return sets_of_configs(wanted, benchmark, usual, retain_of, read, told=told, **more)

    return training_sets


PICTURED = ("question", "answer", "image_path")
"""`distinct_by` of rows that are about their picture: the same question and answer of another one are another row."""


def _keys(rows: datasets.Dataset, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Of each row its values in some columns."""
    return list(zip(*(rows[name][:] for name in columns)))
