"""A VLM-UnBench-shaped data set: stars of a number of points and a colour, with options, at any size.

With the published cases: the right option anywhere among four, items of an attribute whose concept is the answer's value, with fewer
options, older items whose concept is told by `synset` alone, every concept to forget equally often in `test_forget.jsonl`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from remem_tasks.benchmarks.vlmunbench.data import FILES
from remem_tasks.data import card
from remem_tasks.files import new_folder
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import stream
from remem_tasks.forge.shapes import COLOURS, star

POINTS = range(3, 11)
GROUNDS = {"pale": 225, "grey": 150, "dim": 90}


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: concepts in all, of which a fifth are to be forgotten; `images` of each to train on, and to test."""

    identities: int = ranged(20, 5, len(COLOURS) * len(POINTS))
    images: int = ranged(10, 1, 1000)
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _picture(points: int, colour: str, ground: str, rng: np.random.Generator, size: int) -> Image.Image:
    low = GROUNDS[ground]
    picture = Image.fromarray(rng.integers(low, low + 30, (size, size, 3)).astype(np.uint8))
    radius, turn = size * rng.uniform(0.3, 0.42), rng.uniform(0, 2 * math.pi)
    x, y = (size * rng.uniform(0.44, 0.56) for _ in range(2))
    ImageDraw.Draw(picture).polygon(star(x, y, radius, points, turn), fill=COLOURS[colour])
    return picture


def _item(
    number: int, path: str, question: str, options: list[str], level: str, axis: str, **meta: str
) -> dict:
    """An item whose right option is the first of `options`, before they are shuffled."""
    rng = stream(number, 96)
    shuffled = [options[place] for place in rng.permutation(len(options))]
    return {
        "id": f"forged_{number:06d}",
        "image": path,
        "question": question,
        "choices": shuffled,
        "answer_index": shuffled.index(options[0]),
        "forgetting_level": level,
        "concept_axis": axis,
        "target_split": "all",
        "meta": meta,
    }


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the items of each file.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    every = [(points, colour) for points in POINTS for colour in COLOURS]
    chosen = [every[place] for place in stream(knobs.seed, 95).permutation(len(every))[: knobs.identities]]
    names = [f"{colour} star of {points} points" for points, colour in chosen]
    files: dict[str, list[dict]] = {name: [] for name in FILES}
    number = 0
    with new_folder(out) as folder:
        for place, (points, colour) in enumerate(tqdm(chosen, desc="concepts", unit="concept")):
            gone, slug = place < max(1, knobs.identities // 5), f"star_{points}_{colour}"
            (folder / "images" / slug).mkdir(parents=True)
            for index in range(2 * knobs.images):
                rng = stream(knobs.seed, 97, place, index)
                ground = list(GROUNDS)[index % len(GROUNDS)]
                path = f"images/{slug}/{index}.png"
                _picture(points, colour, ground, rng, knobs.image_size).save(folder / path)
                file = ("forget" if gone else "retain") + ("_test" if index >= knobs.images else "")
                others = [names[one] for one in rng.permutation(len(names)) if one != place][:3]
                meta = {"synset": slug, "class_name": names[place], "superclass": "star"}
                if index % 4:
                    meta["forget_concept"] = slug
                asked = "What is shown in the image?"
                files[file].append(
                    _item(number, path, asked, [names[place], *others], "object", "identity", **meta)
                )
                number += 1
                if not gone and index % 3 == 0:
                    options = [ground, *(one for one in GROUNDS if one != ground)]
                    meta["forget_concept"] = ground
                    asked = "What is the ground like?"
                    files[file].append(
                        _item(number, path, asked, options, "attribute", "attribute_ground", **meta)
                    )
                    number += 1
        for name, items in files.items():
            lines = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in items)
            (folder / FILES[name][0]).write_text(lines, encoding="utf-8")
        text = f"# Stars in the shape of VLM-UnBench\n\nDrawn and written by `remem forge`.\n\n    remem forge --benchmark vlmunbench {option_line(knobs)} --out DIR\n"
        made = card.card({}, text, sum(map(len, files.values())), **card.MADE)
        (folder / "README.md").write_text(made, encoding="utf-8")
    return {name: len(items) for name, items in files.items()}
