"""Where a data set lives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import datasets


class Reader(Protocol):
    """Reads configs that are no parquet files of their own."""

    def files(self, source: str, config: str) -> list[str]:
        """The files of a config in a folder or on the Hub; none if there is no such config."""

    def table(self, source: str, config: str, files: list[str]) -> datasets.Dataset:
        """All rows of a config."""


@dataclass(frozen=True)
class DatasetSource:
    """Where a data set lives.

    Attributes:
        name: as messages call it.
        hub_id: where it is published.
        variable: environment variable that names another folder or Hub id.
        configs: every config it may have.
        features: the columns of each as they are read, those included that it may lack.
        also: other Hub ids of the same data.
        reader: of data that is not in the parquet files of configs; None for those.
    """

    name: str
    hub_id: str
    variable: str
    configs: tuple[str, ...]
    features: Mapping[str, datasets.Features]
    also: tuple[str, ...] = ()
    reader: Reader | None = None

    def resolve(self, source: str | None = None) -> str:
        """Where rows come from: the argument, else the variable, else the published set."""
        source = str(source or os.environ.get(self.variable) or self.hub_id)
        return os.path.abspath(source) if os.path.isdir(source) else source
