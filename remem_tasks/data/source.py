"""Data sets of several configs with one split `train` each (CLEAR, MLLMU-Bench), from the Hub or a folder.

Their tables stay as published; what is asked of them is made beside them (`clear`, `mllmu`), so that a
picture lies in memory once however many questions there are about it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets.table import InMemoryTable
from PIL import Image

from remem_tasks.data import hub
from remem_tasks.data.cells import emptiness
from remem_tasks.data.faults import CANNOT, Fault, row_name, settle
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.pictures import decode_image
from remem_tasks.data.tables import PICTURE, PICTURES, as_features, pictures_there, read_mapped, read_tables
from remem_tasks.errors import RememError

SPLIT = "train"
IN_MEMORY = 2**24  # bytes of files that are read at once; larger ones are mapped from the cache of `datasets`


_known_files: dict[tuple[str, str], tuple[tuple, list[str]]] = {}


def _files(source: str, config: str, home: DatasetSource) -> list[str]:
    """The files of a config, none if there is no such config; a folder is asked anew when its card or files change."""
    if home.reader is not None:
        return home.reader.files(source, config)
    stamp = _stamp([source, f"{source}/README.md", f"{source}/{config}"]) if os.path.isdir(source) else ()
    kept = _known_files.get((source, config))
    if kept is None or kept[0] != stamp:
        kept = _known_files[source, config] = (stamp, _find_files(source, config, home))
    return kept[1]


def _find_files(source: str, config: str, home: DatasetSource) -> list[str]:
    path = Path(source)
    if path.is_file() or (path.is_dir() and not any(path.iterdir())):
        raise RememError(f"'{source}' is {'a file' if path.is_file() else 'an empty folder'}, not a data set")
    try:
        find = hub.split_files if path.is_dir() else hub.data_files
        return find(source, config).get(SPLIT, [])
    except RememError:
        raise
    except Exception as error:
        if path.is_dir():
            detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RememError(f"folder '{source}' holds no data set: {detail}") from error
        raise RememError(
            f"data '{source}' is not a folder here and could not be fetched from the Hub ({hub.reason(error)}). "
            f"Either set {home.variable}=<folder> (one made by `remem forge`, or a saved copy), or "
            f"{home.variable}=<Hub id> (default {home.hub_id}) on a machine that reaches the Hub"
        ) from error


def has_config(source: str, config: str, home: DatasetSource) -> bool:
    """Whether a source has a config, without reading it."""
    return bool(_files(source, config, home))


def columns_of(source: str, config: str, home: DatasetSource) -> set[str]:
    """The names of a config's columns, from the head of its first parquet file.

    Raises:
        RememError: a file that cannot be read.
    """
    files = _files(source, config, home)
    try:
        with hub.open_file(files[0]) as opened:
            return set(pq.read_schema(opened).names)
    except (OSError, pa.ArrowException) as error:
        raise RememError(f"config '{config}': {source}: '{files[0]}' cannot be read ({error})") from error


def known_configs(source: str, home: DatasetSource) -> list[str]:
    """The configs of `home` that a source has.

    Raises:
        RememError: it has none of them, or cannot be reached.
    """
    found = [config for config in home.configs if has_config(source, config, home)]
    if not found:
        raise RememError(f"{source} holds no {home.name}: none of the configs {', '.join(home.configs)}")
    return found


_columns: dict[tuple[str, str], list[str]] = {}  # of the files of a config, those that are not read included
_tables: dict[tuple[str, str], tuple[tuple, datasets.Dataset]] = {}


def _stamp(files: Sequence[str]) -> tuple:
    local = [Path(file) for file in files if not hub.ADDRESS.fullmatch(file)]
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in local if file.exists())


def read_config(source: str, config: str, home: DatasetSource) -> datasets.Dataset:
    """All rows and columns of a config, pictures undecoded; kept until its files change.

    Raises:
        RememError: no such config, or its files cannot be read.
    """
    kept = _tables.get((source, config))
    if kept and kept[0] == _stamp([file for file, *_ in kept[0]]):
        return kept[1]
    files = _files(source, config, home)
    if not files:
        has = [name for name in home.configs if name != config and _files(source, name, home)]
        raise RememError(
            f"{source} has no config '{config}'; it has {', '.join(has) or 'none of ' + home.name}"
        )
    reader = home.reader
    if reader is None:
        _columns[source, config] = sorted(columns_of(source, config, home))
    table = reader.table(source, config, files) if reader else _read(source, config, files, home)
    _tables[source, config] = (_stamp(files), table)
    return table


def _read(source: str, config: str, files: list[str], home: DatasetSource) -> datasets.Dataset:
    where = f"config '{config}'"
    wanted = {
        name: kind if name not in PICTURES else PICTURE if name == "image" else datasets.List(PICTURE)
        for name, kind in home.features[config].items()
    }
    stamp = _stamp(files)
    if len(stamp) == len(files) and sum(size for *_, size in stamp) < IN_MEMORY:
        try:
            root = source if os.path.isdir(source) else None
            table = read_tables(files, wanted, where, hub.open_file, lambda names: None, root=root)
        except (OSError, pa.ArrowException) as error:
            raise RememError(f"{where}: {source}: '{files[0]}' cannot be read ({error})") from error
        info = datasets.DatasetInfo(features=as_features(wanted, table.column_names))
        return datasets.Dataset(InMemoryTable(table), info=info)
    try:  # (not by its own name: `+` is no sign for a split)
        return read_mapped(source, SPLIT, files, wanted, where)
    except RememError as error:
        told = str(error)
        raise RememError(told if told.startswith(where) else f"{where}: {told}") from error


def check_columns(table: datasets.Dataset, wanted: Iterable[str], source: str, config: str) -> None:
    """Raise a RememError that lists the missing columns, if any are missing."""
    if missing := [name for name in wanted if name not in table.column_names]:
        raise RememError(
            f"{source}, config '{config}': missing column(s) {', '.join(missing)}; found "
            f"{', '.join(_columns.get((source, config), table.column_names))}"
        )


def count_images(table: datasets.Dataset) -> list[int]:
    """How many pictures each row has (their bytes are not read)."""
    name = next((name for name in PICTURES if name in table.column_names), None)
    if name is None:
        return [0] * len(table)
    column = table.data.column(name)
    if name == "image":
        return [int(there) for there in pictures_there(column)]
    return [length or 0 for chunk in column.chunks for length in pc.list_value_length(chunk).to_pylist()]


def picture_of(doc: Mapping[str, Any], home: DatasetSource) -> list[Image.Image]:
    """The picture of a question, decoded; none for a text-only one.

    Args:
        doc: with `source`, `config`, `place` (the row there), `picture` (−1: none; else which of its pictures).

    Raises:
        RememError: it cannot be read.
    """
    return [decode_image(_stored(doc, home), row_name(doc))] if doc["picture"] >= 0 else []


def _stored(doc: Mapping[str, Any], home: DatasetSource) -> Any:
    """The undecoded picture of a question that has one."""
    table = read_config(doc["source"], doc["config"], home)
    name = next(name for name in PICTURES if name in table.column_names)
    cell = table.select_columns([name])[doc["place"]][name]
    return cell[doc["picture"]] if name == "images" else cell


def pictures_digest(rows: datasets.Dataset, home: DatasetSource | None = None) -> str:
    """16 hex digits of the bytes of all pictures of some rows, in their order; "" where there are none.

    Args:
        rows: with their pictures in a column `image`, or with `source`, `config`, `place` and `picture` (see `picture_of`).
        home: of these rows; not asked where they have a column `image`.

    Raises:
        RememError: a picture's file cannot be read.
    """
    if "image" in rows.column_names:
        cells: Iterable = (
            row["image"] for row in rows.cast_column("image", PICTURE).select_columns(["image"])
        )
    elif home is not None and {"source", "config", "place", "picture"} <= set(rows.column_names):
        names = ["source", "config", "place", "picture"]
        asked = [row for row in rows.select_columns(names) if row["picture"] >= 0]
        # (Of a picture asked about twice in a row, once.)
        cells = (_stored(row, home) for row, before in zip(asked, [None, *asked]) if row != before)
    else:
        return ""
    found, any_there = hashlib.sha256(), False
    for cell in cells:
        if cell:
            raw = cell.get("bytes")
            found.update(hashlib.sha256(raw).digest() if raw else _file_digest(cell.get("path")))
            any_there = True
    return found.hexdigest()[:16] if any_there else ""


def _file_digest(path: str | None) -> bytes:
    try:
        return hashlib.sha256(Path(path or "").read_bytes()).digest()
    except OSError as error:
        raise RememError(f"picture '{path}' cannot be read ({error.strerror})") from error


def training_table(asked: Sequence[Mapping], table: datasets.Dataset) -> datasets.Dataset:
    """Questions in the columns of ReMem's rows, with `text_only`: True where the picture is null on purpose.

    Args:
        asked: with `question`, `answer`, `row_id`, `identity`, `image_path`, `place`, and `picture` (−1 for none).
        table: whose column `image` holds the pictures.
    """
    cells = table.select_columns(["image"])
    empty = datasets.Dataset.from_list([{"image": None}], features=cells.features)
    places = [one["place"] if one["picture"] >= 0 else len(cells) for one in asked]
    rows = datasets.concatenate_datasets([cells, empty]).select(places)
    for name in ("question", "answer", "row_id", "identity", "image_path"):
        rows = rows.add_column(name, [one[name] for one in asked])
    rows = rows.add_column("keywords", [one["answer"] for one in asked])
    for name in ("question_type", "qa_category", "attribute", "cloze_prompt"):
        rows = rows.add_column(name, [""] * len(asked))
    return rows.add_column("text_only", [one["picture"] < 0 for one in asked])


def check_fault_rate(faults: Sequence[str], choice: str, source: str) -> str:
    """What is to be told of faulty questions that are left out; "" if there are none.

    Args:
        faults: one per question (or row) that cannot be asked.
        choice: `refuse` or `allow`.
        source: where they are from.

    Raises:
        RememError: there are some, and they are to be refused.
    """
    return settle([Fault(CANNOT, fault) for fault in faults], choice, source, left_out=True)


def some_left(asked: Sequence, faults: Sequence[str]) -> None:
    """Raise a RememError with the first fault if no question is left beside the faulty ones."""
    if faults and not len(asked):
        raise RememError(f"{faults[0]}; no question of {len(faults)} can be asked")


def table_of(rows: Sequence[Mapping], features: datasets.Features) -> datasets.Dataset:
    """Rows as a data set, also none of them."""
    return datasets.Dataset.from_dict(
        {name: [row[name] for row in rows] for name in features}, features=features
    )


def non_empty(cell: object) -> bool:
    """Whether a cell is a text of which anything is seen."""
    return not emptiness(cell)


def digest(rows: datasets.Dataset, columns: Sequence[str]) -> str:
    """16 hex digits that change when any cell of these columns does."""
    found = hashlib.sha256()
    for name in columns:
        for cell in rows[name][:]:
            found.update(json.dumps(cell, ensure_ascii=False, sort_keys=True).encode() + b"\0")
    return found.hexdigest()[:16]
