"""An UnLOK-VQA-shaped data set: signs of invented towns, asked for what a picture does not show, at any size.

With the published cases: numbers of pictures and ids with gaps, an answer of a neighbourhood question of more than one word, a
question without an answer behind the others, a fact without neighbourhood, an other answer that is empty, several neighbouring
pictures of one fact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from remem_tasks.benchmarks.unlok.data import CHANGED, MARK, NEAR, PUBLISHED
from remem_tasks.data import card
from remem_tasks.files import new_folder
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import stream
from remem_tasks.forge.shapes import COLOURS

GRID = 5
QUESTION = "Which town is this the sign of?"
REPHRASED = (
    "This sign belongs to which town?",
    "What is the town with this sign?",
    "Name the town that has the sign shown here.",
    "In which town would this sign be seen?",
)
NEIGHBOURS = (
    ("Which colour has the sign?", "{colour}"),
    ("How many cells of the sign are coloured?", "{cells} in all"),
    ("What stands around the sign?", "nothing"),
)
ONSETS, VOWELS, ENDS = "bdfgklmnprstvz", "aeiou", ("ra", "lin", "mos", "ta", "dor", "vik", "nu", "bel")


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: a fact a sign; `qa` questions of the neighbourhood of each; as many pictures of other signs."""

    identities: int = ranged(40, 4, 2000)
    qa: int = ranged(2, 1, len(NEIGHBOURS))
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


@dataclass(frozen=True)
class Sign:
    """A town's sign: `cells` (GRID, GRID) of bool, the same left and right."""

    town: str
    colour: str
    cells: np.ndarray


def _signs(knobs: ForgeOptions) -> list[Sign]:
    rng = stream(knobs.seed, 80)
    towns: dict[str, Sign] = {}
    seen: set[bytes] = set()
    while len(towns) < knobs.identities:
        parts = [rng.choice(list(ONSETS)) + rng.choice(list(VOWELS)) for _ in range(2)]
        town = "".join([*parts, rng.choice(ENDS)]).capitalize()
        half = rng.random((GRID, (GRID + 1) // 2)) < 0.5
        cells = np.concatenate([half, half[:, : GRID // 2][:, ::-1]], axis=1)
        if town not in towns and 5 <= cells.sum() <= 20 and cells.tobytes() not in seen:
            seen.add(cells.tobytes())
            towns[town] = Sign(town, list(COLOURS)[int(rng.integers(len(COLOURS)))], cells)
    return list(towns.values())


def _picture(sign: Sign, rng: np.random.Generator, size: int, change: float) -> Image.Image:
    """The sign before a ground; `change` from 0 to 1 moves and shrinks it and makes the ground busier."""
    ground = rng.integers(int(235 - 120 * change), 256, (size, size, 3)).astype(np.uint8)
    side = max(GRID, int(size * (0.85 - 0.3 * change)))
    cell = side // GRID
    free = size - cell * GRID
    left, top = (int(free * (0.5 + change * (rng.random() - 0.5))) for _ in range(2))
    block = np.kron(sign.cells, np.ones((cell, cell), bool))
    part = ground[top : top + cell * GRID, left : left + cell * GRID]
    part[block] = COLOURS[sign.colour]
    return Image.fromarray(ground)


def _record(place: int, number: int, signs: list[Sign], knobs: ForgeOptions) -> dict:
    sign = signs[place]
    others = [signs[(place + step) % len(signs)].town for step in (1, 2, 3)]
    fill = {"colour": sign.colour, "cells": int(sign.cells.sum())}
    told = [(f"{MARK}{asked}", said.format(**fill)) for asked, said in NEIGHBOURS[: knobs.qa]]
    record = {
        "id": number,
        "subject": "sign",
        "src": QUESTION,
        "pred": sign.town,
        "rephrase": list(REPHRASED),
        "answers": [sign.town, sign.town.lower()],
        "loc": [asked for asked, _ in told] + [f"{MARK}What else is there?"] * (place % 3 == 0),
        "loc_ans": [said for _, said in told],
        "alt_ans": [*others[:2], "", *others[2:]],
        "neigh_idx": [0, 3] if place % 2 else [1],
        "objects_edit": ["sign"],
        "image_id": 1000 + 37 * number,
    }
    if place == len(signs) - 1:
        record |= {"loc": [], "loc_ans": []}
    return record


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns what was written of each kind.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    signs, records = _signs(knobs), list[dict]()
    number, counts = 3, {"facts": 0, "neighbours": 0, "pictures": 0}
    by_town = {sign.town: sign for sign in signs}
    with new_folder(out) as folder:

        def save(path: str, sign: Sign, change: float, *key: int) -> None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            _picture(sign, stream(knobs.seed, 81, *key), knobs.image_size, change).save(
                folder / path, quality=92
            )
            counts["pictures"] += 1

        for place, sign in enumerate(tqdm(signs, desc="facts", unit="fact")):
            number += int(stream(knobs.seed, 82, place).integers(1, 9))
            record = _record(place, number, signs, knobs)
            records.append(record)
            save(f"train2017/{record['image_id']:012d}.jpg", sign, 0.0, place)
            for step, name in enumerate(CHANGED.values(), start=1):
                save(f"{name}/okvqa/{number}.jpg", sign, step / 3, place, step)
            for index in record["neigh_idx"]:
                other = by_town[record["alt_ans"][index]]
                for step, name in enumerate(NEAR.values()):
                    save(f"{name}/okvqa/{number}_{index}.jpg", other, 0.5 * step, place, 10 + index, step)
            counts["facts"] += 1
            counts["neighbours"] += len(record["loc_ans"])
        (folder / PUBLISHED).write_text(json.dumps(records, indent=1), encoding="utf-8")
        text = f"# Signs of invented towns in the shape of UnLOK-VQA\n\nDrawn and written by `remem forge`.\n\n    remem forge --benchmark unlok {option_line(knobs)} --out DIR\n"
        made = card.card({}, text, len(records), **card.MADE)
        (folder / "README.md").write_text(made, encoding="utf-8")
    return counts
