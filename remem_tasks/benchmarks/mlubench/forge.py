"""A MLUBench-shaped data set: entities of a form and a colour with names nobody has, in four tasks, at any size.

With the published cases: ids that come again in one file, several questions about each picture, entities that are in one
file alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from remem_tasks.benchmarks.mlubench.data import FILES
from remem_tasks.data import card
from remem_tasks.files import new_folder
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import make_people, stream

COLOURS = {
    "gold": (212, 175, 55),
    "navy": (0, 0, 128),
    "teal": (0, 128, 128),
    "plum": (142, 69, 133),
    "rust": (183, 65, 14),
}
FORMS = {"Discs": "disc", "Squares": "square", "Triangles": "triangle"}
QUESTIONS = (
    ("What is this called?", "{name}"),
    ("What is its form?", "{name} has the form of a {form}."),
    ("Which colour has it?", "{name} is {colour}."),
    ("Where is it found?", "{name} is found in {town}."),
    ("Who found it?", "{name} was found by {person}."),
)


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: entities in all, dealt to the eight files in turn; `qa` questions about each picture."""

    identities: int = ranged(16, len(FILES), 1000)
    images: int = ranged(4, 1, 1000)
    qa: int = ranged(3, 1, len(QUESTIONS))
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _picture(form: str, colour: str, rng: np.random.Generator, size: int) -> Image.Image:
    ground = rng.integers(150, 256, (size, size, 3)).astype(np.uint8)
    picture = Image.fromarray(ground)
    x, y = (int(size * rng.uniform(0.1, 0.3)) for _ in range(2))
    side = int(size * rng.uniform(0.45, 0.6))
    box, draw = (x, y, x + side, y + side), ImageDraw.Draw(picture)
    if form == "disc":
        draw.ellipse(box, fill=COLOURS[colour])
    elif form == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    else:
        draw.polygon([(x, y + side), (x + side, y + side), (x + side // 2, y)], fill=COLOURS[colour])
    return picture


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the rows of each file.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    people = make_people(min(knobs.identities, 40), knobs.seed)
    files: dict[str, list[dict]] = {name: [] for name in FILES}
    with new_folder(out) as folder:
        for number, name in tqdm(
            list(zip(range(knobs.identities), cycle(FILES))), desc="entities", unit="entity"
        ):
            rng = stream(knobs.seed, 70, number)
            group, form = list(FORMS.items())[number % len(FORMS)]
            person = people[number % len(people)]
            facts = {
                "name": f"{person.facts['birthplace']} {number + 1}",
                "form": form,
                "colour": list(COLOURS)[int(rng.integers(len(COLOURS)))],
                "town": person.facts["address"].rsplit(" ", 1)[1],
                "person": person.name,
            }
            place = f"downloaded_images/{group}/{facts['name'].replace(' ', '_')}"
            (folder / place).mkdir(parents=True)
            for index in range(knobs.images):
                path = f"{place}/image_{index + 1}.jpg"
                _picture(form, facts["colour"], rng, knobs.image_size).save(folder / path, quality=92)
                for row, (question, answer) in enumerate(QUESTIONS[: knobs.qa]):
                    turns = (("human", f"<image>\n{question}"), ("gpt", answer.format(**facts)))
                    said = [{"from": who, "value": value} for who, value in turns]
                    # (Ids begin anew with each entity, as in the published files.)
                    files[name].append(
                        {"id": str(index * knobs.qa + row + 1), "image": path, "conversations": said}
                    )
        for name, rows in files.items():
            task = f"Task{name[-1].upper()}"
            (folder / "Tasks" / task).mkdir(parents=True, exist_ok=True)
            (folder / "Tasks" / task / FILES[name][0]).write_text(
                json.dumps(rows, indent=1), encoding="utf-8"
            )
        text = f"# Made-up entities in the shape of MLUBench\n\nDrawn and written by `remem forge`.\n\n    remem forge --benchmark mlubench {option_line(knobs)} --out DIR\n"
        made = card.card({}, text, sum(map(len, files.values())), **card.MADE)
        (folder / "README.md").write_text(made, encoding="utf-8")
    return {name: len(rows) for name, rows in files.items()}
