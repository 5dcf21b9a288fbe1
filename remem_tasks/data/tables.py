"""The files of one split as one table, whatever Arrow types their columns have: texts, lists, pictures."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets.table import InMemoryTable

from remem_tasks.data import hub
from remem_tasks.data.cells import list_column, text_column
from remem_tasks.errors import RememError
from remem_tasks.seen import visible

TEXT = datasets.Value("string")
TEXTS = datasets.List(TEXT)
PICTURE = datasets.Image(decode=False)
PICTURES = ("image", "images")  # columns whose cells are pictures


def as_written(table: pa.Table, features: datasets.Features | None, where: str, first: int = 0) -> pa.Table:
    """A table whose class labels (numbers in the file, names in its metadata) are their names.

    Args:
        where, first: how messages call the table, and the number of its first row.

    Raises:
        RememError: names the row of a label without a name.
    """
    for name, kind in (features or {}).items():
        if isinstance(kind, datasets.ClassLabel) and name in table.column_names:
            cells = table.column(name).to_pylist()
            for row, cell in enumerate(cells):
                if cell is not None and cell >= kind.num_classes:
                    raise RememError(
                        f"{where}, row {first + row}: column '{name}' holds {cell}, and its names end at {kind.num_classes - 1}"
                    )
            names = [None if cell is None or cell < 0 else kind.int2str(cell) for cell in cells]
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(names, pa.string()))
    return table


def in_columns(
    table: pa.Table, wanted: Mapping[str, object], where: str, first: int = 0, root: str | None = None
) -> pa.Table:
    """A table whose columns have the types that are wanted; columns that are not wanted are left out.

    Args:
        table: of one file.
        wanted: name to feature; names that the table lacks are passed over.
        where: how messages call the split.
        first: the number of its first row in the split.
        root: the folder of the data set, to which paths of pictures are relative; None where it has none.

    Raises:
        RememError: names the row and the column of the first cell that cannot be read.
    """
    columns = {}
    for name, kind in wanted.items():
        if name in table.column_names:
            columns[name] = _column(table.column(name), name, kind, where, first, root)
    return pa.table(columns)


def _column(
    column: pa.ChunkedArray, name: str, kind: object, where: str, first: int, root: str | None
) -> pa.ChunkedArray:
    if kind == TEXT:
        return text_column(column, name, where, first)
    if kind == TEXTS:
        return list_column(column, name, where, first)
    if isinstance(kind, datasets.Image):
        return picture_column(column, name, where, first, root)
    if isinstance(kind, datasets.List) and isinstance(kind.feature, datasets.Image):
        return pictures_column(column, name, where, first, root)
    return nested_column(column, name, kind, where, first)


_CELL = PICTURE.pa_type  # struct<bytes, path>


def _paths_alone(cells: pa.Array) -> pa.Array:
    """Whether each cell of {bytes, path} has a path and no bytes."""
    return pc.and_(pc.and_(cells.is_valid(), cells.field("bytes").is_null()), cells.field("path").is_valid())


def _anchored(cells: pa.Array | None, root: str | None) -> pa.Array | None:
    """Cells of {bytes, path} whose paths without bytes are of files below `root`, where there are such files."""
    if cells is None or root is None or not pc.any(alone := _paths_alone(cells)).as_py():
        return cells
    paths = [
        file if moved and os.path.isfile(file := os.path.join(root, path)) else path
        for path, moved in zip(cells.field("path").to_pylist(), alone.to_pylist())
    ]
    parts = [cells.field("bytes"), pa.array(paths, pa.string())]
    return pa.StructArray.from_arrays(parts, ["bytes", "path"], mask=cells.is_null())


def _cells(values: pa.Array) -> pa.Array | None:
    """Values of any type that can hold pictures as an array of {bytes, path}; None for other types."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _cells(values.dictionary_decode())
    if pa.types.is_struct(kind) and {kind.field(i).name for i in range(kind.num_fields)} & {"bytes", "path"}:
        names = [kind.field(index).name for index in range(kind.num_fields)]
        try:
            parts = [
                values.field(name).cast(field_type) if name in names else pa.nulls(len(values), field_type)
                for name, field_type in (("bytes", pa.binary()), ("path", pa.string()))
            ]
        except pa.ArrowException:  # numbers or lists in place of bytes
            return None
        return pa.StructArray.from_arrays(parts, ["bytes", "path"], mask=values.is_null())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        parts = [values.cast(pa.binary()), pa.nulls(len(values), pa.string())]
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        parts = [pa.nulls(len(values), pa.binary()), values.cast(pa.string())]
    elif pa.types.is_null(kind):
        return pa.nulls(len(values), _CELL)
    else:
        return None
    return pa.StructArray.from_arrays(parts, ["bytes", "path"], mask=values.is_null())


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def picture_column(
    column: pa.ChunkedArray, name: str, where: str, first: int = 0, root: str | None = None
) -> pa.ChunkedArray:
    """A column of pictures: records of bytes and path, bytes, paths, or lists of one of them each.

    Raises:
        RememError: another type; or a list that does not hold exactly one picture, with its row.
    """
    chunks, start = [], first
    for chunk in column.chunks:
        values = chunk
        if _is_list(chunk.type) and _cells(pa.nulls(0, chunk.type.value_type)) is not None:
            lengths = pc.fill_null(pc.list_value_length(chunk), 1).to_pylist()
            wrong = next((index for index, length in enumerate(lengths) if length != 1), None)
            if wrong is not None:
                raise RememError(
                    f"{where}, row {start + wrong}: column '{name}' holds {lengths[wrong]} pictures, not one"
                )
            values = pc.list_element(chunk, 0)
        found = _anchored(_cells(values), root)
        if found is None:
            raise RememError(f"{where}, row {start}: column '{name}' holds {column.type}, no pictures")
        chunks.append(found)
        start += len(chunk)
    return pa.chunked_array(chunks, _CELL)


def pictures_column(
    column: pa.ChunkedArray, name: str, where: str, first: int = 0, root: str | None = None
) -> pa.ChunkedArray:
    """A column of lists of pictures; where each row has one picture, it is a list of one.

    Raises:
        RememError: another type.
    """
    chunks = []
    for chunk in column.chunks:
        if _is_list(chunk.type):
            chunk = chunk.cast(pa.list_(chunk.type.value_type))
            values = _anchored(_cells(chunk.values), root)
            offsets, mask = chunk.offsets, chunk.is_null()
        else:
            values = _anchored(_cells(chunk), root)
            offsets, mask = pa.array(range(len(chunk) + 1), pa.int32()), chunk.is_null()
        if values is None:
            raise RememError(f"{where}, row {first}: column '{name}' holds {column.type}, no pictures")
        if mask.true_count:
            chunks.append(
                pa.array(
                    [
                        None if gone else values.slice(start, end - start).to_pylist()
                        for gone, start, end in zip(
                            mask.to_pylist(), offsets.to_pylist(), offsets.to_pylist()[1:]
                        )
                    ],
                    pa.list_(_CELL),
                )
            )
        else:
            chunks.append(pa.ListArray.from_arrays(offsets, values))
    return pa.chunked_array(chunks, pa.list_(_CELL))


def _arrow(name: str, kind: object) -> pa.DataType:
    return datasets.Features({name: kind}).arrow_schema.field(name).type


def pictures_there(column: pa.ChunkedArray) -> list[bool]:
    """Whether each cell of a column of pictures holds one (its bytes are not read)."""
    there: list[bool] = []
    for chunk in column.chunks:
        valid = pc.and_(
            chunk.is_valid(), pc.or_(chunk.field("bytes").is_valid(), chunk.field("path").is_valid())
        )
        there += valid.to_pylist()
    return there


def nested_column(
    column: pa.ChunkedArray, name: str, kind: object, where: str, first: int = 0
) -> pa.ChunkedArray:
    """A column of records and lists of records; texts are read as JSON, or as Python writes them.

    Raises:
        RememError: names the row of the first cell that is no such record.
    """
    wanted = _arrow(name, kind)
    if column.type == wanted:
        return column
    found = []
    for index, cell in enumerate(column.to_pylist()):
        try:
            found.append(pa.scalar(_in_texts(_read(cell), wanted), wanted))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, pa.ArrowException) as error:
            raise RememError(
                f"{where}, row {first + index}: column '{name}' holds nothing of the form {kind_in_words(wanted)} "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            ) from None
    return pa.chunked_array([pa.array([one.as_py() for one in found], wanted)])


def _read(cell: object) -> object:
    """What a cell says that may be written as text: JSON (in UTF-8 bytes too, or as a JSON text in JSON), or Python."""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8")
    if not isinstance(cell, str):
        return cell
    if not visible(cell):
        raise ValueError("it is an empty text")
    try:
        said = json.loads(cell)
    except (ValueError, RecursionError):
        said = ast.literal_eval(cell.strip())
    return json.loads(said) if isinstance(said, str) else said


def _in_texts(value: object, wanted: pa.DataType) -> object:
    """The value with whole numbers as texts where texts are wanted, and without names that are not.

    Names of a record may be in other capitals. Where a list of records is wanted, one record is a list of one, and a
    record of lists as long as one another is the list of their entries.
    """
    if value is None:
        return None
    if pa.types.is_string(wanted):
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise TypeError(f"{value!r} where a text belongs")
        return value
    value = _read(value) if isinstance(value, str | bytes) else value
    if pa.types.is_struct(wanted):
        if not isinstance(value, Mapping):
            raise TypeError(f"{value!r} where a record belongs"[:80])
        fields = [wanted.field(index) for index in range(wanted.num_fields)]
        folded = {str(name).casefold(): cell for name, cell in value.items()}
        cells = {field.name: value.get(field.name, folded.get(field.name.casefold())) for field in fields}
        return {field.name: _in_texts(cells[field.name], field.type) for field in fields}
    if isinstance(value, Mapping) and pa.types.is_struct(wanted.value_type):
        lengths = {len(cell) if isinstance(cell, list | tuple) else -1 for cell in value.values()}
        of_lists = len(lengths) == 1 and -1 not in lengths
        value = [dict(zip(value, cells)) for cells in zip(*value.values())] if of_lists else [value]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{value!r} where a list belongs"[:80])
    return [_in_texts(one, wanted.value_type) for one in value]


def kind_in_words(kind: pa.DataType) -> str:
    """`[{Question, Answer}]` of a list of records."""
    if pa.types.is_list(kind):
        return f"[{kind_in_words(kind.value_type)}]"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(kind.field(index).name for index in range(kind.num_fields)) + "}"
    return "text"


def read_tables(
    files: Sequence[str],
    wanted: Mapping[str, object],
    where: str,
    open_file: Callable,
    check: Callable[[Sequence[str]], None],
    others: bool = False,
    root: str | None = None,
) -> pa.Table:
    """The wanted columns of parquet files, read into memory, see `in_columns`; with `others` the rest too.

    Columns that are not wanted are kept where they have one type in all files, but for pictures.

    Args:
        open_file: a file's name to the opened file.
        check: is given the column names of each file.
        others: keep columns that are not wanted.
        root: see `in_columns`.

    Raises:
        RememError: a cell that cannot be read.
        OSError, pyarrow.ArrowException: a file that cannot.
    """
    tables, first = [], 0
    for file in files:
        with open_file(file) as opened:
            parquet = pq.ParquetFile(opened, pre_buffer=True)
            names = parquet.schema_arrow.names
            check(names)
            table = parquet.read([name for name in names if name in wanted or (others and name != "image")])
        rest = table.select([name for name in table.column_names if name not in wanted])
        table = in_columns(
            as_written(table, features_of(parquet.schema_arrow), where, first), wanted, where, first, root
        )
        for name in rest.column_names:
            table = table.append_column(rest.schema.field(name), rest.column(name))
        tables.append(table)
        first += len(table)
    kept = [
        field.name
        for field in tables[0].schema
        if all(
            field.name in table.column_names and table.schema.field(field.name).type == field.type
            for table in tables
        )
    ]
    return pa.concat_tables([table.select(kept) for table in tables])


def read_parquet(source: str, split: str, files: list[str]) -> datasets.Dataset:
    """All columns of a split's files, mapped from disk, fetched where they are on the Hub.

    Raises:
        RememError: a file that cannot be had or read.
    """
    try:
        # Naming the files of one split keeps `datasets` from preparing all of them.
        paths = hub.fetch(files) if hub.ADDRESS.fullmatch(files[0]) else files
        return datasets.load_dataset("parquet", data_files={split: paths}, split=split)
    except Exception as error:
        raise unreadable(source, split, files[0], error) from error


def unreadable(source: str, split: str, file: str, error: Exception) -> RememError:
    """The error of a file that cannot be had or read."""
    detail = hub.reason(error) if hub.ADDRESS.fullmatch(file) else first_line(error)
    return RememError(f"{source}, split '{split}': {detail}")


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read_mapped(
    source: str, split: str, files: list[str], wanted: Mapping[str, object], where: str
) -> datasets.Dataset:
    """The wanted columns of a split's files; pictures stay on disk where they are stored as usual.

    Raises:
        RememError: a file that cannot be had or read, a cell that cannot be read.
    """
    groups = [files]
    if len(files) > 1:
        try:
            paths = hub.fetch(files) if hub.ADDRESS.fullmatch(files[0]) else files
            schemas = [pq.read_schema(path) for path in paths]
        except Exception as error:
            raise unreadable(source, split, files[0], error) from error
        if not all(schema.equals(schemas[0]) for schema in schemas):
            groups = [[file] for file in files]
    parts, first, root = [], 0, source if Path(source).is_dir() else None
    for group in groups:
        rows = read_parquet(source, split, group)
        parts.append(with_columns(rows, wanted, where, first, root))
        first += len(rows)
    kept = [
        name
        for name, kind in parts[0].features.items()
        if all(part.features.get(name) == kind for part in parts)
    ]
    parts = [part.select_columns(kept) for part in parts]
    return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def _some_paths_alone(column: pa.ChunkedArray) -> bool:
    """Whether a column of pictures, or of lists of them, has a path without bytes."""
    chunks = [chunk.flatten() if _is_list(chunk.type) else chunk for chunk in column.chunks]
    return any(pc.any(_paths_alone(chunk)).as_py() for chunk in chunks)


def with_columns(
    rows: datasets.Dataset,
    wanted: Mapping[str, object],
    where: str,
    first: int = 0,
    root: str | None = None,
) -> datasets.Dataset:
    """A data set whose wanted columns have the types that are wanted, see `in_columns`; the others stay."""
    rest = [name for name in rows.column_names if name not in wanted and name != "image"]
    names = [name for name in wanted if name in rows.column_names]
    usual = [name for name in names if rows.data.schema.field(name).type in (_CELL, pa.list_(_CELL))]
    usual = [name for name in usual if rows.data.schema.field(name).type == _arrow(name, wanted[name])]
    if root is not None:  # paths are made to lead to the files
        usual = [name for name in usual if not _some_paths_alone(rows.data.column(name))]
    others = {name: wanted[name] for name in names if name not in usual}
    if rows._indices is not None:  # chosen rows of a saved data set
        rows = rows.flatten_indices()
    table = as_written(rows.data.table.select(list(others)), rows.features, where, first)
    made = datasets.Dataset(
        InMemoryTable(in_columns(table, others, where, first, root)),
        info=datasets.DatasetInfo(features=as_features(others, names)),
    )
    if not usual and not rest:
        return made
    pictures = rows.select_columns([*usual, *rest])
    for name in usual:
        pictures = pictures.cast_column(name, wanted[name])
    return datasets.concatenate_datasets([pictures, made], axis=1)


def features_of(schema: pa.Schema) -> datasets.Features | None:
    """The features that `datasets` noted in a file; None for files of others, or where they cannot be read."""
    try:
        return datasets.Features.from_arrow_schema(schema)
    except Exception:
        return None


def as_features(wanted: Mapping[str, object], names: Sequence[str]) -> datasets.Features:
    """The features of those columns that are there."""
    return datasets.Features({name: kind for name, kind in wanted.items() if name in names})
