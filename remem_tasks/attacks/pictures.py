"""The question beside another picture: none, another person's, the own one blurred, cropped or recoloured, another view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
from PIL import Image, ImageFilter, ImageOps

from remem_tasks.benchmarks import visual
from remem_tasks.benchmarks.base import Benchmark
from remem_tasks.errors import RememError
from remem_tasks.seeds import row_seed

BLUR = 0.02  # radius of the blur, of the picture's longer side
CROP = 0.75  # of each side that is left, in the middle
SHIFT = 120 / 360  # of the colour wheel


def blurred(picture: Image.Image) -> Image.Image:
    """Gaussian blur, of a radius that grows with the picture."""
    return picture.convert("RGB").filter(ImageFilter.GaussianBlur(BLUR * max(picture.size)))


def cropped(picture: Image.Image) -> Image.Image:
    """The middle, brought to the size that the whole had."""
    width, height = picture.size
    left, top = round(width * (1 - CROP) / 2), round(height * (1 - CROP) / 2)
    middle = picture.convert("RGB").crop((left, top, max(left + 1, width - left), max(top + 1, height - top)))
    return middle.resize(picture.size, Image.Resampling.BICUBIC)


def recoloured(picture: Image.Image) -> Image.Image:
    """Every hue turned by a third of the wheel; a picture without colours is inverted."""
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    if saturation.getextrema()[1] == 0:
        return ImageOps.invert(picture.convert("RGB"))
    turned = hue.point([(level + round(256 * SHIFT)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blur": blurred,
    "crop": cropped,
    "colour": recoloured,
}
NAMES = ("none", "other_person", *CHANGES, "other_view")

Shown = Callable[[Mapping[str, Any]], list[Image.Image]]


def shown(
    name: str, benchmark: Benchmark, asked: datasets.Dataset, pools: Sequence[datasets.Dataset]
) -> Shown:
    """What is shown in place of a row's pictures.

    Args:
        name: of NAMES.
        asked: the rows, with pictures.
        pools: other rows with pictures, in the order in which they are drawn from.

    Raises:
        RememError: nobody else's picture, or no other picture of a person, is at hand.
    """
    if name == "none":
        return lambda doc: []
    if name in CHANGES:
        change = CHANGES[name]
        return lambda doc: [change(picture) for picture in benchmark.images(doc)]
    tables = [asked, *pools]
    places = [
        [
            {"row_id": row_id, "identity": identity, "path": path, "place": (number, place)}
            for place, (row_id, identity, path) in enumerate(
                zip(table["row_id"][:], table["identity"][:], table["image_path"][:])
            )
        ]
        for number, table in enumerate(tables)
    ]
    own, *others = places
    chosen = visual.donors_of(own, others) if name == "other_person" else other_views(own, others)

    def pictures(doc: Mapping[str, Any]) -> list[Image.Image]:
        number, place = chosen[doc["row_id"]]["place"]
        return benchmark.images(tables[number][place])

    return pictures


def other_views(rows: Sequence[Mapping], pools: Sequence[Sequence[Mapping]]) -> dict[str, Mapping]:
    """row id → a row with another picture of the same person: of the first pool that has any, else of the rows.

    Raises:
        RememError: there is no other picture of somebody.
    """
    found = {}
    for row in rows:
        for pool in (*pools, rows):
            views = [one for one in pool if one["identity"] == row["identity"] and one["path"] != row["path"]]
            if views:
                found[row["row_id"]] = views[row_seed(0, row["row_id"], "view") % len(views)]
                break
        else:
            raise RememError(f"there is no other picture of '{row['identity']}'")
    return found
