"""A data set on the Hub: the files of its splits, fetching some of them, reading parts of one.

Files are fetched through the cache of `huggingface_hub`, which keeps the listing of each commit beside
them. So a split that was fetched once is found again without a network, and one of whose files some are
missing is an error, never a shorter split.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import datasets
from huggingface_hub import (
    HfFileSystem,
    get_cached_repo_tree,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import tqdm

from remem_tasks.errors import RememError

CARDS = ("README.md", ".huggingface.yaml")  # where `datasets` looks for the splits of a repository
ADDRESS = re.compile(r"hf://datasets/(?P<repo>[^@]+)@(?P<commit>[0-9a-f]{40})/(?P<path>.+)")
SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.)")
LOG_IN = "HF_TOKEN or `hf auth login`"


class _NoBar(tqdm):
    def __init__(self, *args, **settings):
        super().__init__(*args, **{**settings, "disable": True})


def reason(error: BaseException) -> str:
    """Why the Hub did not do what was asked, in one line. (Its own messages have several.)"""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if among(GatedRepoError):
        return f"it is gated: ask for access on its page, then give a token ({LOG_IN})"
    status = next((link.response.status_code for link in chain if isinstance(link, HfHubHTTPError)), None)
    if among(RepositoryNotFoundError) or status == 401:
        return f"there is no such data set, or it is private and needs a token ({LOG_IN})"
    network = None
    if among(OfflineModeIsEnabled):
        network = "HF_HUB_OFFLINE is set"
    elif among(ConnectionError, TimeoutError) or any(map(_is_transport_error, chain)):
        network = "the Hub cannot be reached"
    if among(LocalEntryNotFoundError):
        return f"it is not in the cache, and {network}" if network else str(error)
    said = " ".join(str(error).split("(Request ID")[0].split()) or type(error).__name__
    return f"{network} ({said})" if network else said


def _is_transport_error(error: BaseException) -> bool:
    # By name, as releases of `huggingface_hub` differ in the HTTP library that they are built on.
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def split_files(folder: str, config: str | None = None, cache_dir: str | None = None) -> dict[str, list[str]]:
    """The files of each split of a folder, as `datasets` finds them; none where it lacks the config.

    A folder that was copied without its card is told by the names of its files, see `files_by_name`.

    Raises:
        RememError: such a folder lacks a file of a split.
    """
    if not (carded := _names_configs(folder)) and (found := files_by_name(folder, config or "default")):
        return found
    if config and not (carded and config in datasets.get_dataset_config_names(folder)):
        return files_by_name(folder, config)
    files = datasets.load_dataset_builder(folder, config, cache_dir=cache_dir).config.data_files
    return {str(split): [str(file) for file in paths] for split, paths in (files or {}).items()}


def _names_configs(folder: str) -> bool:
    """Whether a folder has a card that says of what files its configs are (many cards are words alone)."""
    for card in CARDS:
        if Path(folder, card).is_file():
            text = Path(folder, card).read_text(encoding="utf-8", errors="replace").removeprefix("\ufeff")
            head = (
                text.split("\n---", 1)[0] if text.startswith("---") else text if card.startswith(".") else ""
            )
            if re.search(r"^(configs|dataset_info)\s*:", head, re.MULTILINE):
                return True
    return False


def files_by_name(folder: str, config: str) -> dict[str, list[str]]:
    """The files of each split of a config in the Hub's layout: `<config>/<split>-00000-of-00002.parquet`, …

    (`data/` for the config `default`; a split of one file may be called `<split>.parquet`, and a config of one file
    `<config>.parquet`. What the Hub converts is `<config>/<split>/0000.parquet`, …)

    Raises:
        RememError: a file is missing whose number the others name.
    """
    found: dict[str, list[str]] = {}
    place = Path(folder, "data" if config == "default" else config)
    converted = sorted(Path(folder, config).glob("*/*.parquet"))
    if config != "default" and (alone := place.with_name(f"{config}.parquet")).is_file():
        return {"train": [str(alone)]}
    for file in sorted(place.glob("*.parquet")) or [file for file in converted if file.stem.isdecimal()]:
        shard = SHARD.search(file.name)
        split = file.name[: shard.start()] if shard else file.stem
        split = file.parent.name if file in converted else "train" if split.isdecimal() else split
        found.setdefault(split, []).append(str(file))
    for split, files in found.items():
        named = [shard for file in files if (shard := SHARD.search(file))]
        if named and len(files) != int(named[0][2]):
            raise RememError(
                f"'{place}' holds {len(files)} of the {int(named[0][2])} files of split '{split}'"
            )
    return found


def data_files(repo_id: str, config: str | None = None) -> dict[str, list[str]]:
    """The addresses of the files of each split, `hf://datasets/<repo_id>@<commit>/<path>`.

    Fetches the listing of the newest commit and its card; without a network, the cached ones. What makes
    up a split is left to `datasets`, which is shown empty files of the same names.

    Raises:
        RememError: the repository holds no data set.
        Exception: it cannot be read, see `reason`.
    """
    cached = Path(
        snapshot_download(repo_id, repo_type="dataset", allow_patterns=list(CARDS), tqdm_class=_NoBar)
    )
    commit = cached.name
    try:
        paths = [file.path for file in get_cached_repo_tree(repo_id, repo_type="dataset", revision=commit)]
    except CachedRepoTreeNotFoundError:  # a cache that `datasets` filled; there is no network
        paths = _with_all_shards(
            [file.relative_to(cached).as_posix() for file in cached.rglob("*") if file.is_file()]
        )
    with tempfile.TemporaryDirectory() as place:
        shape = Path(place).resolve() / "shape"
        for path in paths:
            if (target := (shape / path).resolve()).is_relative_to(shape):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
        for card in CARDS:
            if card in paths:
                shutil.copyfile(cached / card, shape / card)
        try:
            # The cache folder is the temporary one too, as the builder leaves a lock file there.
            files = split_files(str(shape), config, cache_dir=place)
        except Exception as error:
            detail = " ".join(str(error).replace(str(shape), repo_id).split())
            raise RememError(f"'{repo_id}' on the Hub holds no data set: {detail}") from error
        return {
            split: [
                f"hf://datasets/{repo_id}@{commit}/{Path(file).relative_to(shape).as_posix()}"
                for file in of_split
            ]
            for split, of_split in files.items()
        }


def _with_all_shards(paths: Sequence[str]) -> list[str]:
    """The paths, and those that `-00001-of-00003` in one of them says there must be."""
    found = set(paths)
    for path in paths:
        if shard := SHARD.search(path):
            head, tail = path[: shard.start()], path[shard.end() :]
            found |= {f"{head}-{number:05d}-of-{shard[2]}{tail}" for number in range(int(shard[2]))}
    return sorted(found)


def _cached(address: str) -> str | None:
    part = ADDRESS.fullmatch(address)
    path = try_to_load_from_cache(part["repo"], part["path"], repo_type="dataset", revision=part["commit"])
    return path if isinstance(path, str) else None


def fetch(addresses: Sequence[str]) -> list[str]:
    """Local paths of the files, all of one commit; those not in the cache are fetched.

    Raises:
        OSError: one is not there, and cannot be fetched (see `reason`).
    """
    parts = [ADDRESS.fullmatch(address) for address in addresses if not _cached(address)]
    if parts:
        snapshot_download(
            parts[0]["repo"],
            repo_type="dataset",
            revision=parts[0]["commit"],
            allow_patterns=[glob.escape(part["path"]) for part in parts],
        )
    if missing := [address for address in addresses if not _cached(address)]:
        raise LocalEntryNotFoundError(f"'{ADDRESS.fullmatch(missing[0])['path']}' is not in the cache")
    return [_cached(address) for address in addresses]


def open_file(address: str) -> BinaryIO:
    """A file opened for reading: the local one, or one on the Hub of which only what is read is fetched."""
    if not ADDRESS.fullmatch(address):
        return open(address, "rb")
    if path := _cached(address):
        return open(path, "rb")
    return HfFileSystem().open(address, "rb", cache_type="none")
