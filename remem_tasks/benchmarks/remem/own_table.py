"""The table of `remem data make`: CSV, JSON, JSONL or parquet as people and programs write it, under the names of NAMES."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from itertools import zip_longest
from pathlib import Path

import pyarrow.parquet as pq

from remem_tasks.benchmarks.remem.own_photos import picture_cell
from remem_tasks.data.cells import emptiness, text_of, texts_of
from remem_tasks.data.people import identity_key
from remem_tasks.errors import RememError

NAMES = {
    "picture": ("picture", "image", "photo", "file", "image_path"),
    "person": ("person", "name", "who", "identity"),
    "question": ("question",),
    "answer": ("answer",),
    "keyword": ("keyword", "keywords"),
    "cloze": ("cloze", "cloze_prompt"),
    "hop": ("hop", "hops", "question_type"),
    "attribute": ("attribute",),
    "category": ("category", "qa_category"),
    "paraphrase": ("paraphrase", "paraphrases", "paraphrased_question"),
}
"""Column of the table → the names it may have."""
HOP = re.compile(r"[1-9]\d?(\.0)?(\s*-?\s*hops?)?", re.IGNORECASE)
NEEDED = ("person", "question", "answer")
ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}
SEPARATOR = re.compile(r"\ufeff?sep=(.)\r?\n", re.IGNORECASE)  # a first line by which spreadsheets tell it


def _text_of_file(path: Path) -> str:
    """A file of text in UTF-8 or, where it begins with a mark that says so, UTF-16 (as spreadsheets write it)."""
    raw = path.read_bytes()
    encoding = next((name for mark, name in ENCODINGS.items() if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        shown = raw[max(error.start - 15, 0) : error.start + 5].decode("latin-1").splitlines()[-1]
        raise RememError(
            f"'{path}', line {line} is not UTF-8 (near {shown!r}): save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8')"
        ) from None


def _csv_rows(path: Path) -> list[dict]:
    text = _text_of_file(path)
    said = SEPARATOR.match(text)
    text = text[said.end() :] if said else text
    first = text.splitlines()[0] if text.strip() else ""
    bare = re.sub(r'"[^"]*"', "", first)  # quoted names may hold any sign
    separator = said[1] if said else max(",;\t", key=bare.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, names, begun = [], None, 1
    try:
        for cells in reader:
            if names is None:
                names = [name.strip() for name in cells]
            elif any(cell.strip() for cell in cells):
                if any(cell.strip() for cell in cells[len(names) :]):
                    raise RememError(
                        f"'{path}', row {len(rows)}: more cells than columns; put texts with commas into quotes"
                    )
                rows.append(dict(zip_longest(names, cells[: len(names)])))
            begun = reader.line_num + 1
    except csv.Error as error:
        raise RememError(
            f"'{path}' cannot be read ({error}): the row that begins in line {begun} has a quotation mark that is not "
            'closed, or not doubled ("") inside a quoted text'
        ) from None
    twice = [name for name in names or [] if name and names.count(name) > 1]
    if twice:
        raise RememError(f"'{path}': column '{twice[0]}' comes twice")
    return rows


def _json_rows(path: Path) -> list:
    """The rows of a file with a JSON record a line, one list of records, or columns as pandas writes them."""
    text = _text_of_file(path)
    try:
        return _records(json.loads(text))
    except ValueError:
        if text.lstrip().startswith("["):
            raise
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise RememError(f"'{path}', line {number} is not a JSON record ({error})") from None
    return rows


def _records(value: object) -> list:
    """Records of a JSON value: itself, the one list that an object holds (`{"data": […]}`), or columns turned."""
    if not isinstance(value, dict):
        return list(value) if isinstance(value, list) else [value]
    if len(value) == 1 and isinstance(only := next(iter(value.values())), list):
        return only
    if {type(column) for column in value.values()} == {
        dict
    }:  # {"person": {"0": …}}, as pandas does by itself
        value = {name: list(column.values()) for name, column in value.items()}
    lengths = {len(column) if isinstance(column, list) else -1 for column in value.values()}
    if len(lengths) == 1 and -1 not in lengths:
        return [dict(zip(value, cells)) for cells in zip(*value.values())]
    return [value]


def read_table(path: str | Path) -> list[dict]:
    """The rows of a CSV, JSON, JSONL or parquet file under the names of NAMES; NaN, as pandas writes gaps, is none.

    Raises:
        RememError: no such file or column, another format or encoding, a column that comes twice.
    """
    path = Path(path)
    kind = path.suffix.lower()
    try:
        if kind in (".csv", ".tsv"):
            rows = _csv_rows(path)
        elif kind in (".jsonl", ".ndjson", ".json"):
            rows = _json_rows(path)
        elif kind == ".parquet":
            rows = pq.read_table(path).to_pylist()
        else:
            raise RememError(
                f"'{path}' is no .csv, .json, .jsonl or .parquet file (spreadsheets save as 'CSV UTF-8')"
            )
    except OSError as error:
        raise RememError(f"'{path}' cannot be read ({error.strerror or error})") from error
    except RememError:
        raise
    except Exception as error:
        raise RememError(f"'{path}' cannot be read ({str(error).splitlines()[0]})") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise RememError(f"'{path}' has no rows")
    there = {str(name).strip().lower(): name for row in rows for name in row}
    columns = {
        ours: next((there[name] for name in names if name in there), None) for ours, names in NAMES.items()
    }
    if missing := [name for name in NEEDED if columns[name] is None]:
        raise RememError(
            f"'{path}': missing column(s) {', '.join(missing)}; found {', '.join(map(str, rows[0]))}"
        )
    return [{ours: _cell_of(row.get(name)) for ours, name in columns.items()} for row in rows]


def _cell_of(cell: object) -> object:
    """A cell; None for NaN, and a whole number for one that pandas made a fraction beside gaps."""
    if isinstance(cell, float):
        return None if math.isnan(cell) else int(cell) if cell.is_integer() else cell
    return cell


def checked(rows: list[dict], path: str | Path) -> list[dict]:
    """The rows with texts in every cell (a picture may be bytes), their `number` in the table, and the person's `key`."""
    found = []
    for index, row in enumerate(rows):
        where = f"'{path}', row {index}"
        texts: dict = {"where": where, "number": index}
        for name, cell in row.items():
            try:
                if name in ("keyword", "paraphrase"):
                    texts[name] = texts_of(cell)
                    continue
                cell = picture_cell(cell) if name == "picture" else cell
                if name == "picture" and isinstance(cell, bytes):
                    texts[name] = cell
                    continue
                texts[name] = (text_of(cell) or "").strip()
            except RememError as error:
                raise RememError(f"{where}: column '{name}' {error}") from None
            if name in NEEDED and (why := emptiness(texts[name])):
                raise RememError(f"{where}: column '{name}' {why}")
        if texts["hop"] and not HOP.fullmatch(texts["hop"]):
            raise RememError(
                f"{where}: column 'hop' holds '{texts['hop']}', not a number of steps such as 1 or 2-hop"
            )
        texts["key"] = identity_key(texts["person"])
        found.append(texts)
    return found
