"""What a training or a merge wrote, file by file, in `checksums.json` beside it: what was changed since is told before it is used.

    write(folder, identity)                 # when all of a checkpoint is there
    check(folder, WEIGHTS)                  # before its weights are read

A folder without the file (another's checkpoint, or one of an older version) is taken as it is.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import xxhash

from remem_tasks.errors import RememError
from remem_tasks.files import write_json
from remem_tasks.reading import read_object

FILE = "checksums.json"
FORMAT = 1
WEIGHTS = (
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index*.json"),
    "steering.safetensors",
)
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
PROCESSOR = (
    *("*processor_config.json", "tokenizer*", "chat_template*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.*", "merges.txt"),
)
ALL = ("*",)
ASIDE = (FILE, "run.json", "README.md", "*.tmp", "*.lock", ".*")
"""What is written anew beside a checkpoint, and never read as a part of it."""
_PIECE = 2**22


def checksum_of(file: Path) -> str:
    """32 hex digits of a file's bytes; of a zip archive, torch's states, of the names, sizes and checksums in it.

    (What an archive's checksums stand for is read when it is, see `weights.check_resumable`.)

    Raises:
        RememError: it cannot be read.
    """
    digest = xxhash.xxh3_128()
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    digest.update(
                        f"{entry.filename} {entry.file_size} {entry.CRC}\n".encode("utf-8", "replace")
                    )
            return digest.hexdigest()
        with file.open("rb") as opened:
            while piece := opened.read(_PIECE):
                digest.update(piece)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise RememError(f"'{file}' cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return digest.hexdigest()


def content_of(name: str | Path, pattern: str = "*", aside: Sequence[str] = ASIDE) -> str:
    """32 hex digits of the files below a folder, their names and bytes; of anything else its name.

    So that what was made of a folder is not taken for what is there now.

    Args:
        name: folder, or the id of a repository.
        pattern: as `glob` has it; `*` is what lies in a checkpoint's folder itself, `**/*` all of a data set.
        aside: names of files that do not count.

    Raises:
        RememError: a file cannot be read.
    """
    folder = Path(name)
    if not folder.is_dir():
        return str(name)
    digest = xxhash.xxh3_128()
    for file in sorted(file for file in folder.glob(pattern) if file.is_file()):
        if not any(fnmatch(file.name, one) for one in aside):
            digest.update(
                f"{file.relative_to(folder).as_posix()} {checksum_of(file)}\n".encode("utf-8", "replace")
            )
    return digest.hexdigest()


def _parts(folder: Path, patterns: Sequence[str]) -> list[str]:
    """The names of a folder's files that are part of a checkpoint and match."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file()
        and any(fnmatch(path.name, pattern) for pattern in patterns)
        and not any(fnmatch(path.name, pattern) for pattern in ASIDE)
    )


def write(folder: str | Path, identity: Mapping[str, Any] | None = None) -> None:
    """Write the checksums of a folder's files.

    Args:
        identity: of the run, as in its `run.json`; kept beside them.

    Raises:
        RememError: a file cannot be read, or the checksums cannot be written.
    """
    folder = Path(folder)
    files = {name: checksum_of(folder / name) for name in _parts(folder, ALL)}
    write_json(folder / FILE, {"format": FORMAT, "identity": identity, "files": files})


def identity_of(folder: str | Path) -> dict[str, Any]:
    """The run that wrote a folder's checksums, as its record names it; empty where there are none or they name none."""
    place = Path(folder) / FILE
    found = read_object(place).get("identity") if place.is_file() else None
    return found if isinstance(found, dict) else {}


def check(folder: str | Path, patterns: Sequence[str] = ALL, lossy: bool = False) -> dict[str, Any] | None:
    """Hold a folder's files against its checksums.

    Args:
        patterns: names of the files that are about to be read.
        lossy: whether files may be missing.

    Returns:
        The identity of the run that wrote them; None where the folder has no checksums, or they name none.

    Raises:
        RememError: a file is another than was written, is missing, or was put there later; the checksums cannot be
            read.
    """
    folder = Path(folder)
    place = folder / FILE
    if not place.exists():
        return None
    mend = f"restore it, or remove '{place}' to take the folder as it is"
    found = read_object(place, mend)
    files, identity = found.get("files"), found.get("identity")
    if found.get("format") != FORMAT or not isinstance(files, dict) or not isinstance(identity, dict | None):
        raise RememError(f"'{place}' holds no checksums of this version; {mend}")
    present = _parts(folder, patterns)
    if later := [name for name in present if name not in files]:
        raise RememError(f"'{folder / later[0]}' was put there later; {mend}")
    for name in sorted(files):
        if not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        if name not in present:
            if lossy:
                continue
            raise RememError(f"'{folder}' has lost {name}; {mend}")
        if checksum_of(folder / name) != files[name]:
            raise RememError(f"'{folder / name}' is damaged, or another file than was written; {mend}")
    return identity
