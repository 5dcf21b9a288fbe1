"""A contact sheet: one row per person, training pictures and then test pictures, for a person to look at."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from PIL import Image, ImageDraw, ImageFont, ImageOps

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
