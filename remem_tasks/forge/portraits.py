"""Photographs of one's own in place of drawn faces: a folder per identity."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps

from remem_tasks.errors import RememError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TEST_SHARE = 0.25  # of an identity's photographs; these are shown in test only


@dataclass(frozen=True)
class Portrait:
    """An identity that is shown by photographs.

    Attributes:
        name: a name of two words or more, if the folder's is one; else empty.
        train, test: the files shown in training and those shown in test only.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    def looks(self, test: bool) -> list[str]:
        return list(self.test if test else self.train)

    def drawn(self, look: str, width: int) -> Image.Image:
        """One photograph, RGBA, at most `width` pixels wide and high.

        A cut-out (a picture with transparent parts) is put into the scene as it is, any other as a print with a white margin.

        Raises:
            RememError: a file that cannot be read.
        """
        return _drawn(look, width)


@lru_cache(maxsize=64)
def _drawn(path: str, width: int) -> Image.Image:
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except Exception as error:
        raise RememError(f"photograph '{path}' cannot be read ({type(error).__name__}: {error})") from error
    cut_out = picture.getchannel("A").getextrema()[0] < 255
    margin = 0 if cut_out else max(1, width // 40)
    picture = ImageOps.contain(picture, (width - 2 * margin, width - 2 * margin), Image.Resampling.BILINEAR)
    return ImageOps.expand(picture, margin, "white") if margin else picture


def _name(folder: str) -> str:
    words = [word for word in re.split(r"[\s_\-]+", folder) if word]
    if len(words) < 2 or not all(re.fullmatch(r"[^\W\d]+", word) for word in words):
        return ""
    return " ".join(word if any(map(str.isupper, word)) else word.capitalize() for word in words)


def find_portraits(folder: str | Path, identities: int) -> tuple[list[Portrait], str]:
    """The first `identities` folders of photographs (by name), and a hash of all their bytes.

    Raises:
        RememError: no such folder, too few folders, or fewer than two photographs in one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RememError(f"--portraits '{folder}': no such folder")
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < identities:
        raise RememError(
            f"--portraits '{folder}' holds {len(folders)} folders of photographs, --identities asks for {identities}"
        )
    portraits, digest = [], hashlib.sha256()
    for place in folders[:identities]:
        files = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if len(files) < 2:
            raise RememError(
                f"--portraits: '{place}' holds {len(files)} photographs ({', '.join(SUFFIXES)}); "
                "at least two are needed, one for training and one for test"
            )
        held = max(1, round(TEST_SHARE * len(files)))
        names = [str(path.resolve()) for path in files]
        portraits.append(Portrait(_name(place.name), tuple(names[:-held]), tuple(names[-held:])))
        for path in files:
            _drawn(str(path.resolve()), 16)  # what cannot be read is refused before anything is built
            digest.update(f"{place.name}/{path.name}\0".encode())
            digest.update(path.read_bytes())
    names = [portrait.name for portrait in portraits if portrait.name]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RememError(f"--portraits: two folders are named '{sorted(twice)[0]}'")
    return portraits, digest.hexdigest()[:16]
