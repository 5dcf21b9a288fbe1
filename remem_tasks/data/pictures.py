"""A cell that holds a picture, as the RGB picture that a person who opens the file would see."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image, ImageFile, ImageOps

from remem_tasks.errors import RememError

TURNED = (5, 6, 7, 8)  # values of the EXIF tag by which width and height change places
BACKGROUND = (255, 255, 255)  # behind what is transparent
LONGEST_REASON = 200  # characters of what an error says (a picture as text would be all of it)
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # modes of more than 8 bits a channel


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture in 8-bit RGB: turned upright by its EXIF tag, put on white where it is transparent.

    Grey levels of 16 bits are scaled from 0 … 65535. Numbers of 32 bits are taken as 0 … 255 if none is
    larger, else as 0 … 65535; fractions as 0 … 1 if none is larger, else as 0 … 255. (Pillow's own
    conversion cuts all of these off at 255, and drops transparency, which shows what was hidden.) Of
    several frames the first one counts.

    Raises:
        ValueError: numbers in none of these ranges, or NaN.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in DEEP:
        picture = _grey(picture)
    if picture.has_transparency_data:
        drawn = picture.convert("RGBA")
        ground = Image.new("RGBA", drawn.size, (*BACKGROUND, 255))
        return Image.alpha_composite(ground, drawn).convert("RGB")
    return picture.convert("RGB")


def _grey(picture: Image.Image) -> Image.Image:
    """More than 8 bits a pixel as 8 bits."""
    values = np.asarray(picture).astype(np.float64)
    low, high = values.min(), values.max()
    if np.isnan(low) or low < 0:
        raise ValueError(f"grey levels from {low:g}")
    if picture.mode.startswith("I;16"):
        full = 65535.0
    elif picture.mode == "F":
        full = 1.0 if high <= 1 else 255.0
    else:
        full = 255.0 if high <= 255 else 65535.0
    if high > full:
        raise ValueError(f"grey levels up to {high:g}, where {full:g} is white")
    return Image.fromarray(np.rint(values * (255 / full)).astype(np.uint8))


def _open(cell: Mapping) -> Image.Image:
    return Image.open(io.BytesIO(cell["bytes"]) if cell.get("bytes") else cell["path"])


def size_of(cell: Image.Image | Mapping, row_name: str) -> tuple[int, int]:
    """(width, height) in pixels of a picture as it is shown, by the head of its file alone.

    Raises:
        RememError: there is no picture, or its bytes cannot be read.
    """
    if isinstance(cell, Image.Image):
        return to_rgb(cell).size
    try:
        with _open(cell) as picture:
            width, height = picture.size
            return (height, width) if picture.getexif().get(0x0112) in TURNED else (width, height)
    except Exception:
        return decode_image(cell, row_name).size


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """A damaged picture is a fault (lmms-eval tells PIL to fill up truncated files in grey)."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def check_image(cell: Mapping, row_name: str) -> None:
    """As `decode_image`, but a PNG by its checksums alone, and a JPEG at an eighth of its size.

    Raises:
        RememError: there is no picture, or its bytes cannot be read.
    """
    try:
        with _strictly(), _open(cell) as picture:
            sound = picture.mode not in DEEP
            if sound and picture.format == "PNG":
                picture.verify()
            elif sound and picture.format == "JPEG":
                picture.draft(picture.mode, (1, 1))
                picture.load()
            else:
                sound = False
    except Exception:
        sound = False
    if not sound:
        decode_image(cell, row_name)  # the judge: raises with the name of the row, unless it can be read


def decode_image(cell: Image.Image | Mapping, row_name: str) -> Image.Image:
    """A row's picture in RGB, see `to_rgb`.

    Args:
        cell: what a `datasets` Image column holds: a PIL image, or `{"bytes": …, "path": …}`.
        row_name: how the error message calls the row.

    Raises:
        RememError: there is no picture, or its bytes cannot be read.
    """
    try:
        if isinstance(cell, Image.Image):
            return to_rgb(cell)
        if cell is None:
            raise RememError(f"{row_name}: column 'image' is null")
        if not isinstance(cell, Mapping):
            raise RememError(f"{row_name}: column 'image' holds {kind_of(cell)}, no picture")
        if not (cell.get("bytes") or cell.get("path")):
            raise RememError(f"{row_name}: column 'image' has neither bytes nor a path")
        with _strictly(), _open(cell) as picture:
            return to_rgb(picture)
    except RememError:
        raise
    except Exception as error:
        reason = re.sub(r"<_io\.BytesIO[^>]*>", "its bytes", str(error)) or type(error).__name__
        reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        raise RememError(f"{row_name}: column 'image' cannot be read ({reason})") from error


def kind_of(value: object) -> str:
    """What a cell holds, in words: `a list of 2`, `a number (7)`, `a text`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "an infinite number"
    if isinstance(value, int | float):
        shown = str(value) if abs(value) < 1e15 else "a large one"
        return f"a number ({shown})"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, Mapping):
        return "a record"
    if isinstance(value, list | tuple | np.ndarray):
        return f"a list of {len(value)}"
    return f"a value of type {type(value).__name__}"
