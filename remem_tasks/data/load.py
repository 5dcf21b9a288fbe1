"""Rows from the Hub or from a folder, one split at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import datasets

from remem_tasks.data.identity import identity_of
from remem_tasks.data.schema import TEXT_COLUMNS, check_columns, check_text, parse_hop
from remem_tasks.errors import RememError

HUB_ID = "herbwood27/Remem"
ENV = "REMEM_DATA"


def resolve_source(source: str | None = None, default: str = HUB_ID) -> str:
    """Where rows come from: the argument, else `$REMEM_DATA`, else the Hub id."""
    return str(source or os.environ.get(ENV) or default)


def _unreachable(source: str, error: Exception) -> RememError:
    detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return RememError(
        f"data '{source}' is no folder here and could not be fetched from the Hub ({detail}). "
        f"Either set {ENV}=<folder> (one made by `remem forge`, or a saved copy), "
        f"or set {ENV}=<Hub id> (default {HUB_ID}) on a machine that reaches the Hub"
    )


def data_files(source: str, config: str | None = None) -> dict[str, list[str]]:
    """The parquet files of each split, without reading or fetching any of them.

    Args:
        config: of the data set; None for its default.

    Raises:
        RememError: neither a folder with data nor a Hub id that can be reached.
    """
    try:
        files = datasets.load_dataset_builder(source, config).config.data_files
    except Exception as error:
        if Path(source).is_dir():
            raise RememError(f"folder '{source}' holds no data set: {str(error).splitlines()[0]}") from error
        raise _unreachable(source, error) from error
    return {str(split): [str(file) for file in paths] for split, paths in (files or {}).items()}


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


def read_split(source: str, split: str, files: list[str] | None) -> datasets.Dataset:
    """The rows of a split as they are, from its parquet files or (None) from where `datasets` saved it."""
    if files is None:
        return datasets.load_from_disk(str(Path(source) / split))
    try:
        # Naming the files of one split keeps `datasets` from preparing all of them.
        return datasets.load_dataset("parquet", data_files={split: files}, split=split)
    except Exception as error:
        raise RememError(f"{source}, split '{split}': {str(error).splitlines()[0]}") from error


def load_split(source: str | None, split: str, identity_rule: str | None = None) -> datasets.Dataset:
    """One split, checked, with `row_id`, `identity` and `hop` added.

    Args:
        source: folder or Hub id; default `$REMEM_DATA`, else the published set.
        split: such as `forget1`.
        identity_rule: see `identity_of`.

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
    rows = read_split(source, split, splits[split])
    check_columns(rows.column_names, source, split)
    text = {name: rows[name][:] for name in TEXT_COLUMNS}
    check_text(text, split)
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
