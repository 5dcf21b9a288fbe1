"""A UMU-Bench-shaped data set of fictitious people: the published configs, cells that are Python literals, at any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from remem_tasks.benchmarks.umu.data import CONFIGS, FEATURES, FORGET, LETTERS, REAL, RETAIN, sizes_of
from remem_tasks.files import new_folder
from remem_tasks.forge import scenes
from remem_tasks.forge.faces import random_look
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import ATTRIBUTES, Person, make_people, other_values, stream
from remem_tasks.forge.writer import png, write_configs

ASKED = ("birthplace", "job_title", "employer", "school", "degree", "hobby", "dish", "spouse", "pet", "car")
SHOWN = "the person in the image"


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: `qa` facts a person, each asked in every kind and both ways."""

    identities: int = ranged(20, 6, 10_000)
    qa: int = ranged(3, 1, len(ASKED))
    real: int = ranged(10, 1, 1000)
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _choice(question: str, right: str, wrong: list[str], rng: np.random.Generator) -> dict:
    place = int(rng.integers(len(LETTERS)))
    texts = wrong[: len(LETTERS) - 1]
    texts.insert(place, right)
    letter = LETTERS[place]
    return {"question": question, "answer": f"{letter}. {right}", "options": dict(zip(LETTERS, texts))}


def _person(person: Person, knobs: ForgeOptions) -> dict:
    """A row without its picture; the texts of a fact name the person, those with the picture point at it."""
    rng = stream(knobs.seed, 50, person.index)
    wrong = other_values(person, len(LETTERS) - 1, stream(knobs.seed, 51, person.index))
    cells: dict[str, dict] = {
        name: {"unimodal": {}, "muitimodal": {}} for name in ("Classify", "Cloze", "Generation")
    }
    told: dict[str, dict] = {name: {"question": {}, "answer": {}} for name in ("MM_QA", "UM_QA")}
    for number, name in enumerate(ASKED[: knobs.qa]):
        noun, value, key = ATTRIBUTES[name][1], person.facts[name], str(number + 1)
        for column, way, whose in (("UM_QA", "unimodal", person.name), ("MM_QA", "muitimodal", SHOWN)):
            question, sentence = f"What is the {noun} of {whose}?", f"The {noun} of {person.name} is {value}."
            told[column]["question"][key], told[column]["answer"][key] = question, sentence
            cells["Classify"][way][key] = _choice(question, value, list(wrong[name]), rng)
            cells["Cloze"][way][key] = {"question": f"The {noun} of {whose} is __.", "answer": f"{value}."}
            cells["Generation"][way][key] = {
                "question": f"What is known about the {noun} of {whose}?",
                "answer": sentence,
            }
    biography = " ".join(told["UM_QA"]["answer"].values())
    # (As str() writes a dict: a literal, no JSON.)
    return {
        "ID": f"{person.index + 1:03d}",
        "Biography": biography,
        **{name: str(cell) for name, cell in (told | cells).items()},
    }


def _picture(person: Person, knobs: ForgeOptions) -> dict:
    rng = stream(knobs.seed, 52, person.index)
    context = scenes.random_context(rng, scenes.TRAIN_PLACES, [random_look(rng)])
    picture = scenes.draw_scene(person.face, context, rng, knobs.image_size, knobs.style)
    return png(picture, f"{person.index + 1:03d}.png")


def tables(knobs: ForgeOptions) -> dict[str, list[dict]]:
    """Config → rows."""
    sizes = sizes_of(knobs.identities)
    counts = [sizes[name] for name in FORGET]
    everybody = make_people(knobs.identities + knobs.real, knobs.seed)
    rows = [
        {"image": _picture(person, knobs), **_person(person, knobs)}
        for person in tqdm(everybody, desc="identities", unit="person")
    ]
    people = rows[: knobs.identities]
    found = {"Full_Set": people, REAL[0]: rows[knobs.identities :]}
    found |= {name: people[:count] for name, count in zip(FORGET, counts)}
    found |= {name: people[count:] for name, count in zip(RETAIN, counts)}
    return {name: found[name] for name in CONFIGS if name in found}


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the rows of each config.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    text = (
        "# Fictitious people in the shape of UMU-Bench\n\nDrawn and written by `remem forge`; nobody in it is real, the "
        f"people of `{REAL[0]}` neither.\n\n    remem forge --benchmark umu {option_line(knobs)} --out DIR\n"
    )
    with new_folder(out) as folder:
        return write_configs(folder, tables(knobs), FEATURES, text)
