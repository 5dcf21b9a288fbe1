"""Rows from the Hub or from a folder, one split at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from remem_tasks.benchmarks.remem.identity import identity_of
from remem_tasks.benchmarks.remem.schema import TEXT_COLUMNS, check_columns, check_text, parse_hop
from remem_tasks.data import hub
from remem_tasks.data.home import Home
from remem_tasks.errors import RememError

HUB_ID = "herbwood27/Remem"
ENV = "REMEM_DATA"
HOME = Home("ReMem", HUB_ID, ENV, ("default", "perturbed"))
FINETUNE = "finetune"  # what a model memorises


def resolve_source(source: str | None = None, default: str = HUB_ID) -> str:
    """Where rows come from: the argument, else `$REMEM_DATA`, else the Hub id."""
    return str(source or os.environ.get(ENV) or default)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _unreadable(source: str, split: str, file: str, error: Exception) -> RememError:
    detail = hub.reason(error) if hub.ADDRESS.fullmatch(file) else _first_line(error)
    return RememError(f"{source}, split '{split}': {detail}")


def _unreachable(source: str, error: Exception) -> RememError:
    return RememError(
        f"data '{source}' is no folder here and could not be fetched from the Hub ({hub.reason(error)}). "
        f"Either set {ENV}=<folder> (one made by `remem forge`, or a saved copy), "
        f"or set {ENV}=<Hub id> (default {HUB_ID}) on a machine that reaches the Hub"
    )


def data_files(source: str, config: str | None = None) -> dict[str, list[str]]:
    """The parquet files of each split: paths, or addresses on the Hub; none is read or fetched.

    Args:
        config: of the data set; None for its default. Of one that it lacks there are no files.

    Raises:
        RememError: neither a folder with data nor a Hub id that can be reached or is in the cache.
    """
    if not Path(source).is_dir():
        try:
            return hub.data_files(source, config)
        except RememError:
            raise
        except Exception as error:
            raise _unreachable(source, error) from error
    try:
        return hub.split_files(source, config)
    except Exception as error:
        raise RememError(f"folder '{source}' holds no data set: {_first_line(error)}") from error


def _splits(source: str) -> dict[str, list[str] | None]:
    """The files of each split; None where `datasets` saved the split itself (`save_to_disk`)."""
    path = Path(source)
    if path.is_file() or (path.is_dir() and not any(path.iterdir())):
        raise RememError(f"'{source}' is {'a file' if path.is_file() else 'an empty folder'}, not a data set")
    if (path / "dataset_dict.json").is_file():
        return {child.name: None for child in path.iterdir() if (child / "state.json").is_file()}
    return data_files(source)


def available_splits(source: str) -> list[str]:
    """The names of the splits in a saved folder, a folder of parquet files, or a Hub id."""
    return sorted(_splits(source))


def read_parquet(source: str, split: str, files: list[str]) -> datasets.Dataset:
    """All columns of a split's files, fetched where they are on the Hub.

    Raises:
        RememError: a file that cannot be had or read.
    """
    try:
        # Naming the files of one split keeps `datasets` from preparing all of them.
        paths = hub.fetch(files) if hub.ADDRESS.fullmatch(files[0]) else files
        return datasets.load_dataset("parquet", data_files={split: paths}, split=split)
    except Exception as error:
        raise _unreadable(source, split, files[0], error) from error


def _read(source: str, split: str, files: list[str] | None, pictures: bool) -> datasets.Dataset:
    if files is None:
        rows = datasets.load_from_disk(str(Path(source) / split))
        check_columns(rows.column_names, source, split)
        return rows if pictures else rows.remove_columns("image")
    if not files:
        raise RememError(f"{source}, split '{split}': the card names it, but none of its files are there")
    if not pictures:
        return _read_text(source, split, files)
    rows = read_parquet(source, split, files)
    check_columns(rows.column_names, source, split)
    return rows


def _read_text(source: str, split: str, files: list[str]) -> datasets.Dataset:
    """The columns of parquet files but `image`, whose bytes are not read."""
    tables = []
    for file in files:
        try:
            with hub.open_file(file) as opened:
                parquet = pq.ParquetFile(opened, pre_buffer=True)
                names = parquet.schema_arrow.names
                check_columns(names, source, split)
                tables.append(parquet.read([name for name in names if name != "image"]))
        except RememError:
            raise
        except Exception as error:
            raise _unreadable(source, split, file, error) from error
    # The metadata names the features of the whole file.
    return datasets.Dataset(pa.concat_tables(tables).replace_schema_metadata(None))


def load_split(
    source: str | None, split: str, identity_rule: str | None = None, pictures: bool = True
) -> datasets.Dataset:
    """One split, checked, with `row_id`, `identity` and `hop` added.

    Args:
        source: folder or Hub id; default `$REMEM_DATA`, else the published set.
        split: such as `forget1`.
        identity_rule: see `identity_of`.
        pictures: False leaves column `image` out; none of its bytes are read, nor fetched from the Hub.

    Returns:
        N rows with the nine published columns (`image` undecoded: see `schema.decode_image`) and
        `row_id` (`<split>:<index>`), `identity` (str), `hop` (int, 0 if the row names none).

    Raises:
        RememError: no such data, split or column, or a row without question, answer or keywords.
    """
    source = resolve_source(source)
    splits = _splits(source)
    if split not in splits:
        raise RememError(f"{source} has no split '{split}'; it has {', '.join(sorted(splits)) or 'none'}")
    rows = _read(source, split, splits[split], pictures)
    text = {name: rows[name][:] for name in TEXT_COLUMNS}
    check_text(text, split)
    if pictures:
        rows = rows.cast_column("image", datasets.Image(decode=False))
    extra = {
        "row_id": [f"{split}:{index}" for index in range(len(rows))],
        "identity": [identity_of(path, identity_rule) for path in text["image_path"]],
        "hop": [parse_hop(kind) for kind in text["question_type"]],
    }
    for name, values in extra.items():
        if name in rows.column_names:
            rows = rows.remove_columns(name)
        rows = rows.add_column(name, values)
    return rows


def with_decoded_images(rows: datasets.Dataset) -> datasets.Dataset:
    """The rows with `image` as the plain Image column of the published set."""
    return rows.cast_column("image", datasets.Image())


def row_name(row: dict) -> str:
    """How messages call a row: `split 'forget1', row 3 (images/mara_quill/0007.png)`."""
    split, _, index = str(row.get("row_id", "?:?")).partition(":")
    return f"split '{split}', row {index} ({row.get('image_path', 'no path')})"


def fingerprint(*tables: datasets.Dataset) -> str:
    """16 hex digits that change when any text cell of the tables does."""
    digest = hashlib.sha256()
    for table in tables:
        for name in TEXT_COLUMNS:
            for cell in table[name][:]:
                digest.update(str(cell).encode())
                digest.update(b"\0")
    return digest.hexdigest()[:16]


def retain_rows(finetune: datasets.Dataset, forget: datasets.Dataset) -> datasets.Dataset:
    """The training retain set: finetune rows of identities that are not in the forget set.

    Raises:
        RememError: nothing is left to retain.
    """
    forgotten = set(forget["identity"][:])
    kept = [index for index, identity in enumerate(finetune["identity"][:]) if identity not in forgotten]
    if not kept:
        raise RememError(
            f"the forget set leaves no retain set: it covers all {len(forgotten)} identities of finetune"
        )
    return finetune.select(kept)


def check_nested(forget_sets: Sequence[datasets.Dataset]) -> None:
    """Raise a RememError unless each forget set's identities are among the next one's."""
    names = [set(rows["identity"][:]) for rows in forget_sets]
    for smaller, larger in zip(names, names[1:]):
        if not smaller <= larger:
            raise RememError(
                f"forget sets are not nested: {', '.join(sorted(smaller - larger))} left out of the next one"
            )


def retain_of(forget: str) -> str:
    """The split that asks about those who are kept, whoever is forgotten."""
    return "retain"


def scored_as(forget: str) -> tuple[str, ...]:
    """The splits that ask about the people of a forget set, in the questions of training."""
    return (forget,)
