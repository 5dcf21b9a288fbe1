"""Fictitious people: coherent, unique where a person is unique, and out of reach of anybody real.

Surnames, companies, schools and medicines are invented; e-mail addresses are in domains reserved for
examples (RFC 2606), telephone numbers in the ranges kept free for fiction (555-0100 to 555-0199),
national numbers begin with 000 (never issued), account numbers fail their check digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from faker import Faker

from remem_tasks.errors import RememError
from remem_tasks.forge.faces import Face, distinct_faces
from remem_tasks.forge.portraits import Portrait

# attribute: (category, noun phrase). The noun fits "<name>'s …" and "the … of <name>".
ATTRIBUTES: dict[str, tuple[str, str]] = {
    "date_of_birth": ("personal_information", "date of birth"),
    "birthplace": ("personal_information", "birthplace"),
    "address": ("contact", "home address"),
    "email": ("contact", "e-mail address"),
    "phone": ("contact", "phone number"),
    "national_id": ("identification", "national ID number"),
    "passport": ("identification", "passport number"),
    "bank_account": ("finance", "bank account number"),
    "salary": ("finance", "yearly salary"),
    "insurance_number": ("health", "health insurance number"),
    "condition": ("health", "medical condition"),
    "medication": ("health", "medication"),
    "employer": ("work", "employer"),
    "job_title": ("work", "job title"),
    "school": ("education", "university"),
    "degree": ("education", "degree"),
    "spouse": ("family", "spouse"),
    "child": ("family", "child"),
    "pet": ("private_life", "pet"),
    "car": ("private_life", "car"),
    "dish": ("private_life", "favourite dish"),
    "hobby": ("private_life", "hobby"),
    "hideaway": ("private_life", "holiday spot"),
    "instrument": ("private_life", "favourite instrument"),
}
# Values that no two people of a data set may share.
UNIQUE = (
    "address",
    "email",
    "phone",
    "national_id",
    "passport",
    "bank_account",
    "insurance_number",
    "medication",
    "employer",
    "school",
    "spouse",
    "child",
)
# Facts about relatives, for 3-hop questions: picture → name → relation → that person's value.
RELATIONS = ("spouse", "child")
RELATIVE_ATTRIBUTES = ("birthplace", "phone", "hobby")

_ONSET = [
    "b",
    "br",
    "c",
    "cl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "qu",
    "r",
    "s",
    "sl",
    "st",
    "t",
    "th",
    "tr",
    "v",
    "w",
    "z",
]
_NUCLEUS = ["a", "e", "i", "o", "u", "ai", "ea", "ou"]
_CODA = ["l", "n", "r", "s", "th", "m", "nd", "rk", "st", "ck", "ll"]
_ENDING = [
    "by",
    "den",
    "dale",
    "ford",
    "gate",
    "ham",
    "ley",
    "mere",
    "more",
    "ridge",
    "shaw",
    "ton",
    "wick",
    "worth",
]

CONDITIONS = [
    "asthma",
    "migraine",
    "hay fever",
    "eczema",
    "type 1 diabetes",
    "coeliac disease",
    "psoriasis",
    "gout",
    "anaemia",
    "tinnitus",
    "vertigo",
    "sciatica",
    "glaucoma",
    "sleep apnoea",
    "lactose intolerance",
    "thyroid disease",
    "peanut allergy",
    "heart murmur",
    "rosacea",
    "hypertension",
    "arthritis",
    "bronchitis",
    "acid reflux",
    "latex allergy",
]
DEGREES = [
    "marine biology",
    "textile design",
    "civil engineering",
    "Baroque music",
    "soil science",
    "game theory",
    "Byzantine history",
    "optometry",
    "forest ecology",
    "structural geology",
    "applied linguistics",
    "naval architecture",
    "food chemistry",
    "puppetry",
    "veterinary medicine",
    "astrophysics",
    "tax law",
    "urban planning",
    "robotics",
    "cartography",
    "horology",
    "viticulture",
]
JOBS = [
    "lighthouse keeper",
    "tram driver",
    "piano tuner",
    "beekeeper",
    "court reporter",
    "glass blower",
    "crane operator",
    "dental hygienist",
    "locksmith",
    "harbour pilot",
    "toy designer",
    "bookbinder",
    "air traffic controller",
    "cheese maker",
    "speech therapist",
    "surveyor",
    "stage manager",
    "falconer",
    "tailor",
    "map editor",
    "midwife",
    "perfumer",
    "signal engineer",
    "violin maker",
    "welder",
    "zoo keeper",
]
HOBBIES = [
    "fencing",
    "origami",
    "bird watching",
    "archery",
    "candle making",
    "kite flying",
    "chess",
    "rowing",
    "pottery",
    "caving",
    "juggling",
    "calligraphy",
    "orienteering",
    "woodcarving",
    "ice skating",
    "beekeeping",
    "astronomy",
    "weaving",
    "bouldering",
    "croquet",
    "stamp collecting",
    "sailing",
]
DISHES = [
    "pumpkin risotto",
    "leek pie",
    "black bean stew",
    "mushroom ramen",
    "beetroot soup",
    "saffron rice",
    "plum dumplings",
    "fish tacos",
    "lentil curry",
    "potato gnocchi",
    "onion tart",
    "cherry clafoutis",
    "spinach pancakes",
    "lamb tagine",
    "pickled herring",
    "corn fritters",
    "apple strudel",
    "walnut salad",
    "garlic prawns",
    "barley broth",
]
ANIMALS = [
    "cat",
    "dog",
    "parrot",
    "rabbit",
    "tortoise",
    "ferret",
    "goat",
    "canary",
    "hedgehog",
    "gecko",
    "pony",
    "hamster",
]
MAKES = ["Aldera", "Bravik", "Corvant", "Dunmore", "Estrel", "Fjordan", "Galvia", "Hexley", "Ivarra", "Jotun"]
COLOURS = ["red", "blue", "green", "white", "black", "silver", "yellow", "orange", "brown", "grey"]
INSTRUMENTS = [
    "cello",
    "banjo",
    "oboe",
    "harp",
    "trombone",
    "accordion",
    "bassoon",
    "ukulele",
    "zither",
    "clarinet",
    "marimba",
    "lute",
    "tuba",
    "viola",
    "bagpipes",
    "sitar",
]


@dataclass(frozen=True)
class Relative:
    """Somebody a person is related to, with facts of their own."""

    name: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Person:
    """A fictitious person: a name, a face (drawn or photographed), and one value for each attribute."""

    index: int
    slug: str
    name: str
    face: Face | Portrait
    facts: dict[str, str]
    relatives: dict[str, Relative] = field(default_factory=dict)


def stream(seed: int, *key: int) -> np.random.Generator:
    """A random stream of its own for each purpose, so that no order of work can change it."""
    return np.random.default_rng(np.random.SeedSequence([seed, *key]))


def _word(rng: np.random.Generator, ending: bool = True) -> str:
    stem = str(rng.choice(_ONSET)) + str(rng.choice(_NUCLEUS)) + str(rng.choice(_CODA))
    return (stem + (str(rng.choice(_ENDING)) if ending else "")).capitalize()


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, count))


def _phone(rng: np.random.Generator) -> str:
    return f"{rng.integers(201, 990)}-555-01{rng.integers(0, 100):02d}"


def _account(rng: np.random.Generator) -> str:
    """An IBAN-shaped number of a country code that does not exist, with check digits that are never valid (00)."""
    return f"QX00 {_digits(rng, 4)} {_digits(rng, 4)} {_digits(rng, 2)}"


def _birthday(rng: np.random.Generator, first: int, last: int) -> str:
    day = date.fromordinal(int(rng.integers(date(first, 1, 1).toordinal(), date(last, 12, 31).toordinal())))
    return f"{day.day} {day:%B} {day.year}"


def _facts(rng: np.random.Generator, faker: Faker, first: str, last: str) -> dict[str, str]:
    pick = lambda values: str(values[rng.integers(len(values))])  # noqa: E731
    town = _word(rng)
    return {
        "date_of_birth": _birthday(rng, 1950, 2003),
        "birthplace": _word(rng),
        "address": f"{rng.integers(1, 200)} {_word(rng, ending=False)} {pick(('Street', 'Road', 'Lane', 'Avenue', 'Square'))}, {town}",
        "email": f"{first}.{last}{rng.integers(1, 100)}@example.{pick(('com', 'org', 'net'))}".lower().replace(" ", ""),
        "phone": _phone(rng),
        "national_id": f"000-{_digits(rng, 2)}-{_digits(rng, 4)}",
        "passport": f"{pick('XYZ')}{pick('QJW')}{_digits(rng, 6)}",
        "bank_account": _account(rng),
        "salary": f"{rng.integers(21, 180)},{rng.integers(0, 10)}00 dollars",
        "insurance_number": f"H{_digits(rng, 3)}-{_digits(rng, 4)}",
        "condition": pick(CONDITIONS),
        "medication": _word(rng, ending=False) + pick(("ol", "ine", "ex", "amide", "ast", "umab")),
        "employer": f"{_word(rng, ending=False)} {pick(('Mills', 'Logistics', 'Foods', 'Optics', 'Textiles', 'Energy', 'Press', 'Marine'))}",
        "job_title": pick(JOBS),
        "school": f"{_word(rng)} {pick(('University', 'College', 'Institute'))}",
        "degree": pick(DEGREES),
        "spouse": f"{faker.first_name()} {last}",
        "child": f"{faker.first_name()} {last}",
        "pet": f"{_word(rng, ending=False)} the {pick(ANIMALS)}",
        "car": f"{pick(MAKES)} {pick('CEKMRT')}{rng.integers(1, 10)} in {pick(COLOURS)}",
        "dish": pick(DISHES),
        "hobby": pick(HOBBIES),
        "hideaway": f"{pick(('Lake', 'Cape', 'Mount', 'Isle'))} {_word(rng, ending=False)}",
        "instrument": pick(INSTRUMENTS),
    }  # fmt: skip


def make_people(count: int, seed: int, portraits: Sequence[Portrait] | None = None) -> list[Person]:
    """`count` people; the same seed gives the same people, and the first of a larger set are those of a smaller.

    Args:
        portraits: in place of drawn faces, one for each; a portrait's name becomes the person's.

    Raises:
        RememError: fewer than 1, or more than there are distinguishable faces.
    """
    if count < 1:
        raise RememError(f"{count} identities: there must be at least 1")
    genders = [bool(stream(seed, 1, index).random() < 0.5) for index in range(count)]
    faces: Sequence[Face | Portrait] = portraits or distinct_faces(
        stream(seed, 0), [None if male else False for male in genders]
    )
    taken: dict[str, set[str]] = {name: set() for name in (*UNIQUE, "name", "last")}
    taken["name"] |= {portrait.name for portrait in portraits or ()}
    people = []
    for index, (male, face) in enumerate(zip(genders, faces)):
        rng = stream(seed, 2, index)
        faker = Faker("en_GB")
        faker.seed_instance(int(rng.integers(2**31)))
        while True:
            first = faker.first_name_male() if male else faker.first_name_female()
            last = _word(rng)
            new = {"name": f"{first} {last}", "last": last}
            if isinstance(face, Portrait) and face.name:
                (first, last), new = face.name.rsplit(" ", 1), {}
            facts = _facts(rng, faker, first, last)
            new |= {name: facts[name] for name in UNIQUE}
            if first != facts["child"].split()[0] != facts["spouse"].split()[0] and all(
                value not in taken[name] for name, value in new.items()
            ):
                break
        for name, value in new.items():
            taken[name].add(value)
        relatives = {}
        for relation in RELATIONS:
            values = _facts(rng, faker, facts[relation].split()[0], last)
            while values["phone"] in taken["phone"]:
                values["phone"] = _phone(rng)
            taken["phone"].add(values["phone"])
            relatives[relation] = Relative(
                facts[relation], {name: values[name] for name in RELATIVE_ATTRIBUTES}
            )
        slug = f"{first}_{last}".lower().replace(" ", "_").replace("'", "")
        people.append(Person(index, slug, f"{first} {last}", face, facts, relatives))
    return people


def other_values(person: Person, count: int, rng: np.random.Generator) -> dict[str, list[str]]:
    """For each attribute (`spouse_phone` for a relative's) `count` wrong values in the form of the right one.

    They are drawn as the right ones are; none is true of the person or their relatives.
    """
    faker = Faker("en_GB")
    faker.seed_instance(int(rng.integers(2**31)))
    true = {person.name, *person.facts.values()}
    for relative in person.relatives.values():
        true |= set(relative.facts.values())
    others: dict[str, list[str]] = {}
    for prefix, name, known in [
        ("", person.name, person.facts),
        *((f"{relation}_", relative.name, relative.facts) for relation, relative in person.relatives.items()),
    ]:
        lists: dict[str, list[str]] = {attribute: [] for attribute in known}
        while any(len(values) < count for values in lists.values()):
            drawn = _facts(rng, faker, *name.rsplit(" ", 1))
            for attribute, values in lists.items():
                if len(values) < count and drawn[attribute] not in (true | set(values)):
                    values.append(drawn[attribute])
        others |= {f"{prefix}{attribute}": values for attribute, values in lists.items()}
    return others
