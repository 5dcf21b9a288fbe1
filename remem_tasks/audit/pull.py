"""`remem data pull`: chosen splits of a data set in a folder of their own, to be used offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets

from remem_tasks.benchmarks.remem import data as load
from remem_tasks.benchmarks.remem.perturbed import CONFIG as PERTURBED
from remem_tasks.benchmarks.remem.perturbed import FEATURES as PERTURBED_FEATURES
from remem_tasks.benchmarks.remem.perturbed import load_perturbed, perturbed_files
from remem_tasks.benchmarks.remem.schema import COLUMNS
from remem_tasks.data.card import by_split, card
from remem_tasks.errors import RememError
from remem_tasks.files import locked, replaced, write_whole

FOLDERS = {"default": "data", PERTURBED: PERTURBED}  # of each config's files


def file_of(config: str, split: str) -> str:
    """Where a split's rows lie in a data set's folder, as on the Hub."""
    return f"{FOLDERS[config]}/{split}-00000-of-00001.parquet"


def _there(out: Path) -> dict[str, list[str]]:
    """The splits of each config that a folder holds."""
    found = {
        config: sorted(file.name.split("-")[0] for file in out.glob(f"{folder}/*-00000-of-00001.parquet"))
        for config, folder in FOLDERS.items()
    }
    return {config: names for config, names in found.items() if names}


def _write(rows: datasets.Dataset, target: Path) -> None:
    with replaced(target) as file:
        rows.to_parquet(file)


@locked
def pull(source: str | None, splits: Sequence[str], out: str | Path) -> dict[str, int]:
    """Write splits as parquet files to folder `out`, in the layout of the Hub, with what stands beside them.

    A folder that an earlier pull made is added to; a split that is there already is left as it is.

    Args:
        source: folder or Hub id, as in `load_split`; only the files of the chosen splits are fetched.
        splits: names; all of them if empty.

    Returns:
        Rows of each split that was written.

    Raises:
        RememError: no such data or split, or `out` holds something else.
    """
    source, out = load.resolve_source(source), Path(out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _there(out))):
        raise RememError(f"output folder '{out}' is not empty and holds no pulled splits")
    known = load.available_splits(source)
    if unknown := [split for split in splits if split not in known]:
        raise RememError(f"{source} has no split '{unknown[0]}'; it has {', '.join(known)}")
    beside, written = perturbed_files(source), {}
    for split in splits or known:
        if split in _there(out).get("default", []):
            continue
        if split in beside:
            extra = load_perturbed(source, split).select_columns(list(PERTURBED_FEATURES))
            _write(extra, out / file_of(PERTURBED, split))
        rows = load.load_split(source, split).select_columns(list(COLUMNS))
        # Back to the published feature type: pictures that any reader decodes.
        _write(load.with_decoded_images(rows), out / file_of("default", split))
        write_whole(out / "README.md", card(by_split(FOLDERS, _there(out))))
        written[split] = len(rows)
    return written
