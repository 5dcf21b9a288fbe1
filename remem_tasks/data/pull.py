"""`remem data pull`: chosen splits of a data set in a folder of their own, to be used offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from remem_tasks.data import load
from remem_tasks.data.schema import COLUMNS
from remem_tasks.errors import RememError


def _card(splits: Sequence[str]) -> str:
    files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"


def pull(source: str | None, splits: Sequence[str], out: str | Path) -> dict[str, int]:
    """Write splits as parquet files to folder `out`, in the layout of the Hub.

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
    there = sorted(file.name.split("-")[0] for file in out.glob("data/*-00000-of-00001.parquet"))
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not there)):
        raise RememError(f"output folder '{out}' is not empty and holds no pulled splits")
    known = load.available_splits(source)
    if unknown := [split for split in splits if split not in known]:
        raise RememError(f"{source} has no split '{unknown[0]}'; it has {', '.join(known)}")
    written = {}
    for split in splits or known:
        if split in there:
            continue
        rows = load.load_split(source, split).select_columns(list(COLUMNS))
        (out / "data").mkdir(parents=True, exist_ok=True)
        target = out / "data" / f"{split}-00000-of-00001.parquet"
        # Back to the published feature type: pictures that any reader decodes.
        load.with_decoded_images(rows).to_parquet(target.with_suffix(".tmp"))
        target.with_suffix(".tmp").rename(target)
        there.append(split)
        (out / "README.md").write_text(_card(sorted(there)))
        written[split] = len(rows)
    return written
