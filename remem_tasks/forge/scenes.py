"""Scenes: one picture of a person in a context (place, pose, distance, light, blur, something in the way).

Training and test draw from disjoint families of places, so a test picture shows a background that
training never showed. Nothing about the place depends on the person.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from remem_tasks.forge.faces import random_face, random_look


def _colour(rng: np.random.Generator, low: int = 30, high: int = 226) -> tuple[int, int, int]:
    return tuple(int(value) for value in rng.integers(low, high, 3))


def _gradient(rng: np.random.Generator, size: int) -> Image.Image:
    top, bottom = (np.array(_colour(rng), dtype=np.float32) for _ in range(2))
    ramp = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    column = np.broadcast_to(top + (bottom - top) * ramp, (size, size, 3))
    if rng.random() < 0.5:
        column = column.swapaxes(0, 1)
    return Image.fromarray(column.astype(np.uint8))


def studio(rng: np.random.Generator, size: int) -> Image.Image:
    """A painted backdrop."""
    return _gradient(rng, size)


def stripes(rng: np.random.Generator, size: int) -> Image.Image:
    """Wallpaper with stripes at some angle."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.2) * size
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    wave = ((x * np.cos(angle) + y * np.sin(angle)) // period).astype(int) % 2
    return Image.fromarray(np.array([_colour(rng), _colour(rng)], dtype=np.uint8)[wave])


def tiles(rng: np.random.Generator, size: int) -> Image.Image:
    """A tiled wall."""
    period = rng.uniform(0.08, 0.22) * size
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    parity = ((x // period).astype(int) + (y // period).astype(int)) % 2
    return Image.fromarray(np.array([_colour(rng), _colour(rng)], dtype=np.uint8)[parity])


def room(rng: np.random.Generator, size: int) -> Image.Image:
    """A wall and a floor with a window or a frame."""
    image = Image.new("RGB", (size, size), _colour(rng))
    draw = ImageDraw.Draw(image)
    floor = int(size * rng.uniform(0.6, 0.85))
    draw.rectangle((0, floor, size, size), fill=_colour(rng))
    for _ in range(rng.integers(1, 4)):
        x, y = (int(value) for value in rng.uniform(-0.1, 0.75, 2) * size)
        w, h = (int(value) for value in rng.uniform(0.15, 0.4, 2) * size)
        draw.rectangle(
            (x, y, x + w, y + h), fill=_colour(rng), outline=_colour(rng), width=max(1, size // 60)
        )
    return image


def park(rng: np.random.Generator, size: int) -> Image.Image:
    """Sky, hills and trees."""
    image = _gradient(rng, size)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 5)):
        x, y = rng.uniform(-0.3, 0.9) * size, rng.uniform(0.5, 0.85) * size
        w = rng.uniform(0.5, 1.1) * size
        draw.ellipse((x, y, x + w, y + size), fill=_colour(rng))
    for _ in range(rng.integers(2, 7)):
        x, y, r = rng.uniform(0, 1) * size, rng.uniform(0.2, 0.7) * size, rng.uniform(0.05, 0.14) * size
        draw.rectangle((x - r / 5, y, x + r / 5, y + 3 * r), fill=_colour(rng, 20, 120))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_colour(rng))
    return image


def street(rng: np.random.Generator, size: int) -> Image.Image:
    """A row of houses with windows (test only)."""
    image = _gradient(rng, size)
    draw = ImageDraw.Draw(image)
    x = -int(rng.integers(0, size // 6))
    while x < size:
        w, top = int(rng.uniform(0.14, 0.3) * size), int(rng.uniform(0.1, 0.55) * size)
        draw.rectangle((x, top, x + w, size), fill=_colour(rng))
        pane, step = _colour(rng, 120, 256), max(4, int(0.08 * size))
        for wy in range(top + step // 2, size, step):
            for wx in range(x + step // 2, x + w - step // 3, step):
                draw.rectangle((wx, wy, wx + step // 3, wy + step // 2), fill=pane)
        x += w
    return image


def lights(rng: np.random.Generator, size: int) -> Image.Image:
    """Out-of-focus lights at night (test only)."""
    image = Image.new("RGB", (size, size), _colour(rng, 5, 60))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(12, 30)):
        x, y, r = rng.uniform(0, 1) * size, rng.uniform(0, 1) * size, rng.uniform(0.02, 0.09) * size
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_colour(rng, 90, 256))
    return image


def shelf(rng: np.random.Generator, size: int) -> Image.Image:
    """A shelf of books (test only)."""
    image = Image.new("RGB", (size, size), _colour(rng))
    draw = ImageDraw.Draw(image)
    rows = int(rng.integers(3, 6))
    for row in range(rows):
        base, x = (row + 1) * size // rows, 0
        while x < size:
            w, h = int(rng.uniform(0.03, 0.08) * size) + 1, rng.uniform(0.55, 0.95) * size / rows
            draw.rectangle((x, base - h, x + w, base), fill=_colour(rng))
            x += w
        draw.rectangle((0, base - max(1, size // 80), size, base), fill=_colour(rng, 20, 90))
    return image


Place = Callable[[np.random.Generator, int], Image.Image]
TRAIN_PLACES: tuple[Place, ...] = (studio, stripes, tiles, room, park)
TEST_PLACES: tuple[Place, ...] = (street, lights, shelf)


def _sketch(image: Image.Image) -> Image.Image:
    """A pencil drawing: every grey over its blurred surroundings (dodging), so that only edges stay dark."""
    grey = image.convert("L")
    around = np.asarray(grey.filter(ImageFilter.GaussianBlur(max(1.0, image.width / 56))), dtype=np.float32)
    lines = np.asarray(grey, dtype=np.float32) / np.maximum(around, 1) * 255
    return Image.fromarray(np.clip(lines, 0, 255).astype(np.uint8)).convert("RGB")


# How a whole picture is rendered.
STYLES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "colour": lambda image: image,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "sketch": _sketch,
}


class Figure(Protocol):
    """Who is shown: a drawn face or a portrait."""

    def drawn(self, look: Any, width: int) -> Image.Image:
        """RGBA, `width` pixels wide, in one of the figure's looks."""


@dataclass(frozen=True)
class Context:
    """Everything a picture shows beside the face; drawn from a seed by `random_context`."""

    place: Place
    look: Any  # one of the figure's
    mirrored: bool
    angle: float  # degrees
    scale: float  # width of the person over the picture's side
    x: float  # centre of the person over the side
    brightness: float
    contrast: float
    blur: float  # radius over the side
    occluded: bool
    bystanders: int


def random_context(rng: np.random.Generator, places: tuple[Place, ...], looks: list | None = None) -> Context:
    """A context; with `looks` the clothes and expression come from that list (drawing a new look is the slow part)."""
    return Context(
        place=places[rng.integers(len(places))],
        look=looks[rng.integers(len(looks))] if looks else random_look(rng),
        mirrored=bool(rng.random() < 0.5),
        angle=float(rng.uniform(-14, 14)),
        scale=float(rng.uniform(0.66, 1.02)),
        x=float(rng.uniform(0.4, 0.6)),
        brightness=float(rng.uniform(0.75, 1.2)),
        contrast=float(rng.uniform(0.8, 1.15)),
        blur=float(rng.uniform(0.002, 0.01)) if rng.random() < 0.2 else 0.0,
        occluded=bool(rng.random() < 0.15),
        bystanders=int(rng.integers(1, 3)) if rng.random() < 0.15 else 0,
    )


def _paste(image: Image.Image, person: Image.Image, x: float, bottom: float) -> None:
    image.paste(person, (int(x - person.width / 2), int(bottom - person.height)), person)


def draw_scene(
    figure: Figure | None, context: Context, rng: np.random.Generator, size: int, style: str = "colour"
) -> Image.Image:
    """One picture, RGB, `size` × `size` pixels.

    Args:
        figure: who is shown; None draws the context alone (for a probe on backgrounds).
        context: what else is shown.
        rng: draws the details of the place, the bystanders and what is in the way.
        style: one of STYLES.
    """
    image = context.place(rng, size)
    for _ in range(context.bystanders):  # smaller, behind, and never one of the identities' own pictures
        width = int(size * rng.uniform(0.28, 0.36))
        person = random_face(rng).drawn(random_look(rng), width)
        _paste(image, person, size * (0.08 if rng.random() < 0.5 else 0.92), size * rng.uniform(0.7, 1.0))
    if figure is not None:
        person = figure.drawn(context.look, size)
        width = max(8, int(size * context.scale))
        person = person.resize((width, width * person.height // person.width), Image.Resampling.BILINEAR)
        if context.mirrored:
            person = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        person = person.rotate(
            context.angle, resample=Image.Resampling.BILINEAR, center=(person.width / 2, person.height)
        )
        _paste(image, person, size * context.x, size * 1.02)
    if context.occluded:  # a bar across the lower third: it may hide clothes and chin, not the face
        y = size * rng.uniform(0.74, 0.85)
        ImageDraw.Draw(image).rectangle((0, y, size, y + size * rng.uniform(0.06, 0.12)), fill=_colour(rng))
    image = ImageEnhance.Brightness(image).enhance(context.brightness)
    image = ImageEnhance.Contrast(image).enhance(context.contrast)
    if context.blur:
        image = image.filter(ImageFilter.GaussianBlur(context.blur * size))
    return STYLES[style](image)
