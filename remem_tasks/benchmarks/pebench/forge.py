"""Person × event pictures in the shape of PEBench, with the column `event` that the published files have not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
from tqdm import tqdm

from remem_tasks.benchmarks.pebench.data import TEXT
from remem_tasks.files import new_folder
from remem_tasks.forge import scenes
from remem_tasks.forge.faces import random_look
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import make_people, stream
from remem_tasks.forge.writer import png, write_configs

EVENTS = {
    scenes.studio: "posing for a portrait in a studio",
    scenes.stripes: "speaking in front of a striped curtain",
    scenes.tiles: "waiting beside a tiled wall",
    scenes.room: "resting in a living room",
    scenes.park: "jogging in a park",
    scenes.street: "walking through a city street",
    scenes.lights: "standing under the lights of a stage",
    scenes.shelf: "reading beside a shelf of books",
}


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: `images` of every person at every event."""

    identities: int = ranged(20, 2, 10_000)
    images: int = ranged(2, 1, 100)
    image_size: int = ranged(512, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns its rows.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    people = make_people(knobs.identities, knobs.seed)
    rows = []
    for person in tqdm(people, desc="identities", unit="person"):
        for number, (place, event) in enumerate(list(EVENTS.items()) * knobs.images):
            rng = stream(knobs.seed, 80, person.index, number)
            context = scenes.random_context(rng, (place,), [random_look(rng)])
            picture = scenes.draw_scene(person.face, context, rng, knobs.image_size, knobs.style)
            cell = png(picture, f"{person.slug}_{number:02d}.png")
            rows.append({"image": cell, "label": person.index, "event": event})
    names = datasets.ClassLabel(names=[person.name for person in people])
    features = {"default": datasets.Features({"image": datasets.Image(), "label": names, "event": TEXT})}
    text = (
        "# Fictitious people at events, in the shape of PEBench\n\nDrawn and written by `remem forge`; nobody in it is real. The "
        f"column `event` is not in the published files.\n\n    remem forge --benchmark pebench {option_line(knobs)} --out DIR\n"
    )
    with new_folder(out) as folder:
        return write_configs(folder, {"default": rows}, features, text)
