"""An OFFSIDE-shaped data set of fictitious players: JSON messages and choices beside folders of pictures, at any size.

With the published cases: pictures numbered so that the number mod 5 tells the set, shared facts in every set and private
ones that differ from picture to picture, test pictures that are kept ones mirrored, one relearn set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from remem_tasks.benchmarks.offside.data import FILES, LETTERS, REST
from remem_tasks.data import card
from remem_tasks.files import new_folder
from remem_tasks.forge import scenes
from remem_tasks.forge.faces import random_look
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import Person, make_people, stream

SHARED = {
    "name": "Who is the player in the image?",
    "age": "How old is the player in the image?",
    "position": "Which position does the player in the image play?",
    "nationality": "What is the nationality of the player in the image?",
    "birth": "When was the player in the image born?",
    "height": "How tall is the player in the image?",
    "foot": "Which foot does the player in the image prefer?",
    "birthplace": "Where was the player in the image born?",
}
OWN = {
    "next_club": "Which club did the player in the image join next?",
    "last_club": "Which club did the player in the image leave?",
    "date": "When was the transfer of the player in the image?",
    "fee": "What fee was paid for the player in the image?",
    "value": "What was the market value of the player in the image?",
    "trophies": "How many trophies had the player in the image won?",
}
POSITIONS, FEET = ("goalkeeper", "defender", "midfielder", "winger", "striker"), ("left", "right", "either")
MOST = 5  # pictures a player, one of each rest
CLUBS = 20  # clubs at least, whoever plays: of three, a model that never saw a transfer guesses it


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: `qa` facts a picture, the private ones first and last in turn."""

    identities: int = ranged(10, 2, 10_000)
    qa: int = ranged(14, 2, 14)
    image_size: int = ranged(256, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _shared(person: Person, rng: np.random.Generator) -> dict[str, str]:
    return {
        "name": person.name,
        "age": f"{rng.integers(18, 38)} years",
        "position": POSITIONS[rng.integers(len(POSITIONS))],
        "nationality": f"{person.facts['hideaway'].split()[-1]}ish",
        "birth": person.facts["date_of_birth"],
        "height": f"1.{rng.integers(65, 99)} m",
        "foot": FEET[rng.integers(len(FEET))],
        "birthplace": person.facts["birthplace"],
    }


def _own(rng: np.random.Generator, clubs: list[str]) -> dict[str, str]:
    last, following = rng.choice(clubs, 2, replace=False)
    return {
        "next_club": f"FC {following}",
        "last_club": f"FC {last}",
        "date": f"{rng.integers(1, 29)} July {rng.integers(2001, 2024)}",
        "fee": f"{rng.integers(1, 90)}.{rng.integers(0, 10)} million crowns",
        "value": f"{rng.integers(1, 120)}.{rng.integers(0, 10)} million crowns",
        "trophies": str(rng.integers(1, 20)),
    }


def _facts(person: Person, number: int, clubs: list[str], knobs: ForgeOptions) -> list[tuple[str, str, str]]:
    """(question, value, sentence) of a picture: private and shared facts in turn, until there are `qa`."""
    shared = _shared(person, stream(knobs.seed, 60, person.index))
    own = _own(stream(knobs.seed, 61, person.index, number), clubs)
    turns = [name for pair in zip(OWN, SHARED) for name in pair] + list(SHARED)[len(OWN) :]
    found = []
    for name in turns[: knobs.qa]:
        value = {**shared, **own}[name]
        noun = name.replace("_", " ")
        found.append(
            (
                {**SHARED, **OWN}[name],
                value,
                f"The {noun} of {person.name} is {value}." if name != "name" else f"This is {value}.",
            )
        )
    return found


def _picture(person: Person, number: int, knobs: ForgeOptions) -> Image.Image:
    rng = stream(knobs.seed, 62, person.index, number)
    context = scenes.random_context(rng, scenes.TRAIN_PLACES, [random_look(rng)])
    return scenes.draw_scene(person.face, context, rng, knobs.image_size, knobs.style)


def _choice(question: str, value: str, others: list[str], rng: np.random.Generator) -> dict:
    wrong = [one for one in dict.fromkeys(others) if one != value][: len(LETTERS) - 1]
    wrong += [f"none of these, {number}" for number in range(len(LETTERS) - 1 - len(wrong))]
    place = int(rng.integers(len(LETTERS)))
    wrong.insert(place, value)
    return {"Question": question, "Options": dict(zip(LETTERS, wrong)), "Correct_Answer": LETTERS[place]}


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the rows of each file.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    everyone = make_people(max(knobs.identities, CLUBS), knobs.seed)
    people, clubs = everyone[: knobs.identities], [one.facts["employer"] for one in everyone]
    files: dict[str, list[dict]] = {name: [] for name in FILES}
    with new_folder(out) as folder:
        facts = {
            (person.index, number): _facts(person, number, clubs, knobs)
            for person in people
            for number in range(MOST)
        }
        for person in tqdm(people, desc="identities", unit="person"):
            for number in range(MOST):
                picture, pairs = _picture(person, number, knobs), facts[person.index, number]
                name = next(name for name, rests in REST.items() if number in rests)
                shown = [(name, f"images/{person.slug}/{MOST * person.index + number}.png", picture)]
                if name == "retain":
                    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                    shown.append(
                        ("test", f"test_images/{person.slug}/{MOST * person.index + number}.png", mirrored)
                    )
                for set_name, path, image in shown:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    image.save(folder / path, format="PNG", compress_level=1)
                    for place, (question, value, sentence) in enumerate(pairs):
                        said = (("user", f"<image>{question}"), ("assistant", sentence))
                        messages = [{"role": role, "content": content} for role, content in said]
                        files[set_name].append({"messages": messages, "images": path})
                        if set_name != "relearn":
                            others = [
                                facts[one.index, number][place][1] for one in people if one is not person
                            ]
                            rng = stream(knobs.seed, 63, person.index, number, place)
                            made = _choice(question, value, others, rng)
                            files[f"{set_name}_choice"].append({**made, "images": path})
        for name, rows in files.items():
            (folder / FILES[name][0]).write_text(json.dumps(rows, indent=1), encoding="utf-8")
        text = f"# Fictitious players in the shape of OFFSIDE\n\nDrawn and written by `remem forge`; nobody in it is real.\n\n    remem forge --benchmark offside {option_line(knobs)} --out DIR\n"
        made = card.card({}, text, sum(map(len, files.values())), **card.MADE)
        (folder / "README.md").write_text(made, encoding="utf-8")
    return {name: len(rows) for name, rows in files.items()}
