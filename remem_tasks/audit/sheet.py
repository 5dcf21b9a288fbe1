"""`remem data sheet`: the contact sheet of any data set in ReMem's shape."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from remem_tasks.benchmarks.remem import data as load
from remem_tasks.forge.contact_sheet import SHOWN, TEST, TRAIN, Strip, contact_sheet


def _pictures(source: str, split: str) -> dict[str, list[bytes]]:
    """The first pictures of each identity of a split."""
    found: dict[str, dict[bytes, None]] = {}
    if split not in load.available_splits(source):
        return {}
    rows = load.load_split(source, split)
    order: dict[str, list[int]] = {}
    for index, identity in enumerate(rows["identity"][:]):
        order.setdefault(identity, []).append(index)
    for identity in list(order)[:SHOWN]:
        kept = found.setdefault(identity, {})
        for row in rows.select(order[identity]).select_columns(["image"]):
            content = (row["image"] or {}).get("bytes")
            if content:
                kept[content] = None
            if len(kept) == max(TRAIN, TEST):
                break
    return {identity: list(kept) for identity, kept in found.items()}


def sheet_of(source: str | None) -> Image.Image:
    """The contact sheet of any data set: `finetune` and `test` pictures by identity.

    Raises:
        RememError: no data set there.
    """
    source = load.resolve_source(source)
    train, test = _pictures(source, "finetune"), _pictures(source, "test")
    names = list(dict.fromkeys([*train, *test]))

    def strips() -> Iterator[Strip]:
        for name in names:
            yield Strip(name, train.get(name, []), test.get(name, []))

    return contact_sheet(strips(), len(names))
