"""Writing data sets of several configs, each with one split `train`, in the Hub's layout."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import datasets
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from PIL import Image

from remem_tasks.data.card import MADE, card
from remem_tasks.data.source import SPLIT
from remem_tasks.errors import RememError
from remem_tasks.files import write_whole


def png(image: Image.Image, path: str) -> dict:
    """A cell of an Image column."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": path}


@contextmanager
def _no_bar_a_file() -> Iterator[None]:
    """`datasets` shows a bar for each file that it writes, however small."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def write_configs(
    folder: Path,
    tables: Mapping[str, list[dict]],
    features: Mapping[str, datasets.Features],
    text: str,
) -> dict[str, int]:
    """`<config>/train-00000-of-00001.parquet` of each (`data/` for `default`), and a card that names them.

    Args:
        tables: config → rows.
        features: config → its columns, in the published order.
        text: of the card, below its metadata.

    Returns:
        Rows of each config.
    """
    places = {}
    for name, rows in tables.items():
        place = "data" if name == "default" else name
        file = folder / place / f"{SPLIT}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        with _no_bar_a_file():
            datasets.Dataset.from_list(rows, features=features[name]).to_parquet(file)
        places[name] = {SPLIT: f"{place}/{SPLIT}-*"}
    counted = sum(map(len, tables.values()))
    write_whole(folder / "README.md", card(places, text, counted, **MADE))
    return {name: len(rows) for name, rows in tables.items()}


def growing(shares: Iterable[float], identities: int) -> list[int]:
    """How many identities nested forget sets hold: their share of all, each at least one more than the last.

    Raises:
        RememError: the largest holds everybody.
    """
    counts: list[int] = []
    for share in shares:
        counts.append(max(round(share * identities), counts[-1] + 1 if counts else 1))
    if counts[-1] >= identities:
        raise RememError(f"--identities {identities} leaves nobody to retain")
    return counts
