"""Data sets of JSON files with their pictures beside them: in folders or zip archives, on this machine or on the Hub."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import datasets
from huggingface_hub import snapshot_download

from remem_tasks.binding import parse_json, read_text
from remem_tasks.data import hub
from remem_tasks.data.cells import HALF
from remem_tasks.data.tables import PICTURE
from remem_tasks.errors import RememError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
DEPTHS = ("", "*/", "*/*/")
PATTERNS = ["*.json", "*.jsonl", "*.zip", *(f"*{suffix}" for suffix in PICTURE_SUFFIXES)]
COLUMNS = {"image": PICTURE, "record": datasets.Value("string"), "picture_path": datasets.Value("string")}
"""Of every config: the picture (null where there is none), the record as JSON, the path it names ("" for none)."""

_fetched: dict[str, str] = {}  # Hub id → its folder in the cache, once a process


@dataclass(frozen=True)
class JsonReader:
    """A `home.Reader` of JSON files.

    Attributes:
        names: config → the names that its file may have, in the folder or one or two below it; the first is the published one.
        picture_keys: keys of a record, the first that it has names its picture.
        hub_variable: what messages advise to set where the Hub cannot be reached.
    """

    names: Mapping[str, tuple[str, ...]]
    picture_keys: tuple[str, ...]
    hub_variable: str

    def files(self, source: str, config: str) -> list[str]:
        """The one file of a config, none if there is none.

        Raises:
            RememError: several files have its name; the data set is not to be had.
        """
        folder = self.folder(source)
        for name in self.names[config]:
            for depth in DEPTHS:  # (not all of a tree that may hold a million pictures)
                if len(found := sorted(Path(folder).glob(depth + name))) > 1:
                    raise RememError(
                        f"{source}: '{name}' is there {len(found)} times: {', '.join(map(str, found[:3]))}"
                    )
                if found:
                    return [str(found[0])]
        return []

    def folder(self, source: str) -> str:
        """Where the files lie; those of the Hub are fetched, through its cache.

        Raises:
            RememError: no folder here, and not to be had from the Hub.
        """
        if os.path.isdir(source):
            return source
        if not source:
            raise RememError(
                f"these data are on no Hub: set {self.hub_variable}=<folder> (one made by `remem forge`, or the published files)"
            )
        if os.path.exists(source):
            raise RememError(f"'{source}' is a file, not a data set")
        if source in _fetched:
            return _fetched[source]
        try:
            _fetched[source] = snapshot_download(source, repo_type="dataset", allow_patterns=PATTERNS)
            return _fetched[source]
        except Exception as error:
            raise RememError(
                f"data '{source}' is not a folder here and could not be fetched from the Hub ({hub.reason(error)}). "
                f"Set {self.hub_variable}=<folder> (one made by `remem forge`, or a saved copy)"
            ) from error

    def table(self, source: str, config: str, files: Sequence[str]) -> datasets.Dataset:
        """The records of a config, in `COLUMNS`.

        Raises:
            RememError: the file is not a list of records, or names a record that is none.
        """
        folder = self.folder(source)
        pictures = Pictures(folder)
        cells: dict[str, list] = {name: [] for name in COLUMNS}
        found: list[str | None] = []
        for record in read_records(files[0]):
            path = next((record[key] for key in self.picture_keys if record.get(key)), "")
            path = path[0] if isinstance(path, list) and len(path) == 1 else path
            path = path if isinstance(path, str) and not HALF.search(path) else ""
            found.append(pictures.find(path) if path else None)
            cells["record"].append(json.dumps(record))  # (in ASCII, so that any text can be kept)
            cells["picture_path"].append(path)
        others = set(strays(cells["picture_path"], found, folder))
        for place, file in enumerate(found):
            cells["image"].append({"bytes": None, "path": file} if file and place not in others else None)
        return datasets.Dataset.from_dict(cells, features=datasets.Features(COLUMNS))


def read_records(file: str) -> list[dict]:
    """The records of a file: a JSON list of them, an object that holds one, an object of them by id, or one a line.

    Raises:
        RememError: names the file, and the row that is not a record.
    """
    text = read_text(file).removeprefix("\ufeff")
    where = f"'{file}'"
    if file.endswith(".jsonl"):
        rows = [
            parse_json(line, f"{where}, line {number}")
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    else:
        try:
            rows = parse_json(text, where)
        except RememError:
            lines = [line for line in text.split("\n") if line.strip()]
            if len(lines) < 2 or not all(line.lstrip().startswith("{") for line in lines):
                raise
            rows = [parse_json(line, f"{where}, line {number}") for number, line in enumerate(lines, 1)]
    if isinstance(rows, dict):
        only = list(rows.values())
        rows = only[0] if len(only) == 1 and isinstance(only[0], list) else only
    if not isinstance(rows, list):
        raise RememError(f"{where}: a list of records belongs there")
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RememError(f"{where}, row {place}: {str(row)[:60]!r} is not a record")
    return rows


class Pictures:
    """The pictures below a folder, those in its zip archives included, by the paths that records name."""

    def __init__(self, folder: str) -> None:
        self._by_name: dict[str, list[tuple[PurePosixPath, str, str]]] = defaultdict(list)
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                path = Path(parent, name)
                inside = PurePosixPath(path.relative_to(folder).as_posix())
                if name.lower().endswith(PICTURE_SUFFIXES):
                    self._by_name[name].append((inside, str(path), ""))
                elif name.lower().endswith(".zip"):
                    self._add_archive(path)

    def _add_archive(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [one.filename for one in archive.infolist() if not one.is_dir()]
        except (OSError, zipfile.BadZipFile) as error:
            raise RememError(f"archive '{path}' cannot be read ({error})") from error
        for member in members:
            inside = PurePosixPath(path.stem) / PurePosixPath(member)
            if inside.name.lower().endswith(PICTURE_SUFFIXES) and "__MACOSX" not in inside.parts:
                self._by_name[inside.name].append((inside, str(path), member))

    def find(self, path: str) -> str | None:
        """The file of a picture: the one whose path ends with most of what is named; None if there is none, or several.

        Only what lies in the data set is found, whatever the path says. What lies in an archive is unpacked into the
        cache of `datasets`.
        """
        wanted = _parts(path)
        if not wanted:
            return None
        best: list[tuple[PurePosixPath, str, str]] = []
        most = 0
        for one in self._by_name.get(wanted[-1], ()):
            length = _common_end(wanted, one[0].parts)
            if length > most:
                best, most = [], length
            if length == most:
                best.append(one)
        if not best:
            return None
        exact = [one for one in best if len(one[0].parts) == most]
        loose = [one for one in exact or best if not one[2]]  # unpacked files go before their archive
        chosen = loose or exact or best
        if len(chosen) > 1:
            return None
        _, file, member = chosen[0]
        return _unpacked(file, member) if member else file


def strays(named: Sequence[str], files: Sequence[str | None], folder: str) -> Iterator[int]:
    """Rows that found the picture of another, as their own is missing: what lies in another folder under the same name.

    A data set may hold what is named from any part of the path on, but all of it from the same part on. A row that has
    less of its path in the file's than most have, and another folder there, is none of them. (Of files that were
    unpacked from an archive nothing can be told.)
    """
    lacking: dict[int, int] = {}
    contrary: list[int] = []
    for place, (path, file) in enumerate(zip(named, files)):
        if not file or os.path.relpath(file, folder).startswith(".."):
            continue
        wanted, inside = _parts(path), _parts(os.path.relpath(file, folder))
        same = _common_end(wanted, inside)
        lacking[place] = len(wanted) - same
        if same < min(len(wanted), len(inside)):
            contrary.append(place)
    usual = Counter(lacking.values()).most_common(1)
    yield from (place for place in contrary if lacking[place] > usual[0][0])


def _parts(path: str) -> list[str]:
    return [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", ".", "..")]


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    for one, other in zip(reversed(first), reversed(second)):
        if one != other:
            break
        length += 1
    return length


def _unpacked(archive: str, member: str) -> str:
    """A member of an archive as a file of the cache of `datasets`."""
    from remem_tasks.seeds import stable_choice

    status = os.stat(archive)
    key = (
        f"{stable_choice(2**63, os.path.realpath(archive), status.st_mtime_ns, status.st_size, member):016x}"
    )
    target = Path(datasets.config.HF_DATASETS_CACHE, "archives", key[:2], key + Path(member).suffix)
    if target.exists():
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        zipfile.ZipFile(archive) as opened,
        tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as written,
    ):
        try:
            with opened.open(member) as packed:
                shutil.copyfileobj(packed, written)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            os.unlink(written.name)
            raise RememError(f"archive '{archive}': '{member}' cannot be unpacked ({error})") from error
    os.replace(written.name, target)
    return str(target)
