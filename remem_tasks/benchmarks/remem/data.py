"""Rows from the Hub or from a folder, one split at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import datasets

from remem_tasks.benchmarks.forget_sets import ForgetSets
from remem_tasks.benchmarks.remem.identity import identity_of
from remem_tasks.benchmarks.remem.schema import FEATURES, TEXTS, cell_faults, check_columns, parse_hop
from remem_tasks.data import hub
from remem_tasks.data.faults import row_name
from remem_tasks.data.home import DatasetSource
from remem_tasks.data.people import check_known
from remem_tasks.data.report import DataReport
from remem_tasks.data.rows import TEXT_COLUMNS
from remem_tasks.data.tables import (
    first_line,
    pictures_there,
    read_mapped,
    read_tables,
    unreadable,
    with_columns,
)
from remem_tasks.errors import RememError

HUB_ID = "herbwood27/Remem"
ENV = "REMEM_DATA"
HOME = DatasetSource("ReMem", HUB_ID, ENV, ("default", "perturbed"), {"default": FEATURES})
FINETUNE = "finetune"  # what a model memorises


def resolve_source(source: str | None = None, default: str = HUB_ID) -> str:
    """Where rows come from: the argument, else `$REMEM_DATA`, else the Hub id."""
    return str(source or os.environ.get(ENV) or default)


def _unreachable(source: str, error: Exception) -> RememError:
    return RememError(
        f"data '{source}' is not a folder here and could not be fetched from the Hub ({hub.reason(error)}). "
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
        raise RememError(f"folder '{source}' holds no data set: {first_line(error)}") from error


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


def _read(source: str, split: str, files: list[str] | None, pictures: bool) -> datasets.Dataset:
    where, wanted = f"split '{split}'", FEATURES if pictures else TEXTS
    if files is None:
        rows = datasets.load_from_disk(str(Path(source) / split))
        check_columns(rows.column_names, source, split)
        return with_columns(rows, wanted, where, root=source)
    if not files:
        raise RememError(f"{source}, split '{split}': the card names it, but none of its files are there")
    if pictures:
        rows = read_mapped(source, split, files, wanted, where)
        check_columns(rows.column_names, source, split)
        return rows
    check = partial(check_columns, source=source, split=split)
    try:
        return datasets.Dataset(read_tables(files, wanted, where, hub.open_file, check, others=True))
    except RememError:
        raise
    except Exception as error:
        raise unreadable(source, split, files[0], error) from error


def read_split(source: str, split: str, pictures: bool = True) -> datasets.Dataset:
    """The published columns of a split as texts and pictures, whatever their cells hold.

    Raises:
        RememError: no such data, split or column, or a column that holds neither texts nor pictures.
    """
    splits = _splits(source)
    if split not in splits:
        raise RememError(f"{source} has no split '{split}'; it has {', '.join(sorted(splits)) or 'none'}")
    return _read(source, split, splits[split], pictures)


def cell_faults_of(rows: datasets.Dataset, split: str) -> list[str]:
    """The cells of a split that no row can do without and that hold nothing; also pictures that are not there."""
    faults = list(cell_faults({name: rows[name][:] for name in TEXT_COLUMNS}, split))
    if "image" in rows.column_names:
        faults += [
            f"split '{split}', row {index}: column 'image' is null"
            for index, there in enumerate(pictures_there(rows.data.column("image")))
            if not there
        ]
    return faults


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
        N rows with the nine published columns (`image` undecoded: see `pictures.decode_image`) and
        `row_id` (`<split>:<index>`), `identity` (a key of `people.identity_key`), `hop` (int, 0 if the row
        names none).

    Raises:
        RememError: no such data, split or column, or a row without question, answer, keywords or picture.
    """
    rows = read_split(resolve_source(source), split, pictures)
    if faults := cell_faults_of(rows, split):
        more = f" (and {len(faults) - 1} more: remem data check)" if len(faults) > 1 else ""
        raise RememError(faults[0] + more)
    extra = {
        "row_id": [f"{split}:{index}" for index in range(len(rows))],
        "identity": [identity_of(path, identity_rule) for path in rows["image_path"][:]],
        "hop": [parse_hop(kind) for kind in rows["question_type"][:]],
    }
    for name, values in extra.items():
        if name in rows.column_names:
            rows = rows.remove_columns(name)
        rows = rows.add_column(name, values)
    return rows


def with_decoded_images(rows: datasets.Dataset) -> datasets.Dataset:
    """The rows with `image` as the plain Image column of the published set."""
    return rows.cast_column("image", datasets.Image())


def retain_rows(finetune: datasets.Dataset, forget: datasets.Dataset) -> datasets.Dataset:
    """The training retain set: finetune rows of identities that are not in the forget set.

    Raises:
        RememError: nothing is left to retain; somebody who is to be forgotten is not in `finetune`; a row
            of the forget set, with its picture, is there as somebody else's.
    """
    forgotten, known = set(forget["identity"][:]), finetune["identity"][:]
    split = str(forget["row_id"][0]).partition(":")[0]
    among = str(finetune["row_id"][0]).partition(":")[0]
    check_known(forgotten, set(known), f"'{split}'", f"'{among}'")
    kept = [index for index, identity in enumerate(known) if identity not in forgotten]
    if not kept:
        raise RememError(
            f"the forget set leaves no retain set: it covers all {len(forgotten)} identities of finetune"
        )
    rows = finetune.select(kept)
    check_other_names(forget, rows)
    return rows


def check_other_names(forget: datasets.Dataset, retain: datasets.Dataset) -> None:
    """Raise a RememError if a row to be forgotten is in the retain set too, as a row of somebody else.

    Told by question, answer and the bytes of the picture; where pictures were not read, nothing is.
    """

    def keys(rows: datasets.Dataset) -> list[tuple[str, str]]:
        return list(zip(rows["question"][:], rows["answer"][:]))

    def picture(rows: datasets.Dataset, index: int) -> object:
        return rows[index]["image"]["bytes"] or rows[index]["image"]["path"]

    if "image" not in forget.column_names or "image" not in retain.column_names:
        return
    places: dict[tuple[str, str], list[int]] = {}
    for index, key in enumerate(keys(retain)):
        places.setdefault(key, []).append(index)
    for index, key in enumerate(keys(forget)):
        for place in places.get(key, ()):
            if picture(forget, index) == picture(retain, place):
                raise RememError(
                    f"{row_name(forget[index])} is also {row_name(retain[place])}, there as a row of "
                    f"'{retain[place]['identity']}' and not of '{forget[index]['identity']}'"
                )


def check_nested(forget_sets: Sequence[datasets.Dataset]) -> None:
    """Raise a RememError unless each forget set's identities are among the next one's."""
    names = [set(rows["identity"][:]) for rows in forget_sets]
    for smaller, larger in zip(names, names[1:]):
        if not smaller <= larger:
            raise RememError(
                f"forget sets are not nested: {', '.join(sorted(smaller - larger))} left out of the next one"
            )


FORGET_SETS = ForgetSets("ReMem", usual="retain")  # whoever is forgotten
retain_of, scored_as = FORGET_SETS.retain_of, FORGET_SETS.scored_as


def check(source: str | None, pictures: bool = True, identity_rule: str | None = None) -> DataReport:
    """Read every split and report on it; see `check.check`."""
    from remem_tasks.benchmarks.remem.check import check as check_rows

    return check_rows(source, pictures, identity_rule)


def check_folder(folder: str) -> None:
    """Raise a RememError unless a folder loads from the Hub as it stands: a card, and rows in each split."""
    splits = available_splits(folder)
    if not Path(folder, "README.md").is_file():
        raise RememError(
            f"folder '{folder}' has no README.md that names its splits; "
            f"`remem data pull {folder} --out DIR` makes a folder that has one"
        )
    for split in splits:
        if not len(load_split(folder, split, pictures=False)):
            raise RememError(f"{folder}: split '{split}' has no rows")
