"""The card of a data set: README.md with metadata that the Hub and `datasets` read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)
"""The Hub's sizes: what is below each bound, and how it is called."""
DRAWN = {"license": "mit"}  # everything is made by this package
MADE: dict[str, object] = {**DRAWN, "language": ["en"], "tags": ["machine-unlearning", "synthetic"]}
PHOTOGRAPHS = {"license": "other", "license_name": "own-photographs"}


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows.

    >>> size_category(999), size_category(1000), size_category(10**12)
    ('n<1K', '1K<n<10K', 'n>1T')
    """
    return next((word for bound, word in SIZES if rows < bound), "n>1T")


def card(
    configs: Mapping[str, Mapping[str, str]], text: str = "", rows: int | None = None, **more: object
) -> str:
    """README.md of a data set.

    Args:
        configs: config → split → the path of its files, as a pattern; none of data that are read by their files' names.
        text: below the metadata.
        rows: of the data set as a whole.
        more: further metadata, such as `license` and `tags`.
    """
    listed = [
        {
            "config_name": config,
            **({"default": True} if config == "default" and len(configs) > 1 else {}),
            "data_files": [{"split": split, "path": path} for split, path in splits.items()],
        }
        for config, splits in configs.items()
    ]
    head: dict[str, object] = {**({"configs": listed} if listed else {}), **more}
    if rows is not None:
        head["size_categories"] = [size_category(rows)]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n{text}"


def by_split(folders: Mapping[str, str], splits: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """The `configs` of `card` for files `<folder>/<split>-00000-of-00001.parquet`.

    Args:
        folders: config → folder.
        splits: config → its splits.
    """
    return {
        config: {name: f"{folders[config]}/{name}-*" for name in names} for config, names in splits.items()
    }
