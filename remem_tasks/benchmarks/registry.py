"""The benchmarks by name, and which of them a data set belongs to.

A benchmark is a folder here, or in one that `$REMEM_BENCHMARKS` names, that holds `benchmark.py` (with `BENCHMARK`), `data.py`, `training.py`,
`view.py` (with `VIEW`), `forge.py` and its YAML `tasks`. A new folder is found without being named anywhere; nothing in it is
imported before it is asked for, so that the command line starts quickly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from remem_tasks import benchmarks
from remem_tasks.errors import RememError

if TYPE_CHECKING:
    from remem_tasks.benchmarks.base import Benchmark

FOLDERS = tuple(Path(folder) for folder in benchmarks.__path__)
DEFAULT = "remem"
"""The benchmark of data that shows no other's marks."""
NAMES = tuple(
    sorted(
        {file.parent.name for folder in FOLDERS for file in folder.glob("*/benchmark.py")},
        key=lambda name: (name != DEFAULT, name),
    )
)


def part_of(name: str, part: str) -> ModuleType:
    """One module of a benchmark: `benchmark`, `data`, `training`, `view` or `forge`.

    Raises:
        RememError: no benchmark has this name.
    """
    if name not in NAMES:
        raise RememError(f"unknown benchmark '{name}'; there are {', '.join(NAMES)}")
    return import_module(f"{__package__}.{name}.{part}")


def data_of(name: str) -> ModuleType:
    """A benchmark's rows: where they live, how they are checked and trained on."""
    return part_of(name, "data")


class _Benchmarks(Mapping[str, "Benchmark"]):
    """Name → the benchmark, imported when it is asked for."""

    def __getitem__(self, name: str) -> Benchmark:
        if name not in NAMES:
            raise KeyError(name)
        found: Benchmark = part_of(name, "benchmark").BENCHMARK
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


BENCHMARKS = _Benchmarks()


def detect(source: str | None, name: str | None = None) -> tuple[str, str]:
    """Which benchmark a data set belongs to, and where it is: the source is resolved once, then looked at.

    Args:
        source: folder or Hub id; None for `$REMEM_DATA`, else the published set of `name`, or of ReMem.
        name: the benchmark, where it is known.

    Returns:
        (name, folder or Hub id), both given to every later reader.

    Raises:
        RememError: no benchmark has this name.
    """
    if name:
        return name, data_of(name).HOME.resolve(source)
    place = data_of(DEFAULT).HOME.resolve(source)
    others = [name for name in NAMES if name != DEFAULT]
    # Those that are known by names of files or by columns first: names of configs such as `forget_5` are common.
    others.sort(
        key=lambda name: data_of(name).HOME.reader is None and not hasattr(data_of(name), "KNOWN_COLUMNS")
    )
    return next((name for name in others if _recognises(name, place)), DEFAULT), place


def only(name: str, source: str | None, refusal: str) -> str:
    """Where data are that have to be of one benchmark.

    Args:
        refusal: what is said of data of another.

    Raises:
        RememError: they are of another.
    """
    found, place = detect(source)
    if found != name:
        raise RememError(f"'{place}' has the shape of {data_of(found).HOME.name}: {refusal}")
    return place


def _recognises(name: str, place: str) -> bool:
    """Whether a data set has one of the configs by which a benchmark is known, and there one of the columns."""
    from remem_tasks.data.source import columns_of, has_config

    data = data_of(name)
    if place in (data.HOME.hub_id, *data.HOME.also):
        return True
    if not os.path.isdir(place):
        return False
    columns = set(getattr(data, "KNOWN_COLUMNS", ()))
    try:
        found = [config for config in data.KNOWN_BY if has_config(place, config, data.HOME)]
        return any(not columns or columns & columns_of(place, config, data.HOME) for config in found)
    except RememError:
        return False  # its own loader says what is wrong with it
