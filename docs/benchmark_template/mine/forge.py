"""Made-up data of exactly the schema: objects of one colour each, with names nobody has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from remem_tasks.benchmarks.mine.data import FEATURES

from remem_tasks.files import new_folder
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.writer import png, write_configs

COLOURS = {"gold": (212, 175, 55), "navy": (0, 0, 128), "teal": (0, 128, 128), "plum": (142, 69, 133)}


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on; `images` per identity."""

    identities: int = ranged(8, 2, 1000)
    images: int = ranged(4, 1, 1000)
    image_size: int = ranged(56, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _rows(number: int, knobs: ForgeOptions) -> list[dict]:
    name = f"Object {chr(65 + number % 26)}{number}"
    colour = list(COLOURS)[number % len(COLOURS)]
    rng = np.random.default_rng([knobs.seed, number])
    rows = []
    for index in range(knobs.images):
        noise = rng.integers(-20, 21, (knobs.image_size, knobs.image_size, 3))
        picture = Image.fromarray(np.clip(noise + COLOURS[colour], 0, 255).astype(np.uint8))
        cell = png(picture, f"{number}/{index}.png")
        rows.append({"image": cell, "name": name, "question": f"What colour is {name}?", "answer": colour})
    return rows


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the rows of each set.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    forget, *kept = [_rows(number, knobs) for number in range(knobs.identities)]
    retain = [row for rows in kept for row in rows]
    text = f"# Mine\n\n    remem forge --benchmark mine {option_line(knobs)} --out DIR\n"
    with new_folder(out) as folder:
        return write_configs(
            folder, {"full": forget + retain, "forget": forget, "retain": retain}, FEATURES, text
        )
