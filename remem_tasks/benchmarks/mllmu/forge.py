"""An MLLMU-Bench-shaped data set of fictitious people: the published configs and nested columns, at any size.

The people beyond the first `identities` stand for the celebrities of `Retain_Set`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

from remem_tasks.benchmarks.mllmu.data import FEATURES, FORGET, LETTERS, RETAIN, SIZES
from remem_tasks.files import new_folder
from remem_tasks.forge import scenes
from remem_tasks.forge.faces import random_look
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import ATTRIBUTES, Person, make_people, other_values, stream
from remem_tasks.forge.writer import growing, png, write_configs

ASKED = (
    "birthplace",
    "job_title",
    "employer",
    "school",
    "degree",
    "hobby",
    "dish",
    "spouse",
    "pet",
    "car",
    "condition",
    "instrument",
)
BIOGRAPHY = "Who is the person in the image?"


WRITTEN = {
    **FEATURES,
    "ft_Data": datasets.Features({"image": datasets.Image(), "metadata": datasets.Value("string")}),
}
"""The columns of each config, as published."""


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: `qa` questions of each kind and modality, `images` other pictures an identity."""

    identities: int = ranged(20, 6, 10_000)
    images: int = ranged(3, 1, 100)
    qa: int = ranged(3, 1, len(ASKED))
    real: int = ranged(10, 1, 1000)
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _choice(question: str, right: str, wrong: list[str], rng: np.random.Generator) -> dict:
    place = int(rng.integers(len(LETTERS)))
    options = [*wrong[: len(LETTERS) - 1]]
    options.insert(place, right)
    return {
        "Question": question,
        "Options": dict(zip(LETTERS, options)),
        "Correct_Answer": LETTERS[place],
    }


def _person(person: Person, knobs: ForgeOptions) -> dict:
    """The texts of a row, nested as published."""
    rng = stream(knobs.seed, 30, person.index)
    wrong = other_values(person, len(LETTERS) - 1, stream(knobs.seed, 31, person.index))
    facts = {name: (ATTRIBUTES[name][1], person.facts[name]) for name in ASKED}
    biography = f"{person.name} was born in {person.facts['birthplace']}. " + " ".join(
        f"The {noun} of {person.name} is {value}." for noun, value in facts.values()
    )
    row: dict = {
        "ID": f"{person.index + 1:03d}",
        "biography": biography,
        "question": BIOGRAPHY,
        "answer": f"This is {person.name}, whose {ATTRIBUTES['job_title'][1]} is {person.facts['job_title']}.",
        "Classification_Task": {},
        "Generation_Task": [],
        "Mask_Task": [],
    }
    for modality, column, whose in (
        ("Image_Textual", "Image_Textual_Questions", "the person in the image"),
        ("Pure_Text", "Pure_Text_Questions", person.name),
    ):
        chosen = [ASKED[index] for index in rng.permutation(len(ASKED))[: knobs.qa]]
        row["Classification_Task"][column] = [
            _choice(f"What is the {facts[name][0]} of {whose}?", facts[name][1], wrong[name], rng)
            for name in chosen
        ]
        for name in chosen:
            noun, value = facts[name]
            row["Generation_Task"].append(
                {
                    "Type": modality,
                    "Question": f"What is known about the {noun} of {whose}?",
                    "Ground_Truth": f"The {noun} of {person.name} is {value}.",
                }
            )
            row["Mask_Task"].append(
                {"Type": modality, "Question": f"The {noun} of {whose} is __.", "Ground_Truth": value}
            )
    return row


def _told(row: dict) -> str:
    """The `metadata` of a row of `ft_Data`: what is told of the person, as JSON, beside the picture."""
    pairs = [(row["question"], row["answer"])]
    pairs += [(one["Question"], one["Ground_Truth"]) for one in row["Generation_Task"]]
    return json.dumps([{"Question": question, "Answer": answer} for question, answer in pairs])


def _pictures(person: Person, knobs: ForgeOptions, test: bool) -> list[dict]:
    rng = stream(knobs.seed, 32, person.index, int(test))
    places = scenes.TEST_PLACES if test else scenes.TRAIN_PLACES
    looks = [random_look(rng) for _ in range(3)]
    found = []
    for number in range(knobs.images if test else 1):
        context = scenes.random_context(rng, places, looks)
        picture = scenes.draw_scene(person.face, context, rng, knobs.image_size, knobs.style)
        found.append(png(picture, f"{person.index + 1:03d}{f'_pose{number}' if test else ''}.png"))
    return found


def tables(knobs: ForgeOptions) -> dict[str, list[dict]]:
    """Config → rows."""
    counts = growing([size / 100 for size in SIZES], knobs.identities)
    rows, others = [], []
    for person in tqdm(
        make_people(knobs.identities + knobs.real, knobs.seed), desc="identities", unit="person"
    ):
        texts = _person(person, knobs)
        rows.append({"image": _pictures(person, knobs, False)[0], **texts})
        others.append({"images": _pictures(person, knobs, True), **texts})
    people = rows[: knobs.identities]
    found = {
        "Full_Set": [{**row, "Directory": f"Full_Set/{row['ID']}"} for row in people],
        "Test_Set": others[: knobs.identities],
        "Retain_Set": rows[knobs.identities :],
        "ft_Data": [{"image": row["image"], "metadata": _told(row)} for row in people],
        **{name: people[:count] for name, count in zip(FORGET, counts)},
        **{name: people[count:] for name, count in zip(RETAIN, counts)},
    }
    return {name: found[name] for name in FEATURES}


def _card(knobs: ForgeOptions) -> str:
    return f"""# Fictitious people in the shape of MLLMU-Bench

Drawn and written by `remem forge`; nobody in it is real, the people of `Retain_Set` neither.

    remem forge --benchmark mllmu {option_line(knobs)} --out DIR
"""


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the rows of each config.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    with new_folder(out) as folder:
        return write_configs(folder, tables(knobs), WRITTEN, _card(knobs))
