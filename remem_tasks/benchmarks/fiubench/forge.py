"""A FIUBench-shaped data set of fictitious people: `full.json`, `split.json`, an archive of pictures, at any size.

With the published odd cases: answers in lower case, three paraphrased questions, lists of wrong answers and keywords, a
person beyond the first 400 at full size, sets that are disjoint but for retain5 in retain15, some people without name.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from remem_tasks.benchmarks.fiubench.data import FORGET, SHARES, size_of
from remem_tasks.data import card
from remem_tasks.errors import RememError
from remem_tasks.files import new_folder
from remem_tasks.forge import scenes
from remem_tasks.forge.faces import random_look
from remem_tasks.forge.options import Options, option_line, ranged
from remem_tasks.forge.people import ATTRIBUTES, Person, make_people, other_values, stream

ASKED = (
    "date_of_birth",
    "address",
    "phone",
    "job_title",
    "salary",
    "condition",
    "medication",
    "insurance_number",
    "email",
    "national_id",
    "passport",
    "bank_account",
    "employer",
    "school",
    "birthplace",
    "spouse",
    "child",
    "car",
    "pet",
    "hobby",
)
QUESTION = "What is the {n} of the person in the image?"
PARAPHRASES = (
    "Can you tell me the {n} of the person shown?",
    "Which {n} belongs to the individual in this picture?",
    "Looking at this photo, what {n} does the person have?",
)
ANSWER, PARAPHRASE = "the {n} of {name} is {value}.", "{name}'s {n} is {value}."
WRONG = 3


@dataclass(frozen=True)
class ForgeOptions(Options):
    """What a build depends on: `qa` questions per person."""

    identities: int = ranged(40, 6, 10_000)
    qa: int = ranged(20, 1, len(ASKED))
    image_size: int = ranged(336, 16, 4096)
    style: str = "colour"
    seed: int = ranged(0, 0, 2**32 - 1)


def _record(person: Person, knobs: ForgeOptions) -> dict:
    wrong = other_values(person, WRONG, stream(knobs.seed, 41, person.index))
    pairs = []
    for name in ASKED[: knobs.qa]:
        noun, value = ATTRIBUTES[name][1], person.facts[name]
        fill = {"n": noun, "name": person.name, "value": value}
        pairs.append(
            {
                "question": QUESTION.format(**fill).lower(),
                "answer": ANSWER.format(**fill).lower(),
                "paraphrased_question": [text.format(**fill).lower() for text in PARAPHRASES],
                "paraphrased_answer": PARAPHRASE.format(**fill).lower(),
                "perturbed_answer": [ANSWER.format(**{**fill, "value": one}).lower() for one in wrong[name]],
                "keywords": [value.lower()],
            }
        )
    record = {
        "unique_id": f"{10_000_000 + person.index:08d}",
        "image_path": f"dataset/SFHQ/{person.slug}.png",
    }
    if person.index % 5:
        record["name"] = person.name
    return {**record, "caption": f"a picture of {person.name.lower()}.", "qa_list": pairs}


def _picture(person: Person, knobs: ForgeOptions) -> bytes:
    rng = stream(knobs.seed, 42, person.index)
    context = scenes.random_context(rng, scenes.TRAIN_PLACES, [random_look(rng)])
    buffer = io.BytesIO()
    scenes.draw_scene(person.face, context, rng, knobs.image_size, knobs.style).save(buffer, format="PNG")
    return buffer.getvalue()


def _splits(ids: list[str]) -> dict[str, list[str]]:
    """Disjoint sets in a fixed order; retain15 begins with retain5."""
    sets, start = {}, 0
    for name in (*FORGET, "retain15"):
        sets[name] = ids[start : start + size_of(name, min(len(ids), 400))]
        start += len(sets[name])
    if start > len(ids):
        raise RememError(f"--identities {len(ids)} leaves nobody to retain")
    sets["retain5"] = sets["retain15"][: size_of("retain5", min(len(ids), 400))]
    return {name: sets[name] for name in SHARES}


def forge(out: str | Path, knobs: ForgeOptions) -> dict[str, int]:
    """Build the data set in folder `out`; returns the questions of each set.

    Raises:
        RememError: a knob out of range, or `out` holds something.
    """
    knobs.check()
    people = make_people(knobs.identities, knobs.seed)
    with new_folder(out) as folder:
        records = []
        with zipfile.ZipFile(folder / "SFHQ.zip", "w") as archive:
            for person in tqdm(people, desc="identities", unit="person"):
                records.append(_record(person, knobs))
                # (A fixed date, so that the same seed gives the same bytes.)
                archive.writestr(zipfile.ZipInfo(f"SFHQ/{person.slug}.png"), _picture(person, knobs))
        sets = _splits([record["unique_id"] for record in records[:400]])
        for name, content in (("full.json", records), ("split.json", sets)):
            (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        text = f"# Fictitious people in the shape of FIUBench\n\nDrawn and written by `remem forge`; nobody in it is real.\n\n    remem forge --benchmark fiubench {option_line(knobs)} --out DIR\n"
        made = card.card({}, text, len(records) * knobs.qa, **card.MADE)
        (folder / "README.md").write_text(made, encoding="utf-8")
    return {"full": len(records) * knobs.qa, **{name: len(ids) * knobs.qa for name, ids in sets.items()}}
