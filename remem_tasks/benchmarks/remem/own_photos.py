"""The photographs of `remem data make`: which are whose, and how they are stored."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image

from remem_tasks.data.people import identity_key, nearest
from remem_tasks.data.pictures import to_rgb
from remem_tasks.errors import RememError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
UNREAD = (
    ".heic",
    ".heif",
    ".hif",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".dng",
    ".raf",
)  # of telephones and cameras
AS_JPEG = "save it as JPEG or PNG"
MAX_SIDE = 1024  # pixels; larger photographs are made smaller


@dataclass(frozen=True)
class Photo:
    """A photograph; two with the same bytes are one.

    Attributes:
        digest: of its bytes.
        name: how messages call it: its path below the folder of photographs.
        source: its file, or its bytes where the table holds them.
    """

    digest: str
    name: str = field(compare=False)
    source: Path | bytes = field(compare=False, repr=False)


def photo(source: Path | bytes, name: str) -> Photo:
    """A photograph by its file or its bytes.

    Raises:
        RememError: the file cannot be read.
    """
    try:
        raw = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise RememError(f"picture '{name}' cannot be read ({error.strerror})") from error
    return Photo(hashlib.sha256(raw).hexdigest(), name, source)


def picture_cell(cell: object) -> object:
    """A cell of pictures as its bytes or its path: a record of both (bytes first), or a list of one, is that."""
    if isinstance(cell, list | tuple) and len(cell) == 1:
        cell = cell[0]
    if isinstance(cell, dict) and cell.keys() <= {"bytes", "path"}:
        return cell.get("bytes") or cell.get("path")
    return cell


def _pictures_of(place: Path) -> list[Path]:
    """The picture files of a folder, without those that file systems hide (`._1.png`)."""
    return sorted(file for file in place.iterdir() if _is_picture(file) and file.is_file())


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _evened(path: str) -> str:
    """A path as other systems find it: whatever its Unicode form, case and separators."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).casefold()


class Photographs:
    """A folder of photographs.

    Args:
        folder: it.
        table: the file whose rows name pictures, by paths below the folder or beside the table.

    Raises:
        RememError: no such folder.
    """

    def __init__(self, folder: str | Path, table: str | Path) -> None:
        if not Path(folder).is_dir():
            raise RememError(f"'{folder}' is not a folder of pictures")
        self.folder, self.beside = Path(folder), Path(table).parent
        self.root = self.folder.resolve()

    @cached_property
    def _all(self) -> list[str]:
        return sorted(
            path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if _is_picture(path)
        )

    def _photo(self, file: Path) -> Photo:
        return photo(file, file.relative_to(self.root).as_posix())

    def named(self, row: dict) -> Photo:
        """The photograph that a row names, or holds.

        Paths of another system are found (`ada\\1.png`, another Unicode form, other capitals), if they mean one file.

        Raises:
            RememError: it is not there, several are, or it is not inside the folder.
        """
        name = row["picture"]
        if isinstance(name, bytes):
            return photo(name, f"of {row['where']}")
        tried = [self.folder / name, self.folder / name.replace("\\", "/"), self.beside / name]
        inside = [file.resolve() for file in tried if file.resolve().is_relative_to(self.root)]
        if not inside:
            raise RememError(f"{row['where']}: picture '{name}' is not inside '{self.folder}'")
        there = [file for file in inside if file.is_file()]
        if not there:
            wanted = {_evened(file.relative_to(self.root).as_posix()) for file in inside}
            there = [self.root / path for path in self._all if _evened(path) in wanted]
            if len(there) != 1:
                near = ", ".join(nearest(name, self._all)) or "it holds none"
                raise RememError(
                    f"{row['where']}: there is no picture '{name}' in '{self.folder}' (nearest: {near})"
                )
        return self._photo(there[0])

    def of_people(self, rows: list[dict]) -> dict[str, list[Photo]]:
        """Each person's photographs: those of their rows, which get them as `photo`, then those of folders that are theirs.

        A folder is a person's if it has their name, or if rows name pictures in it and all of those are this person's.
        """
        found: dict[str, dict[Photo, None]] = defaultdict(dict)
        keys = {row["key"] for row in rows}
        places = [path for path in sorted(self.root.iterdir()) if path.is_dir()]
        theirs = {path: {key} for path in places if (key := identity_key(path.name)) in keys}
        owners: dict[Path, set[str]] = defaultdict(set)
        named: dict[Photo, set[str]] = defaultdict(set)
        for row in rows:
            if row["picture"]:
                row["photo"] = one = self.named(row)
                named[one].add(row["key"])
                found[row["key"]][one] = None
                if isinstance(one.source, Path) and one.source.parent != self.root:
                    owners[one.source.parent].add(row["key"])
        for place, people in sorted((owners | theirs).items()):
            if len(people) == 1:
                (key,) = people
                photos = map(self._photo, _pictures_of(place))
                found[key].update((one, None) for one in photos if named.get(one, {key}) == {key})
        return {key: list(photos) for key, photos in found.items()}

    def unused(self, photos: dict[str, list[Photo]]) -> list[str]:
        """The pictures below the folder that are nobody's."""
        used = {one.digest for of_person in photos.values() for one in of_person}
        return [path for path in self._all if self._photo(self.root / path).digest not in used]

    def none_of(self, person: str) -> str:
        """Why nobody found a picture of a person, and what to do."""
        places = [path for path in self.root.iterdir() if path.is_dir()]
        own = next((path for path in places if identity_key(path.name) == identity_key(person)), None)
        unread = list(_unread(own)) if own else []
        if unread:
            return (
                f"no picture of '{person}' that can be read: '{own.name}/{unread[0]}' is a {Path(unread[0]).suffix}"
                f" file; {AS_JPEG}"
            )
        if own:
            return f"no picture of '{person}': their folder '{own.name}' holds none"
        there = ", ".join(nearest(person, [path.name for path in places])) or "none"
        return (
            f"no picture of '{person}': name one in a column 'picture', or put theirs into a folder of '{self.folder}' "
            f"that has their name (folders there: {there})"
        )


def _unread(place: Path) -> Iterator[str]:
    return (file.name for file in sorted(place.iterdir()) if file.suffix.lower() in UNREAD)


def cell(one: Photo, path: str) -> dict:
    """A picture upright, in RGB, at most MAX_SIDE large, and without the camera's notes (place, time, owner).

    Args:
        path: of the data set, without a suffix.

    Raises:
        RememError: it cannot be read.
    """
    raw = one.source if isinstance(one.source, bytes) else one.source.read_bytes()
    try:
        with Image.open(io.BytesIO(raw)) as opened:
            photograph = opened.format in ("JPEG", "MPO")
            picture = to_rgb(opened)
    except Exception as error:
        reason = str(error).splitlines()[0].split(" <")[0] if str(error) else type(error).__name__
        if raw[4:8] == b"ftyp":
            reason = f"it is a HEIC picture or a film, which is not read: {AS_JPEG}"
        elif Path(one.name).suffix.lower() in UNREAD:
            reason = f"{Path(one.name).suffix} files are not read: {AS_JPEG}"
        elif not raw:
            reason = "the file is empty"
        raise RememError(f"picture '{one.name}' cannot be read ({reason})") from error
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    clean = Image.new("RGB", picture.size)
    clean.paste(picture)
    buffer = io.BytesIO()
    clean.save(buffer, **({"format": "JPEG", "quality": 95} if photograph else {"format": "PNG"}))
    return {"bytes": buffer.getvalue(), "path": f"{path}.{'jpg' if photograph else 'png'}"}
