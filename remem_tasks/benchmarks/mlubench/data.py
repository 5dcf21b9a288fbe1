"""MLUBench (arXiv 2606.12809): entities in four tasks that come one after another, in LLaVA's conversation format.

`Tasks/TaskA/taskA_forget.json` and `…_retain.json`, up to D; a record is a picture, a question and its answer. The
entities of the eight files are disjoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

import datasets

from remem_tasks.benchmarks.asked import ROW, needed, refuse_unknown, rows_of_file, training_of
from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import identity_key
from remem_tasks.data.records import COLUMNS, JsonReader
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.data.source import known_configs, read_config, table_of
from remem_tasks.errors import RememError

ORDER = ("a", "b", "c", "d")
FORGET = tuple(f"forget_{task}" for task in ORDER)
RETAIN = tuple(f"retain_{task}" for task in ORDER)
FILES = {
    f"{kind}_{task}": (f"task{task.upper()}_{kind}.json",) for task in ORDER for kind in ("forget", "retain")
}
ROWS = dict(zip(FILES, (2442, 1680, 2154, 1374, 2580, 1800, 2250, 1134)))
"""Rows of each file as published."""
VARIABLE = "REMEM_MLUBENCH_DATA"
READER = JsonReader(FILES, ("image",), VARIABLE)
FEATURES = {name: datasets.Features(COLUMNS) for name in FILES}
# (Published in a repository and by a file-sharing link, on no Hub: a folder has to be named.)
HOME = DatasetSource("MLUBench", "", VARIABLE, tuple(FILES), FEATURES, reader=READER)
KNOWN_BY = tuple(FILES)
FINETUNE = "full"  # what a model memorises: all eight files
SETS = (*FILES, FINETUNE)
KEYS = {"id", "image", "conversations"}
ASKED = datasets.Features(ROW)


def _question(record: Mapping, where: str) -> dict:
    refuse_unknown(record, KEYS, where)
    said = record.get("conversations")
    turns = (
        [one.get("from") if isinstance(one, dict) else None for one in said] if isinstance(said, list) else []
    )
    if turns != ["human", "gpt"]:
        raise RememError(f"{where}: 'conversations' are not one turn of a human and one of gpt")
    if unknown := [key for one in said for key in one if key not in ("from", "value")]:
        raise RememError(f"{where}: unknown key '{unknown[0]}'")
    asked, told = (one.get("value") for one in said)
    asked = asked.replace("<image>", "") if isinstance(asked, str) else asked
    return {
        "prompt": needed(asked, "value of human", where),
        "answer": needed(told, "value of gpt", where),
    }


def entity_of(path: str) -> tuple[str, str]:
    """(class, entity) of a picture: the last two folders of `downloaded_images/<Class>/<Entity>/image_N.jpg`.

    Raises:
        RememError: it has no two folders.
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if len(parts) < 3:
        raise RememError(f"picture '{path}' lies in no folder of an entity")
    return parts[-3], identity_key(parts[-2])


def _shown(path: str) -> dict:
    kind, entity = entity_of(path)
    return {"identity": entity, "kind": kind}


def questions_of(source: str, name: str, faults: list[str] | None = None) -> datasets.Dataset:
    """The questions of a set (`full`: of all eight files), `kind` the class of the entity.

    Args:
        faults: gets the faults, and the rows they are in are left out; without it the first one is raised.

    Raises:
        RememError: no such set or file, or a row that cannot be asked.
    """
    if name not in SETS:
        raise RememError(f"MLUBench has no set '{name}'; it has {', '.join(SETS)}")
    configs = FILES if name == FINETUNE else (name,)
    files = (
        rows_of_file(source, config, name, HOME, READER, _question, _shown, faults) for config in configs
    )
    return table_of([one for rows in files for one in rows], ASKED)


training_rows = training_of("MLUBench", HOME, questions_of)


FORGET_SETS = ForgetSets("MLUBench", dict(zip(FORGET, RETAIN)))
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True) -> ConfigReport:
    """Read every file and report on it.

    Args:
        pictures: decode every picture too.

    Raises:
        RememError: no data set there. What is wrong inside one is in the report instead.
    """
    source = HOME.resolve(source)
    report = ConfigReport()
    entities: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    seen: set[str] = set()
    there = known_configs(source, HOME)
    counts = distinct(entities="identity", pictures="image_path")
    for config, rows, left in report.walk(there, source, questions_of, counts, what="file"):
        report.check_filled(read_config(source, config, HOME), FILES[config][0])
        entities[config], sizes[config] = set(rows["identity"][:]), len(rows) + left
        if pictures:
            report.check_pictures(read_config(source, config, HOME), f"file of '{config}'", seen)
    for name in sorted(set(FILES) - set(there)):
        report.fault("file that is missing", f"'{FILES[name][0]}'")
    names = list(entities)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if both := entities[one] & entities[other]:
                report.fault("entity of two files", f"'{min(both)}' in '{one}' and in '{other}'")
    if sum(size == ROWS[name] for name, size in sizes.items()) > len(FILES) // 2:  # the published files
        for name, size in sizes.items():
            if size != ROWS[name]:
                report.fault(
                    "file of the wrong size", f"'{FILES[name][0]}': {size} rows, published {ROWS[name]}"
                )
    return report
