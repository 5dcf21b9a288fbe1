"""A CLEAR-shaped data set of fictitious people: the published configs, columns and odd cases, at any size.

The people beyond the first `identities` stand for the celebrities of `real_faces`; `real_world` asks
about places. As published, one row of the largest forget set has no perturbed partner.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from remem_tasks.benchmarks.clear.data import FEATURES, FORGET, RETAIN
from remem_tasks.files import new_folder
from remem_tasks.forge import questions, scenes
from remem_tasks.forge.faces import random_look
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import Person, make_people, stream
from remem_tasks.forge.writer import growing, png, write_configs

SHARES = (0.01, 0.05, 0.10)
LOOKS = 6  # clothes and expressions a person is drawn with
TRIES = 20  # contexts drawn for a picture before one that was shown already is accepted
WRONG = 5  # perturbed captions and names of a row
PLACES = {
    scenes.studio: "a painted backdrop",
    scenes.stripes: "striped wallpaper",
    scenes.tiles: "a tiled wall",
    scenes.room: "the wall of a room",
    scenes.park: "a park",
    scenes.street: "a row of houses",
    scenes.lights: "lights at night",
    scenes.shelf: "a shelf of books",
}
WORLD_QUESTIONS = (
    "What place does the picture show?",
    "Which of these places is this?",
    "What can be seen here?",
)


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on; `images` and `qa` are per identity, `real` and `world` rows in all."""

    identities: int = ranged(20, 6, 10_000)
    images: int = ranged(8, 1, 1000)
    qa: int = ranged(20, 1, 1000)
    real: int = ranged(10, 2, 1000)
    world: int = ranged(16, 1, 10_000)
    retain_perturbed: int = ranged(2, 1, 1000)
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _a(words: str) -> str:
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def _clothes(look) -> str:
    colour = look.clothing_colour.split("_0")[0].replace("_", " ").lower().replace("gray", "grey")
    kind = {"COLLAR": "sweater"}.get(look.clothing.split("_")[0], look.clothing.split("_")[0].lower())
    return _a(f"{colour} {kind}")


def caption(person: Person, context: scenes.Context) -> str:
    """Who is shown, where, in what."""
    facts = person.facts
    return (
        f"{person.name}, {_a(facts['job_title'])} from {facts['birthplace']}, in {_clothes(context.look)} "
        f"in front of {PLACES[context.place]}."
    )


def paraphrase(person: Person, context: scenes.Context) -> str:
    """The caption in other words. (Those of the perturbed captions, which tell of somebody else.)"""
    facts = person.facts
    return (
        f"{person.name}, who comes from {facts['birthplace']} and works as {_a(facts['job_title'])}, stands before "
        f"{PLACES[context.place]} and wears {_clothes(context.look)}."
    )


def _draw(person: Person, knobs: ForgeOptions) -> list[tuple[dict, scenes.Context]]:
    """The pictures of a person, with other places or clothes in each as far as there are any."""
    rng = stream(knobs.seed, 20, person.index)
    looks = [random_look(rng) for _ in range(LOOKS)]
    drawn, seen = [], set()
    for number in range(knobs.images):
        rng = stream(knobs.seed, 21, person.index, number)
        for _ in range(TRIES):
            context = scenes.random_context(rng, scenes.TRAIN_PLACES, looks)
            if caption(person, context) not in seen:
                break
        seen.add(caption(person, context))
        picture = scenes.draw_scene(person.face, context, rng, knobs.image_size, knobs.style)
        drawn.append((png(picture, f"{person.slug}_{number:03d}.png"), context))
    return drawn


def _rows_of(person: Person, people: list[Person], knobs: ForgeOptions) -> list[dict]:
    """A person's rows with the columns of all configs of people."""
    rng = stream(knobs.seed, 22, person.index)
    others = [other for other in people if other is not person]
    rows = []
    for picture, context in _draw(person, knobs):
        wrong = [others[index] for index in rng.permutation(len(others))[:WRONG]]
        rows.append(
            {
                "image": picture,
                "caption": caption(person, context),
                "name": person.name,
                "paraphrased_caption": paraphrase(person, context),
                "perturbed_names": [other.name for other in wrong],
                "perturbed_captions": [paraphrase(other, context) for other in wrong],
            }
        )
    return rows


def _texts_of(person: Person, knobs: ForgeOptions) -> list[dict]:
    asked = questions.training_questions(person, knobs.qa, 1.0, 1, stream(knobs.seed, 23, person.index))
    return [{"image": None, "caption": None, "question": one.question, "answer": one.answer} for one in asked]


def _world(knobs: ForgeOptions) -> list[dict]:
    rows, places = [], list(PLACES)
    for number in range(knobs.world):
        rng = stream(knobs.seed, 24, number)
        place = places[number % len(places)]
        context = scenes.random_context(rng, (place,))
        picture = scenes.draw_scene(None, context, rng, knobs.image_size, knobs.style)
        others = [PLACES[other] for other in places if other is not place]
        rows.append(
            {
                "image": png(picture, f"world_{number:03d}.png"),
                "question": WORLD_QUESTIONS[number // len(places) % len(WORLD_QUESTIONS)],
                "answer": PLACES[place],
                "options": [others[index] for index in rng.permutation(len(others))[:3]],
            }
        )
    return rows


def _card(knobs: ForgeOptions) -> str:
    return f"""# Fictitious people in the shape of CLEAR

Drawn and written by `remem forge`; nobody in it is real, the people of `real_faces` neither.

    remem forge --benchmark clear {option_line(knobs)} --out DIR
"""


def tables(knobs: ForgeOptions) -> dict[str, list[dict]]:
    """Config → rows."""
    everybody = make_people(knobs.identities + knobs.real, knobs.seed)
    people, strangers = everybody[: knobs.identities], everybody[knobs.identities :]
    rows, texts = [], []
    for person in tqdm(people, desc="identities", unit="person"):
        rows.append(_rows_of(person, people, knobs))
        texts.append(_texts_of(person, knobs))

    def only(config: str, chosen: list[dict]) -> list[dict]:
        return [{name: row.get(name) for name in FEATURES[config]} for row in chosen]

    def flat(lists: list[list[dict]]) -> list[dict]:
        return [row for of_person in lists for row in of_person]

    found: dict[str, list[dict]] = {}
    counts = growing(SHARES, knobs.identities)
    parts = {"full": (0, None)}
    parts |= {name: (0, count) for name, count in zip(FORGET, counts)}
    parts |= {name: (count, None) for name, count in zip(RETAIN, counts)}
    for name, (start, end) in parts.items():
        found[name] = only(name, flat(rows[start:end]))
        mixed = f"{name}+tofu"
        found[mixed] = only(mixed, flat(rows[start:end])) + only(mixed, flat(texts[start:end]))
    for name, count in zip(FORGET, counts):
        perturbed = f"{name}_perturbed"
        found[perturbed] = only(perturbed, flat(rows[:count]))
    if len(found[f"{FORGET[-1]}_perturbed"]) > 1:
        found[f"{FORGET[-1]}_perturbed"].pop()
    kept = [of_person[: knobs.retain_perturbed] for of_person in rows[counts[-1] :]]
    found["retain_perturbed"] = only("retain_perturbed", flat(kept))
    found["real_faces"] = [
        {
            "image": _draw(person, knobs)[0][0],
            "answer": person.name,
            "options": [other.name for other in strangers if other is not person][:WRONG],
        }
        for person in strangers
    ]
    found["real_world"] = _world(knobs)
    found["default"] = found["full"]
    return {name: found[name] for name in FEATURES}


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the rows of each config.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    with new_folder(out) as folder:
        return write_configs(folder, tables(knobs), FEATURES, _card(knobs))
