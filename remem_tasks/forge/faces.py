"""Faces: an identity is a fixed set of parts (skin, hair, beard, glasses …); a look adds clothes and expression.

Drawn by python_avatars (SVG) and rendered by resvg. `Face` is also the label set that the tiny
vision tower is pre-trained to name (`remem_tasks.tiny.pretrain`).
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import python_avatars as pa
import resvg_py
from PIL import Image

from remem_tasks.errors import RememError

# Parts that read well at small sizes; fixed-colour, cropped and costume parts of the library are left out.
SKIN = ("PALE", "LIGHT", "BROWN", "DARK_BROWN", "BLACK")
HAIR = [
    "NONE",
    "BOB",
    "BUN",
    "CAESAR",
    "CURLY",
    "CURVY",
    "DREADS",
    "FRIZZLE",
    "FRO",
    "LONG_NOT_TOO_LONG",
    "MIA_WALLACE",
    "SHAGGY_MULLET",
    "SHAGGY",
    "SHORT_CURLY",
    "SHORT_DREADS_2",
    "SHORT_FLAT",
    "SHORT_WAVED",
    "SIDES",
    "STRAIGHT_1",
    "STRAIGHT_STRAND",
    "CORNROWS",
    "CURLY_2",
    "DREADLOCKS",
    "EINSTEIN_HAIR",
    "ELVIS",
    "HALF_SHAVED",
    "LOOSE_HAIR",
    "MOHAWK",
    "MOWGLI",
    "PIXIE",
    "POMPADOUR",
    "QUIFF",
    "TWIST_LONG_HAIR",
    "WILD",
]
HAIR_COLOUR = ("AUBURN", "BLACK", "BLONDE_GOLDEN", "BROWN", "PASTEL_PINK", "PLATINUM", "RED", "SILVER_GRAY")
BEARD = ("NONE", "BEARD_LIGHT", "BEARD_MAGESTIC", "BEARD_MEDIUM", "MOUSTACHE_FANCY", "MOUSTACHE_MAGNUM")
GLASSES = ("NONE", "PRESCRIPTION_1", "PRESCRIPTION_2", "ROUND", "EYEPATCH")
BROWS = ("DEFAULT_NATURAL", "FLAT_NATURAL", "UNIBROW_NATURAL")
NOSE = ("DEFAULT", "SMALL", "WIDE")
PARTS = {
    "skin": SKIN,
    "hair": tuple(HAIR),
    "hair_colour": HAIR_COLOUR,
    "beard": BEARD,
    "glasses": GLASSES,
    "brows": BROWS,
    "nose": NOSE,
}
_COLUMN = {name: place for place, name in enumerate(PARTS)}
# Two people differ in several of these: they can be told apart at a glance.
SALIENT = ("skin", "hair", "hair_colour", "beard", "glasses")
TRIES = 6400  # faces drawn for a person before a smaller distance is accepted

CLOTHING = [
    "BLAZER_SHIRT",
    "BLAZER_SWEATER",
    "COLLAR_SWEATER",
    "HOODIE",
    "OVERALL",
    "SHIRT_CREW_NECK",
    "SHIRT_SCOOP_NECK",
    "SHIRT_V_NECK",
]
CLOTHING_COLOUR = tuple(colour.name for colour in pa.ClothingColor)
EYES = ("DEFAULT", "HAPPY", "SIDE", "SQUINT", "SURPRISED", "WINK", "CLOSED")
MOUTH = ("DEFAULT", "SERIOUS", "SMILE", "TWINKLE", "SAD", "BIG_SMILE", "DISBELIEF")


@dataclass(frozen=True)
class Face:
    """What stays the same in every picture of one person."""

    skin: str
    hair: str
    hair_colour: str
    beard: str
    glasses: str
    brows: str
    nose: str

    def distance(self, other: Face) -> int:
        """In how many salient parts two faces differ (0 to 5). Hair colour does not show on bare heads."""
        differ = {name for name in SALIENT if getattr(self, name) != getattr(other, name)}
        bare = [face.hair == "NONE" and face.beard == "NONE" for face in (self, other)]
        return len(differ - ({"hair_colour"} if any(bare) else set()))

    def labels(self) -> list[int]:
        """The index of each part in `PARTS`, in its order."""
        return [PARTS[name].index(value) for name, value in asdict(self).items()]

    def drawn(self, look: Look, width: int) -> Image.Image:
        """The person from the chest up on a transparent ground, RGBA, `width` pixels wide."""
        return _render(self, look, width)


@dataclass(frozen=True)
class Look:
    """What changes from one picture to the next: clothes and expression."""

    clothing: str
    clothing_colour: str
    eyes: str
    mouth: str


def _random_codes(rng: np.random.Generator, count: int, bearded: bool | None) -> np.ndarray:
    """`count` faces as places in the lists of PARTS: [count, len(PARTS)]."""
    codes = rng.integers(0, [len(values) for values in PARTS.values()], (count, len(PARTS)))
    codes[rng.random(count) < 0.5, _COLUMN["glasses"]] = 0  # half of all people wear no glasses
    if bearded is False:
        codes[:, _COLUMN["beard"]] = 0
    return codes


def _face(codes: np.ndarray) -> Face:
    return Face(*(values[code] for values, code in zip(PARTS.values(), codes)))


def random_face(rng: np.random.Generator, bearded: bool | None = None) -> Face:
    """A face with parts drawn at random; `bearded` False leaves the beard out, None draws that too."""
    return _face(_random_codes(rng, 1, bearded)[0])


def random_look(rng: np.random.Generator) -> Look:
    pick = [str(rng.choice(values)) for values in (CLOTHING, CLOTHING_COLOUR, EYES, MOUTH)]
    return Look(*pick)


def _distances(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`Face.distance` of each of [N, parts] codes to each of [M, parts] others: [N, M]."""
    differ = codes[:, None] != others[None]
    bare = [(faces[:, _COLUMN["hair"]] == 0) & (faces[:, _COLUMN["beard"]] == 0) for faces in (codes, others)]
    differ[..., _COLUMN["hair_colour"]] &= ~(bare[0][:, None] | bare[1])
    return differ[..., [_COLUMN[name] for name in SALIENT]].sum(-1)


def distinct_faces(rng: np.random.Generator, bearded: list[bool | None]) -> list[Face]:
    """One face for each entry of `bearded`, every two of them at a distance of at least 3.

    With very many people that runs out; from there on a distance of 2 is accepted, then 1, never 0.

    Raises:
        RememError: more people than there are distinguishable faces.
    """
    chosen = np.empty((len(bearded), len(PARTS)), dtype=int)
    wanted, block = dict.fromkeys(bearded, 3), 32
    for index, may in enumerate(bearded):
        tries = 0
        while True:
            drawn = _random_codes(rng, block, may)
            far = (_distances(drawn, chosen[:index]) >= wanted[may]).all(axis=1)
            if far.any():
                chosen[index] = drawn[far.argmax()]
                break
            tries += block
            if tries >= TRIES:
                wanted[may], tries = wanted[may] - 1, 0
            if not wanted[may]:
                raise RememError(f"no distinguishable face left for person {index + 1}; use fewer identities")
    return [_face(codes) for codes in chosen]


@lru_cache(maxsize=64)
def _render(face: Face, look: Look, width: int) -> Image.Image:
    avatar = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        skin_color=pa.SkinColor[face.skin],
        top=pa.HairType[face.hair],
        hair_color=pa.HairColor[face.hair_colour],
        facial_hair=pa.FacialHairType[face.beard],
        facial_hair_color=pa.HairColor[face.hair_colour],
        accessory=pa.AccessoryType[face.glasses],
        eyebrows=pa.EyebrowType[face.brows],
        nose=pa.NoseType[face.nose],
        clothing=pa.ClothingType[look.clothing],
        clothing_color=pa.ClothingColor[look.clothing_colour],
        eyes=pa.EyeType[look.eyes],
        mouth=pa.MouthType[look.mouth],
    )
    # (No text is drawn: a machine's fonts, read anew for every picture, would only cost time.)
    png = bytes(resvg_py.svg_to_bytes(svg_string=avatar.render(), width=width, skip_system_fonts=True))
    with Image.open(io.BytesIO(png)) as picture:
        return picture.convert("RGBA")


__all__ = [
    "PARTS",
    "Face",
    "Look",
    "distinct_faces",
    "random_face",
    "random_look",
]
