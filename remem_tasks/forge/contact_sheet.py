"""A contact sheet: one row per person, training pictures and then test pictures, for a person to look at."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from PIL import Image, ImageDraw, ImageFont, ImageOps

from remem_tasks.benchmarks.remem import data as load

SHOWN = 20  # people
TRAIN, TEST = 6, 3  # pictures of each
SIDE, GAP, LINE = 96, 12, 18  # pixels


@dataclass(frozen=True)
class Strip:
    """One row of the sheet: a name, and the bytes of training and of test pictures."""

    name: str
    train: list[bytes]
    test: list[bytes]


def contact_sheet(strips: Iterable[Strip], people: int) -> Image.Image:
    """The sheet of the first 20 of `people` strips."""
    shown = min(people, SHOWN)
    width = (TRAIN + TEST) * SIDE + GAP
    sheet = Image.new("RGB", (width, shown * (SIDE + LINE)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row, strip in enumerate(islice(strips, shown)):
        top = row * (SIDE + LINE)
        for pictures, count, left in ((strip.train, TRAIN, 0), (strip.test, TEST, TRAIN * SIDE + GAP)):
            for column, content in enumerate(pictures[:count]):
                with Image.open(io.BytesIO(content)) as picture:
                    small = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE))
                sheet.paste(small, (left + column * SIDE, top))
        draw.text((4, top + SIDE + 1), strip.name, fill="black", font=font)
        draw.text(
            (TRAIN * SIDE + GAP + 4, top + SIDE + 1), "unseen contexts (test)", fill="dimgray", font=font
        )
    return sheet


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
